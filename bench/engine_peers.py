"""The engines, each in a process of its own that answers commands, one JSON object a line.

Knows how each engine is loaded and asked, in the way that is fastest for it; nothing of rounds and tables. Every engine
writes greedily and is timed between its first token and its last, so that the prompt's share is left out. Commands:

    {"do": "prefill", "prompt": [...]}                      -> {"seconds": s, "written": [[token]]}
    {"do": "decode", "prompts": [[...], ...], "count": n}   -> {"seconds": s, "written": [[...], ...]}, for n - 1 steps
    {"do": "memory"}                                        -> {"peak": MiB, "now": MiB}
"""

import ctypes
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.engine_models import SHAPES, Shape, folder

# optional extras: each process has one engine's packages, so they are imported where they are used
# ruff: noqa: PLC0415

Timed = tuple[float, list[list[int]]]
CONTEXT = 1024


class Peer(Protocol):
    """One engine, loaded."""

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        """Seconds between the first token of all and the last, and `count` tokens for each prompt."""
        ...

    def read(self, prompt: Sequence[int]) -> Timed:
        """Seconds from a prompt to its first token."""
        ...


class Loam:
    """The engine as it serves: scheduler, pages and sampling included."""

    def __init__(self, shape: Shape, threads: int, *, kernel: bool, guesses: int = 0) -> None:
        import torch

        from loam.engine.engine import Engine, EngineSettings
        from loam.engine.kernel import compiled
        from loam.engine.kvcache import PAGE, PagedCache
        from loam.engine.load import load

        torch.set_num_threads(1 if kernel else threads)
        model = load(folder(shape) / "hf", weights="bf16").model
        forward = compiled(model, threads=threads, tell=print) if kernel else model
        if forward is None:
            raise SystemExit("no kernel")
        self._model = model if not kernel else None
        cache = PagedCache(forward.architecture, 8 * CONTEXT // PAGE, dtype=torch.float16 if kernel else torch.bfloat16)
        self.engine = Engine(forward, cache, EngineSettings(guesses=guesses, rows=512))
        self._asked = 0

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        from loam.engine.asks import Ask, Draw

        written: dict[str, list[int]] = {}
        for tokens in prompts:
            name = f"{self._asked}"
            self._asked += 1
            written[name] = []
            self.engine.add(Ask(id=name, prompt=tuple(tokens), max_tokens=count, draw=Draw(temperature=0.0)))
        begin = None
        while not self.engine.idle:
            for said in self.engine.step():
                if said.token >= 0:
                    written[said.ask].append(said.token)
            if begin is None and all(written.values()):
                begin, ahead = time.perf_counter(), min(map(len, written.values())) - 1
        seconds = time.perf_counter() - (begin or 0.0)
        # a sequence whose prompt was read earlier is some tokens ahead: count the steps that were timed
        return seconds * (count - 1) / max(1, count - 1 - ahead), list(written.values())

    def read(self, prompt: Sequence[int]) -> Timed:
        begin = time.perf_counter()
        _, written = self.write([prompt], 1)
        return time.perf_counter() - begin, written


class Transformers:
    """Its model class in a loop with its cache; quicker than `generate`, which does more."""

    def __init__(self, shape: Shape, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder(shape) / "hf", dtype=torch.bfloat16)

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        out = self.model(self.torch.tensor(prompts), use_cache=True, logits_to_keep=1)
        tokens = out.logits[:, -1].argmax(-1, keepdim=True)
        written, cache, begin = [tokens], out.past_key_values, time.perf_counter()
        for _ in range(count - 1):
            out = self.model(tokens, past_key_values=cache, use_cache=True)
            tokens = out.logits[:, -1].argmax(-1, keepdim=True)
            written.append(tokens)
        return time.perf_counter() - begin, self.torch.cat(written, 1).tolist()

    def read(self, prompt: Sequence[int]) -> Timed:
        begin = time.perf_counter()
        _, written = self.write([prompt], 1)
        return time.perf_counter() - begin, written


class LlamaCpp:
    """llama.cpp by its own functions (llama_decode), without the Python package's sampling around it."""

    def __init__(self, shape: Shape, threads: int, kind: str) -> None:
        import llama_cpp
        import numpy

        self.lib, self.numpy, self.vocabulary = llama_cpp, numpy, shape.vocabulary
        llama_cpp.llama_log_set(_quiet(llama_cpp), ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        path = str(folder(shape) / f"{kind}.gguf").encode()
        self.model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        asked = llama_cpp.llama_context_default_params()
        asked.n_ctx, asked.n_batch, asked.n_ubatch, asked.n_seq_max = 8 * CONTEXT, 512, 512, 8
        asked.n_threads = asked.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, asked)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Rows of token, position, sequence and whether its successor is asked for; those successors."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        return [self._likeliest(i) for i, row in enumerate(rows) if row[3]]

    def _likeliest(self, row: int) -> int:
        logits = self.lib.llama_get_logits_ith(self.context, row)
        return int(self.numpy.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        last = [
            self._decode([(t, at, s, at == len(prompt) - 1) for at, t in enumerate(prompt)])[0]
            for s, prompt in enumerate(prompts)
        ]
        written, begin = [last], time.perf_counter()
        for step in range(count - 1):
            last = self._decode([(t, len(prompts[s]) + step, s, True) for s, t in enumerate(last)])
            written.append(last)
        seconds = time.perf_counter() - begin
        return seconds, [list(one) for one in zip(*written, strict=True)]

    def read(self, prompt: Sequence[int]) -> Timed:
        begin = time.perf_counter()
        _, written = self.write([prompt], 1)
        return time.perf_counter() - begin, written


def _quiet(lib: Any) -> Any:
    quiet = lib.llama_log_callback(lambda level, text, data: None)
    _KEPT.append(quiet)
    return quiet


_KEPT: list[Any] = []


class CTranslate2:
    """Its Generator; only whole texts can be asked for, so a text of one token is taken off."""

    def __init__(self, shape: Shape, threads: int) -> None:
        import ctranslate2

        self.generator = ctranslate2.Generator(
            str(folder(shape) / "ct2"), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )

    def _written(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        begin = time.perf_counter()
        results = self.generator.generate_batch(
            [[f"w{token}" for token in prompt] for prompt in prompts],
            max_length=count,
            min_length=count,
            include_prompt_in_result=False,
            sampling_topk=1,
        )
        return time.perf_counter() - begin, [result.sequences_ids[0] for result in results]

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        first, _ = self._written(prompts, 1)
        seconds, written = self._written(prompts, count)
        return seconds - first, written

    def read(self, prompt: Sequence[int]) -> Timed:
        return self._written([prompt], 1)


class Vllm:
    """vLLM's CPU build, bf16, in this process."""

    def __init__(self, shape: Shape, threads: int) -> None:
        cores = f"0-{threads - 1}"
        said = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": cores,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        os.environ.update({**said, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"})
        import vllm

        self.vllm = vllm
        self.engine = vllm.LLM(
            model=str(folder(shape) / "hf"),
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=CONTEXT,
            max_num_seqs=8,
            enable_prefix_caching=False,
            enforce_eager=os.environ.get("VLLM_EAGER") == "1",
        )

    def _written(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        asked = self.vllm.SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True, detokenize=False)
        begin = time.perf_counter()
        texts = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        results = self.engine.generate(texts, asked, use_tqdm=False)
        return time.perf_counter() - begin, [list(result.outputs[0].token_ids) for result in results]

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> Timed:
        first, _ = self._written(prompts, 1)
        seconds, written = self._written(prompts, count)
        return seconds - first, written

    def read(self, prompt: Sequence[int]) -> Timed:
        return self._written([prompt], 1)


def opened(name: str, shape: Shape, threads: int) -> Peer:
    """An engine by its name in the tables."""
    match name:
        case "loam":
            return Loam(shape, threads, kernel=True)
        case "loam-lookup":
            return Loam(shape, threads, kernel=True, guesses=12)
        case "loam-torch":
            return Loam(shape, threads, kernel=False)
        case "transformers":
            return Transformers(shape, threads)
        case "llama.cpp-q8":
            return LlamaCpp(shape, threads, "q8_0")
        case "llama.cpp-f16":
            return LlamaCpp(shape, threads, "f16")
        case "ctranslate2":
            return CTranslate2(shape, threads)
        case "vllm":
            return Vllm(shape, threads)
    raise SystemExit(f"no engine is named {name}")


def memory() -> dict[str, float]:
    """Resident MiB, the most so far and now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: float(line.split()[1]) / 1024 for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    return {"peak": found["VmHWM"], "now": found["VmRSS"]}


def main() -> None:
    """Answers until its input ends. Standard output is the answers' alone; what an engine prints goes to the errors."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, size, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    begin = time.perf_counter()
    peer = opened(name, SHAPES[size], threads)
    print(json.dumps({"seconds": time.perf_counter() - begin}), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "memory":
            answer: dict[str, Any] = memory()
        else:
            prefill = asked["do"] == "prefill"
            seconds, written = peer.read(asked["prompt"]) if prefill else peer.write(asked["prompts"], asked["count"])
            answer = {"seconds": seconds, "written": written}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
