"""What the engine costs beside the model's arithmetic: a process a model, a template, a draw, a grammar's steps.

`python -m bench.engine_costs` prints every figure that docs/design/local-models.md and generation.md state. Medians; on
a machine that is used by others as well they are upper bounds.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from loam.engine.asks import Ask, Draw
from loam.engine.client import EngineProcess
from loam.engine.engine import Engine, EngineSettings
from loam.engine.kvcache import PagedCache
from loam.engine.pocket import FOLDER
from loam.engine.protocol import Order
from loam.engine.rendering import Renderer, Rendering
from loam.engine.sampling import Sampler, uniform
from loam.engine.templates import render
from loam.engine.tokenizer import Tokenizer
from tests.engine.worlds import HashForward, architecture


def took(what: Callable[[], object], times: int) -> float:
    """The median of its seconds."""
    seconds: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def memory(pid: int) -> dict[str, float]:
    """MB that a process holds: all that is resident, and what no other process shares with it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kinds = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"resident": kinds["Rss"] / 1024, "own": (kinds["Private_Clean"] + kinds["Private_Dirty"]) / 1024}


def computed(pid: int) -> float:
    """Seconds of a core that a process has used, which a busy machine does not lengthen as it does the clock's."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def process(times: int = 7) -> None:
    """A process with the model of 1.8 million weights that ships: nearly all of it is torch and Python."""
    seconds: list[float] = []
    held: list[dict[str, float]] = []
    cores: list[float] = []
    for _ in range(times):
        engine = EngineProcess(Order(name="pocket", path=str(FOLDER), threads=1, batch=1))
        start = time.perf_counter()
        await engine.start()
        seconds.append(time.perf_counter() - start)
        held.append(memory(engine.pid))
        cores.append(computed(engine.pid))
        await engine.close(grace=0)
    resident, own = (median(one[kind] for one in held) for kind in ("resident", "own"))
    print(f"a process with the pocket model: {median(seconds):.2f} s to start, {median(cores):.2f} s of a core")
    print(f"its memory: {resident:.0f} MB resident, {own:.0f} of them its own")


def rendering() -> None:
    """A conversation of four turns in the process of its own, and here."""
    template = Tokenizer.open(FOLDER).template()
    messages = [{"role": role, "content": "Who comes there? " * 8} for role in ("user", "assistant") * 2]
    wish = Rendering(template=template, messages=messages)
    renderer = Renderer()
    start = time.perf_counter()
    renderer.render(wish)
    first = time.perf_counter() - start
    apart, here = took(lambda: renderer.render(wish), 500), took(lambda: render(wish), 500)
    renderer.close()
    print(f"a rendering: {apart * 1e3:.2f} ms apart, {here * 1e3:.2f} ms in one's own process; the first {first:.2f} s")


def sampling() -> None:
    row = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    for name, draw in {
        "greedy": Draw(temperature=0.0),
        "temperature": Draw(seed=1),
        "top_k 40": Draw(seed=1, top_k=40),
        "top_p 0.9 of a flat row": Draw(seed=1, top_p=0.9, temperature=50.0),
    }.items():
        sampler = Sampler(draw, (1, 2))
        print(f"a row of 32,000 logits, {name}: {took(lambda one=sampler: one.choose(row, 3), 400) * 1e6:.0f} µs")


def steps() -> None:
    """A greedy step of the engine without a model's arithmetic to speak of."""
    for batch in (1, 32):
        settings = EngineSettings(batch=batch, guesses=0)
        forward = HashForward()
        engine = Engine(forward, PagedCache(architecture(), 64 * 8), settings)
        for number in range(batch):
            engine.add(Ask(id=str(number), prompt=(5, 6), max_tokens=200, draw=Draw(temperature=0.0)))
        seconds: list[float] = []
        plain = forward.step
        inside = [0.0]

        def timed(
            rows: object, cache: object, plain: Callable[..., object] = plain, inside: list[float] = inside
        ) -> object:
            start = time.perf_counter()
            logits = plain(rows, cache)
            inside[0] += time.perf_counter() - start
            return logits

        forward.step = timed
        while not engine.idle:
            inside[0] = 0.0
            start = time.perf_counter()
            engine.step()
            seconds.append(time.perf_counter() - start - inside[0])
        beside = median(seconds) * 1e6
        print(f"a step of {batch} greedy rows: {beside:.0f} µs beside the model, {beside / batch:.0f} a row")


def dropped() -> None:
    """What was not taken, and why."""
    chance = np.random.Generator(np.random.Philox(key=1))
    noise = took(lambda: -np.log(-np.log(chance.random(150_000, dtype=np.float32))), 50)
    print(f"Gumbel noise for 150,000 tokens: {noise * 1e3:.1f} ms")
    made, own = took(lambda: np.random.Philox(key=1), 500), took(lambda: uniform(1, 2), 500)
    print(f"numpy's Philox object: {made * 1e6:.0f} µs, ours {own * 1e6:.0f}")
    row = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    same = torch.from_numpy(row)
    for name, ours, theirs in (
        ("argmax", row.argmax, same.argmax),
        ("the 40 largest", lambda: np.partition(row, -40), lambda: same.topk(40)),
        ("sort", lambda: np.sort(row), same.sort),
        ("exp", lambda: np.exp(row), same.exp),
    ):
        print(f"{name} of 32,000: numpy {took(ours, 200) * 1e6:.0f} µs, torch {took(theirs, 200) * 1e6:.0f}")


def main() -> None:
    asyncio.run(process())
    rendering()
    sampling()
    steps()
    dropped()


if __name__ == "__main__":
    main()
