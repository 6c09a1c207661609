"""Many streams at a time: `python -m bench.batching [--size 30M] [--threads 2] [--plain] [--rounds 3]`.

Three questions of part 3 of the plan, on a random-weight Llama:

1. Throughput: 32 streams of mixed lengths, 128 asks in all, against the best static batch. The best static batch is one
   that nobody has: 32 asks whose prompts are all of the mean length and whose answers all end at the same token, four
   times over, so that no slot is ever empty and nobody waits. Continuous batching is measured while 32 streams go on:
   from the end of the 32nd ask to the beginning of the last; with the run's beginning and its end, where streams run
   out, it is told beside. So is a static batch of the same mixed asks, which is what one has without it.
2. The time to a first token while 31 others are written, and the longest gap between their tokens meanwhile, for
   several budgets of rows a step.
3. A stream that is cancelled: in which step its slot writes for somebody else.

All in one process, rounds interleaved; throughput is tokens written over wall time, prompts included.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterable, Sequence

import torch

from loam.engine.architecture import Architecture, Rope
from loam.engine.asks import Ask, Draw
from loam.engine.engine import Engine, EngineSettings
from loam.engine.kernel import compiled
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.rows import Forward
from loam.engine.transformer import Normed, Transformer

STREAMS, ASKS = 32, 128
PROMPTS, ANSWERS = (16, 384), (16, 240)
SIZES = {
    # width, layers, heads, key heads, head's width, hidden, vocabulary
    "3M": (256, 4, 8, 4, 32, 704, 4096),
    "30M": (512, 8, 8, 4, 64, 1408, 16384),
    "135M": (576, 30, 9, 3, 64, 1536, 49152),
}


def random_model(size: str, words: int = 0) -> Transformer:
    """Weights from a normal distribution, tied, as a fresh checkpoint has them; with `words` tokens if given."""
    width, layers, heads, kv_heads, head_width, hidden, vocabulary = SIZES[size]
    architecture = Architecture(
        family="llama", context=4096, rope=Rope(theta=10000.0, width=head_width), tied=True, norm_eps=1e-5,
        width=width, layers=layers, heads=heads, kv_heads=kv_heads, head_width=head_width, hidden=hidden,
        vocabulary=words or vocabulary,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(architecture)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.05)
        for each in model.modules():
            if isinstance(each, Normed):
                each.weight.fill_(1.0)
    return model.eval()


def engine(forward: Forward, *, rows: int = 512, batch: int = STREAMS) -> Engine:
    pages = (batch + 1) * -(-(PROMPTS[1] + ANSWERS[1] + 1) // PAGE)
    settings = EngineSettings(batch=batch, rows=rows, queue=10 * ASKS, guesses=0)
    return Engine(forward, PagedCache(forward.architecture, pages), settings)


def ask(name: str, prompt: int, answer: int, vocabulary: int) -> Ask:
    """Greedy, without a stop token; prompts begin differently, so that nothing is shared."""
    chance = random.Random(name)
    tokens = tuple(chance.randrange(vocabulary) for _ in range(prompt))
    return Ask(id=name, prompt=tokens, max_tokens=answer, draw=Draw(temperature=0.0))


def mixed(vocabulary: int, tag: str) -> list[Ask]:
    chance = random.Random(0)
    sizes = [(chance.randint(*PROMPTS), chance.randint(*ANSWERS)) for _ in range(ASKS)]
    return [ask(f"{tag}{n}", *size, vocabulary) for n, size in enumerate(sizes)]


def even(asks: Sequence[Ask], vocabulary: int, tag: str) -> list[Ask]:
    """As many, each with the mean lengths."""
    prompt = round(statistics.mean(len(each.prompt) for each in asks))
    answer = round(statistics.mean(each.max_tokens for each in asks))
    return [ask(f"{tag}{n}", prompt, answer, vocabulary) for n in range(ASKS)]


def throughput(made: Engine, batches: Iterable[Sequence[Ask]]) -> float:
    """Tokens a second; each batch begins when the one before has ended whole."""
    written, started = 0, time.perf_counter()
    for batch in batches:
        for each in batch:
            made.add(each)
        while not made.idle:
            written += sum(said.token >= 0 for said in made.step())
    return written / (time.perf_counter() - started)


def continuous(made: Engine, asks: Sequence[Ask]) -> tuple[float, float]:
    """Tokens a second while all streams go on, and over the whole run."""
    for each in asks:
        made.add(each)
    written = ended = before = 0
    started = time.perf_counter()
    begun = stopped = 0.0
    within = 0
    while not made.idle:
        said = made.step()
        written += sum(each.token >= 0 for each in said)
        ended += sum(each.ending is not None for each in said)
        if not begun and ended >= STREAMS:
            begun, before = time.perf_counter(), written
        if not stopped and not made.waiting:
            stopped, within = time.perf_counter(), written - before
    return within / (stopped - begun), written / (time.perf_counter() - started)


def in_batches(asks: Sequence[Ask]) -> list[Sequence[Ask]]:
    return [asks[at : at + STREAMS] for at in range(0, len(asks), STREAMS)]


def first_token(forward: Forward, rows: int, prompt: int) -> tuple[float, float, float, int]:
    """Milliseconds: to the first token, the longest gap of the others meanwhile, their gap before; and steps."""
    vocabulary, made = forward.architecture.vocabulary, engine(forward, rows=rows)
    for n in range(STREAMS - 1):
        made.add(ask(f"old{n}", 32, 240, vocabulary))
    while made.waiting or len(made.step()) < STREAMS - 1:
        made.step()
    before = []
    for _ in range(20):
        started = time.perf_counter()
        made.step()
        before.append(time.perf_counter() - started)
    asked, gaps, told = time.perf_counter(), list[float](), False
    made.add(ask("new", prompt, 4, vocabulary))
    while not told:
        started = time.perf_counter()
        told = any(said.ask == "new" for said in made.step())
        gaps.append(time.perf_counter() - started)
    waited = time.perf_counter() - asked
    return 1e3 * waited, 1e3 * max(gaps), 1e3 * statistics.median(before), len(gaps)


def cancelled(forward: Forward) -> int:
    """Steps from the cancelling of one of 32 streams to the first token of the ask that waited for its slot."""
    vocabulary, made = forward.architecture.vocabulary, engine(forward)
    for n in range(STREAMS):
        made.add(ask(f"{n}", 32, 240, vocabulary))
    for _ in range(10):
        made.step()
    made.add(ask("waits", 64, 4, vocabulary))
    made.step()
    assert made.waiting == 1
    made.cancel("7")
    steps = 1
    while not any(said.ask == "waits" for said in made.step()):
        steps += 1
    return steps


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--size", choices=SIZES, default="30M")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--plain", action="store_true", help="plain torch, without the compiled kernel")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    model = random_model(options.size)
    kernel = None if options.plain else compiled(model, threads=options.threads, tell=print)
    forward: Forward = kernel or model
    print(f"{options.size}, {'compiled kernel, int8' if kernel else 'plain torch, fp32'}, {options.threads} threads")
    vocabulary = forward.architecture.vocabulary
    names = ("continuous", "continuous, to the end", "best static", "static, mixed lengths")
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds):
        asks = mixed(vocabulary, f"{turn}c")
        for name, speed in zip(names, continuous(engine(forward), asks), strict=False):
            found[name].append(speed)
        found["best static"].append(throughput(engine(forward), in_batches(even(asks, vocabulary, f"{turn}e"))))
        found["static, mixed lengths"].append(throughput(engine(forward), in_batches(mixed(vocabulary, f"{turn}s"))))
    best = statistics.median(found["best static"])
    for name, speeds in found.items():
        speed = statistics.median(speeds)
        print(f"{name:24} {speed:8.0f} tokens/s  {speed / best:5.2f} of the best static batch  (goal 0.85)")
    for rows in (64, 128, 256, 512):
        waited, gap, before, steps = first_token(forward, rows, 512)
        print(
            f"{rows:4} rows a step: first token of a prompt of 512 after {waited:6.1f} ms in {steps:2} steps; "
            f"longest gap of 31 others {gap:5.1f} ms, {before:4.1f} ms without it"
        )
    print(f"a cancelled stream's slot writes for another after {cancelled(forward)} step (goal: 1)")


if __name__ == "__main__":
    main()
