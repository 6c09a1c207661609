"""The trained judgements on pairs of texts: does a passage answer a question and where, does it support a sentence.

Knows what the heads' scores mean; `passes` knows how they come about. The format of the input is the one the heads were
trained on: `[CLS]` question or sentence `[SEP]` passage `[SEP]`, at most 384 pieces, the first text cut to 96.
Invariant: a span is characters of the passage as it was given, or empty.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct, convert
from numpy.typing import NDArray

from loam.core.errors import EncoderError
from loam.grounding.encoder.adapter import Adapter
from loam.grounding.encoder.encoder import Words
from loam.grounding.encoder.passes import Passes, Source
from loam.grounding.encoder.port import Reading, Support
from loam.grounding.encoder.wordpiece import Pair
from loam.grounding.encoder.worker import Worker

MOST, MOST_FIRST, LONGEST_SPAN = 384, 96, 40
_WINDOW = 128
_SCORES = {"span": 2, "rank": 1, "verify": 3}


class Calibration(Struct, frozen=True):
    """How a score becomes a probability: sigmoid((score - shift) / temperature); a card says it under `calibration`."""

    temperature: float = 1.0
    shift: float = 0.0

    def probability(self, score: float) -> float:
        return float(1 / (1 + np.exp(-np.clip((score - self.shift) / self.temperature, -60, 60))))


class PairHeads:
    """Heads from one adapter file or more. `read` needs the heads span and rank in one file, `verify` the head verify.

    Raises EncoderError where no file has them.
    """

    def __init__(self, source: Source, adapters: Sequence[Adapter], worker: Worker) -> None:
        self._worker = worker
        self._words = Words(source.weights)
        reading, judging = _having(adapters, "span", "rank"), _having(adapters, "verify")
        self._read = Passes(source.with_adapter(reading), worker)
        self._verify = self._read if judging is reading else Passes(source.with_adapter(judging), worker)
        self._answerable, self._relevance = _calibration(reading, "span"), _calibration(reading, "rank")
        self._support = _calibration(judging, "verify")
        names = dict.fromkeys(f"{one.name}/{one.sha256[:12]}" for one in (reading, judging))
        self._id = f"{'+'.join(names)}/{source.backend}"

    @property
    def id(self) -> str:
        return self._id

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        """One reading a passage. Raises ModelFailure where the weights cannot be used."""
        pairs = await self._pairs([(question, passage) for passage in passages])
        readings: dict[int, Reading] = {}
        for batch in await self._read.run(pairs, "span", "rank"):
            spans, ranks = batch.outputs
            for place, span, rank in zip(batch.places, spans, ranks, strict=True):
                readings[place] = self._reading(pairs[place], span, float(rank))
        return [readings[place] for place in range(len(passages))]

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        """One judgement a pair of (sentence, evidence). Raises ModelFailure where the weights cannot be used."""
        inputs = await self._pairs(pairs)
        found: dict[int, Support] = {}
        for batch in await self._verify.run(inputs, "verify"):
            scores = batch.outputs[0] / self._support.temperature
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            for place, row in zip(batch.places, powers / powers.sum(axis=1, keepdims=True), strict=True):
                found[place] = Support(*map(float, row))
        return [found[place] for place in range(len(pairs))]

    async def _pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        made: list[Pair] = []
        for start in range(0, len(pairs), _WINDOW):
            made += await self._worker.run(self._cut, pairs[start : start + _WINDOW])
        return made

    def _cut(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        words = self._words.open()
        cut = {text: words.cut(text) for pair in pairs for text in pair}
        return [words.pair(cut[first], cut[second], most=MOST, most_first=MOST_FIRST) for first, second in pairs]

    def _reading(self, pair: Pair, scores: NDArray[np.float32], rank: float) -> Reading:
        relevance = self._relevance.probability(rank)
        inside = scores[pair.offset : pair.offset + len(pair.spans)]
        best = best_span(inside)
        if best is None:
            return Reading(relevance, 0.0, 0, 0)
        nothing = float(scores[0].sum())
        answerable = self._answerable.probability(best.score - nothing)
        return Reading(
            relevance, answerable, pair.spans[best.first][0], pair.spans[best.last][1], share(scores[0], inside)
        )


class Best(Struct, frozen=True):
    """The pieces from `first` to `last`, both included."""

    first: int
    last: int
    score: float


def best_span(scores: NDArray[np.float32], longest: int = LONGEST_SPAN) -> Best | None:
    """The span of the highest start and end scores together, [pieces, 2]; None where there are no pieces."""
    if not len(scores):
        return None
    together = scores[:, :1] + scores[None, :, 1]  # [start, end]
    allowed = np.triu(np.ones(together.shape, bool)) & np.tril(np.ones(together.shape, bool), longest - 1)
    first, last = divmod(int(np.where(allowed, together, -np.inf).argmax()), len(scores))
    return Best(first, last, float(together[first, last]))


def share(nothing: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """The probability of `nothing` ([2], start and end) beside the pieces' scores [pieces, 2]."""
    most = np.maximum(nothing, scores.max(axis=0))
    all_ = np.exp(nothing - most) + np.exp(scores - most).sum(axis=0)
    return float(np.prod(np.exp(nothing - most) / all_, dtype=np.float64))


def _having(adapters: Sequence[Adapter], *heads: str) -> Adapter:
    for adapter in adapters:
        if all(f"{head}.weight" in adapter.arrays for head in heads):
            for head in heads:
                if len(adapter.arrays[f"{head}.weight"]) != _SCORES[head]:
                    raise EncoderError(f"the head {head} in {adapter.name} does not give {_SCORES[head]} scores")
            return adapter
    raise EncoderError(f"no file of heads has {' and '.join(heads)}")


def _calibration(adapter: Adapter, head: str) -> Calibration:
    table = convert(adapter.card.get("calibration", {}), dict[str, Calibration])
    return table.get(head, Calibration())
