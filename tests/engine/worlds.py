"""A model whose every wrong step shows: its logits are a hash of all that it reads back from the cache.

Cheap, deterministic, and merciless: one wrong page, one stale position, one token computed as read where it should be
computed as written, and all tokens after it are others.
"""

import random
import zlib

import numpy as np
import torch

from loam.engine.architecture import Architecture
from loam.engine.asks import Ask, Draw, Said
from loam.engine.engine import Engine, EngineSettings
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.rows import Rows, Span
from loam.engine.sampling import Seen, logprobs, steps_of

VOCABULARY = 97


def architecture(context: int = 4096, vocabulary: int = VOCABULARY) -> Architecture:
    return Architecture(
        family="hash", vocabulary=vocabulary, width=4, layers=2, heads=1, kv_heads=1, head_width=2, hidden=4,
        context=context,
    )  # fmt: skip


class HashForward:
    """Layer 0 keeps (token, position), layer 1 (adapter, read or written); the last two tokens weigh most.

    Where `uniform` is False it is like a model that reads prompts in bf16 and writes in int8: the same token leaves
    other keys behind.
    """

    def __init__(self, *, uniform: bool = True, context: int = 4096, vocabulary: int = VOCABULARY, salt: int = 0):
        self.architecture = architecture(context, vocabulary)
        self.uniform = uniform
        self.salt = salt
        self.steps = []
        self.broken = frozenset()

    def step(self, rows, cache):
        self.steps.append(rows)
        at, wanted, out = 0, set(rows.wanted), []
        for span in rows.spans:
            assert span.count > 0
            assert len(span.pages) * PAGE >= span.start + span.count
            for place in range(span.start, span.start + span.count):
                page, row = span.pages[place // PAGE], place % PAGE
                cache.keys[0, page, 0, row] = torch.tensor([rows.tokens[at + place - span.start], place])
                read = 0 if self.uniform else int(span.prompt)
                cache.keys[1, page, 0, row] = torch.tensor([zlib.crc32(span.adapter.encode()) % 1000, read])
            pages = torch.tensor(span.pages)
            kept = torch.cat([cache.read(layer, pages, span.start + span.count)[0][0] for layer in (0, 1)], 1).numpy()
            out += [self.logits(kept[: span.start + i + 1]) for i in range(span.count) if at + i in wanted]
            at += span.count
        assert at == len(rows.tokens)
        assert [*rows.wanted] == sorted(wanted)
        return torch.from_numpy(np.array(out, dtype=np.float32).reshape(len(out), self.architecture.vocabulary))

    def logits(self, kept):
        """kept: (positions, 4), all that the cache says of this sequence."""
        last = tuple(int(token) for token in kept[-2:, 0])
        if last[-1] in self.broken:
            return np.full(self.architecture.vocabulary, np.nan)
        near = np.random.Generator(np.random.Philox(key=zlib.crc32(repr((last, self.salt)).encode())))
        far = np.random.Generator(np.random.Philox(key=zlib.crc32(kept.astype(np.int64).tobytes())))
        size = self.architecture.vocabulary
        return 2.5 * near.standard_normal(size) + 0.4 * far.standard_normal(size)


class NoiseForward:
    """Writes noise, fast: a row of a fixed table of random logits for each token and position."""

    uniform = True

    def __init__(self, vocabulary: int) -> None:
        self.architecture = architecture(vocabulary=vocabulary)
        self.table = torch.from_numpy(3.0 * np.random.default_rng(0).standard_normal((509, vocabulary), np.float32))

    def step(self, rows, cache):
        positions = [place for span in rows.spans for place in range(span.start, span.start + span.count)]
        return self.table[[(rows.tokens[row] * 31 + positions[row] * 7) % 509 for row in rows.wanted]]


def engine(forward=None, *, pages: int = 64, draft=None, tokens=None, adapters=(), clock=None, **settings) -> Engine:
    forward = forward or HashForward()
    more = {} if clock is None else {"clock": clock}
    cache = PagedCache(forward.architecture, pages)
    return Engine(forward, cache, EngineSettings(**settings), draft=draft, tokens=tokens, adapters=adapters, **more)


def run(engine: Engine, *asks: Ask) -> dict[str, list[Said]]:
    """All that each ask is told."""
    told = {ask.id: [] for ask in asks}
    for ask in asks:
        engine.add(ask)
    finish(engine, told)
    return told


def finish(engine: Engine, told: dict[str, list[Said]], most: int = 20_000) -> None:
    for _ in range(most):
        if engine.idle:
            return
        for said in engine.step():
            told[said.ask].append(said)
    raise AssertionError("the engine never ends")


def text(told: list[Said]) -> list[int]:
    return [said.token for said in told if said.token >= 0]


def plainly(forward: HashForward, ask: Ask, allowed=None) -> list[Said]:
    """The slow twin of the whole engine: one sequence, one token a step, no pages shared, the long way to choose.

    `allowed` is a grammar as a function of the answer so far.
    """
    cache = PagedCache(forward.architecture, len(ask.prompt) // PAGE + ask.max_tokens // PAGE + 2)
    pages, tokens, told, seen, row = tuple(range(cache.pages)), list(ask.prompt), [], Seen(ask.prompt), None
    for at in range(len(ask.prompt) + ask.max_tokens):
        if at >= len(tokens):
            answer = tokens[len(ask.prompt) :]
            steps = steps_of(row, ask.draw, seen, at, None if allowed is None else allowed(answer))
            if steps.token in ask.stop_tokens:
                break
            tokens.append(steps.token)
            seen.add(steps.token)
            own, top = logprobs(row, steps.token, ask.logprobs or 0)
            told.append(Said(ask.id, steps.token, logprob=own, top=top))
        span = Span(pages, at, 1, ask.adapter, prompt=at < len(ask.prompt))
        row = forward.step(Rows((tokens[at],), (span,), (0,)), cache).numpy()[0]
    return told


def some_asks(chance: random.Random, count: int, *, adapters: tuple[str, ...] = ("",), longest: int = 40) -> list[Ask]:
    """Mixed lengths, temperatures, penalties and stop tokens; some begin alike, some repeat themselves."""
    beginnings = [[chance.randrange(VOCABULARY) for _ in range(chance.choice([32, 70, 131]))] for _ in range(3)]
    asks = []
    for number in range(count):
        prompt = [chance.randrange(VOCABULARY) for _ in range(chance.choice([1, 3, 31, 32, 33, 64, 100]))]
        if chance.random() < 0.5:
            prompt = chance.choice(beginnings) + prompt[: chance.randrange(20)]
        if chance.random() < 0.2:
            prompt = prompt * 2
        draw = Draw(
            temperature=chance.choice([0.0, 0.0, 0.7, 1.0]),
            top_k=chance.choice([0, 0, 5]),
            top_p=chance.choice([1.0, 0.9]),
            min_p=chance.choice([0.0, 0.05]),
            repetition_penalty=chance.choice([1.0, 1.0, 1.2]),
            frequency_penalty=chance.choice([0.0, 0.0, 0.2]),
            presence_penalty=chance.choice([0.0, 0.0, 0.3]),
            bias=chance.choice([{}, {}, {3: 1.5, 7: -100.0}]),
            seed=chance.randrange(1000),
        )
        stop = frozenset(chance.sample(range(VOCABULARY), chance.choice([0, 0, 1, 3])))
        logprobs = chance.choice([None, None, 0, 3])
        length = chance.randint(1, longest)
        asks.append(
            Ask(
                id=str(number),
                prompt=tuple(prompt),
                max_tokens=length,
                draw=draw,
                stop_tokens=stop,
                logprobs=logprobs,
                adapter=chance.choice(adapters),
            )
        )
    return asks
