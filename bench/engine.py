"""Loam's engine beside transformers, llama.cpp, ctranslate2 and vLLM, on random-weight Llamas of three sizes.

    make bench-engine                                  # installs peers, makes models, measures, writes ENGINE.md
    python -m bench.engine --quick --models 30M,135M   # two rounds, no writing

Knows rounds, checks and tables; not how an engine is asked. Each engine runs in a process of its own and is stopped
(SIGSTOP) while another has its turn, so that no idle thread spins beside it. In each round every engine does the same
thing before the next thing begins; ratios are taken round by round and their median printed. Every text is checked: the
models are made so that each token has one right successor (see `engine_models`). Invariant: no figure is printed of an
engine that wrote a wrong token without the table saying so.
"""

import argparse
import contextlib
import ctypes
import datetime as dt
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.engine_install import PEERS, there
from bench.engine_models import SHAPES, Shape, continuation, grounded_prompt, prompt

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "bench" / "ENGINE.md"
OURS = ("loam", "loam-torch", "loam-lookup")
ENGINES = ("loam", "loam-torch", "transformers", "llama.cpp-q8", "llama.cpp-f16", "ctranslate2", "vllm")
TASKS = {
    "prefill": ENGINES,
    "decode 1": ENGINES,
    "decode 8": ENGINES,
    "grounded": ("loam-lookup", "loam", "llama.cpp-q8"),
}
"""What is measured, and of whom."""
PROMPT, SHORT, GROUNDED, QUOTE, OWN = 512, 128, 512, 24, 8
STEPS = {"30M": 129, "135M": 65, "1.1B": 25}
ANSWER = {"30M": 129, "135M": 129, "1.1B": 65}
WEIGHT_BYTES = {"loam": 1.0, "llama.cpp-q8": 34 / 32, "ctranslate2": 1.0}  # others: 2
GOALS = (
    ("decode 1", "llama.cpp-q8", 1.8),
    ("decode 8", "llama.cpp-q8", 2.0),
    ("prefill", "llama.cpp-q8", 4.0),
    ("decode 1", "ctranslate2", 1.5),
    ("decode 8", "ctranslate2", 1.5),
    ("decode 1", "vllm", 1.2),
    ("decode 8", "vllm", 1.2),
    ("prefill", "vllm", 0.9),
    ("decode 1", "transformers", 3.0),
)
LOOKUP_GOAL = 2.5


class Lost(Exception):
    """An engine's process ended; the message has what it said last."""


@dataclass(slots=True)
class Contender:
    """An engine's process, and what it has shown: tokens a second by task, a list of rounds."""

    name: str
    process: "subprocess.Popen[str]"
    errors: Path
    load_s: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    wrong: int = 0

    def ask(self, **command: Any) -> dict[str, Any]:
        """One command, with the process awake for just so long."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What it says next; then it sleeps."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Lost(self.errors.read_text(encoding="utf-8", errors="replace")[-400:])
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def end(self) -> None:
        """Ends the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def python_of(name: str) -> str | Path:
    """The interpreter that has an engine's packages."""
    if name in OURS:
        return sys.executable
    return PEERS[1].python if name == "vllm" else PEERS[0].python


def started(name: str, shape: Shape, threads: int, scratch: Path) -> Contender:
    """An engine, loaded and asleep. Raises `Lost` where it can't be."""
    errors = scratch / f"{name}-{shape.name}.log"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": str(threads)}
    with errors.open("w") as log:
        process = subprocess.Popen(
            [python_of(name), "-m", "bench.engine_peers", name, shape.name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env=environment,
            cwd=ROOT,
        )
    contender = Contender(name, process, errors)
    try:
        contender.load_s = contender.answer()["seconds"]
    except Lost:
        contender.end()
        raise
    return contender


def measure(contender: Contender, shape: Shape, task: str, seed: int) -> None:
    """One task once; its rate is kept, and whether the text was right."""
    if task == "prefill":
        prompts, count = [prompt(shape, PROMPT, seed)], 1
        said = contender.ask(do="prefill", prompt=prompts[0])
        rate = PROMPT / said["seconds"]
    else:
        if task == "grounded":
            count = ANSWER[shape.name]
            prompts = [grounded_prompt(shape, GROUNDED, count, seed, quote=QUOTE, own=OWN)]
        else:
            batch, count = int(task.split()[1]), STEPS[shape.name]
            prompts = [prompt(shape, SHORT, seed * 100 + i) for i in range(batch)]
        said = contender.ask(do="decode", prompts=prompts, count=count)
        rate = len(prompts) * (count - 1) / max(said["seconds"], 1e-9)
    contender.rates.setdefault(task, []).append(rate)
    right = [continuation(shape, one[-1], count) for one in prompts]
    contender.wrong += sum(
        a != b for got, want in zip(said["written"], right, strict=True) for a, b in zip(got, want, strict=True)
    )


def all_started(shape: Shape, engines: Sequence[str], threads: int, scratch: Path) -> Iterator[Contender]:
    """Those that can be; of the others it is said why not."""
    for name in engines:
        try:
            yield started(name, shape, threads, scratch)
        except Lost as lost:
            print(f"{name}, {shape.name}: left out: {str(lost).strip().splitlines()[-1:]}", flush=True)


def run(shape: Shape, engines: Sequence[str], threads: int, rounds: int, scratch: Path) -> list[Contender]:
    """All engines through all tasks, in turn."""
    contenders = list(all_started(shape, engines, threads, scratch))
    try:
        for number in range(rounds + 1):
            for task, contender in ((task, each) for task in TASKS for each in contenders):
                if contender.name in TASKS[task]:
                    measure(contender, shape, task, number)
            if number == 0:  # it warmed everybody up
                for contender in contenders:
                    contender.rates.clear()
        for contender in contenders:
            contender.memory = contender.ask(do="memory")
    finally:
        for contender in contenders:
            contender.end()
    return contenders


def read_rate(threads: int) -> float:
    """Bytes a second that memory can be read with."""
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / "stream.so"
        source = Path(__file__).with_name("engine_stream.c")
        options = ["-O3", "-march=native", "-fPIC", "-shared", "-pthread"]
        subprocess.run(["cc", *options, str(source), "-o", str(library)], check=True)
        rate = ctypes.CDLL(str(library)).read_rate
    rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    return rate(threads, 1 << 30, 7)


def ratio(one: Contender, other: Contender, task: str, other_task: str | None = None) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(one.rates[task], other.rates[other_task or task], strict=True))


def table(shape: Shape, contenders: Sequence[Contender], bandwidth: float) -> Iterator[str]:
    """One model's rows."""
    yield f"## {shape.name}: {shape.parameters / 1e6:.0f}M parameters, {shape.read_weights / 1e6:.0f}M read for a token"
    yield ""
    yield "| engine | prefill 512 | decode 1 | decode 8 | peak MiB | load, s | share of bandwidth | wrong tokens |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for each in contenders:
        if each.name == "loam-lookup":
            continue
        cells = [f"{statistics.median(each.rates[task]):,.0f}" for task in ("prefill", "decode 1", "decode 8")]
        read = statistics.median(each.rates["decode 1"]) * shape.read_weights * WEIGHT_BYTES.get(each.name, 2.0)
        cells += [f"{each.memory['peak']:,.0f}", f"{each.load_s:.1f}", f"{read / bandwidth:.0%}", str(each.wrong)]
        yield f"| {each.name} | {' | '.join(cells)} |"
    yield ""
    yield from goals({each.name: each for each in contenders})
    yield ""


def goals(by_name: dict[str, Contender]) -> Iterator[str]:
    """What was aimed at, and what came."""
    yield "| Loam's kernel beside | task | goal | ratio | |"
    yield "|---|---|---:|---:|---|"
    loam = by_name.get("loam")
    for task, name, goal in GOALS:
        if loam and name in by_name:
            got = ratio(loam, by_name[name], task)
            yield f"| {name} | {task} | {goal:.1f} | {got:.2f} | {'kept' if got >= goal else 'missed'} |"
    lookup, plain = by_name.get("loam-lookup"), by_name.get("llama.cpp-q8")
    if lookup and plain:
        got = ratio(lookup, plain, "grounded")
        said = "kept" if got >= LOOKUP_GOAL else "missed"
        yield f"| llama.cpp-q8, plain | grounded answer, prompt lookup | {LOOKUP_GOAL:.1f} | {got:.2f} | {said} |"
    if lookup and loam:
        yield f"| loam, plain | grounded answer, prompt lookup | | {ratio(lookup, loam, 'grounded'):.2f} | |"


def main() -> None:
    """Measures and prints; writes with --write."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--models", default="30M,135M,1.1B")
    asked.add_argument("--engines", default=",".join((*ENGINES, "loam-lookup")))
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    asked.add_argument("--quick", action="store_true", help="two rounds, without llama.cpp F16")
    asked.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = asked.parse_args()
    engines = [name for name in options.engines.split(",") if not (options.quick and name == "llama.cpp-f16")]
    if not there(PEERS[0]):
        raise SystemExit("the peers are not installed: python -m bench.engine_install")
    models = options.models.split(",")
    subprocess.run([PEERS[0].python, "-m", "bench.engine_models", *models], check=True, cwd=ROOT)
    options.rounds = 2 if options.quick else options.rounds
    lines = list(headline(options.threads, options.rounds))
    bandwidth = read_rate(options.threads)
    lines += [f"Memory can be read at {bandwidth / 1e9:.1f} GB/s by {options.threads} threads (huge pages).", ""]
    with tempfile.TemporaryDirectory() as scratch:
        for name in models:
            contenders = run(
                SHAPES[name], engines, options.threads, 2 if options.quick else options.rounds, Path(scratch)
            )
            rows = list(table(SHAPES[name], contenders, bandwidth))
            print("\n".join(rows), flush=True)
            lines += rows
    if options.write:
        PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def headline(threads: int, rounds: int) -> Iterator[str]:
    """What the page begins with."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":")[1].strip() for line in flags.splitlines() if line.startswith("model name")), "")
    features = [
        name for name in ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if name in flags
    ]
    load = os.getloadavg()[0]
    yield "# Loam's engine beside its peers"
    yield ""
    yield (
        f"Written by `make bench-engine` on {dt.datetime.now(dt.UTC):%Y-%m-%d}: {model}, {platform.machine()}, "
        f"{threads} threads, {', '.join(features)}; load {load:.1f} at the start. Tokens a second, medians of {rounds} "
        "interleaved rounds, ratios round by round. Loam's rows are its whole engine (scheduler, pages, sampling), "
        "llama.cpp's `llama_decode` alone, transformers' a loop over the model with its cache; ctranslate2 and vLLM "
        "are asked for whole texts, less the time of one token. `loam-torch` is this engine on plain torch, bf16. "
        f"Prefill: {PROMPT} tokens. Decoding: after prompts of {SHORT}. Grounded: an answer of which {QUOTE} tokens in "
        f"{QUOTE + OWN} stand in its prompt of {GROUNDED}. Memory counts mapped files."
    )
    yield ""
    packages = [package for peers in PEERS for package in peers.packages if "==" in package]
    yield f"Versions: {', '.join(packages)}; Python {platform.python_version()}. Every text was checked token by token."
    yield ""


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s")
