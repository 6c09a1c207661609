"""Questions and claims put to the heads and to the ladder of checks, timed; knows no figure and no table.

One thread computes. Invariant: what is run is what a gateway runs.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from msgspec import Struct
from recipes.heads.claims import Claim, Question
from recipes.heads.corpus import Lookalikes
from recipes.heads.ladder import checked, lines
from recipes.heads.metrics import Answered

from loam.grounding.encoder.adapter import Adapter
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.port import Reading
from loam.grounding.encoder.settings import Backend
from loam.grounding.encoder.weights import Weights
from loam.grounding.rereading import likely
from loam.grounding.verify import Checkers

BM25_BEST = 20
T = TypeVar("T")


class Timed(Struct, Generic[T], frozen=True):
    """What was found, and the mean processor time that one question or sentence took."""

    found: T
    milliseconds: float


class Judged(Struct, frozen=True):
    """A score and a verdict for each claim."""

    scores: list[float]
    verdicts: list[str]


class Runs:
    """The heads of some files on one thread."""

    def __init__(self, weights: Weights, files: Sequence[Adapter], cache: Path, backend: Backend) -> None:
        self._worker = Worker()
        source = Source(weights=weights, cache=cache, backend=backend, threads=1)
        self._heads = PairHeads(source, files, self._worker)

    def close(self) -> None:
        self._worker.close()

    async def read(self, questions: Sequence[Question]) -> Timed[list[Answered]]:
        """Each question put to its own passage; the margin is how likely the passage answers after the second look."""
        await self._heads.read("warm up", ["Nothing."])
        found: list[Answered] = []
        began = time.process_time()
        for question in questions:
            (reading,) = await self._heads.read(question.text, [question.passage])
            gold = tuple(question.passage[slice(*span)] for span in question.spans)
            sure = await likely(self._heads, question.text, question.passage, reading)
            found.append(Answered(question.passage[reading.start : reading.end], sure, gold))
        return Timed(found, _each(began, questions))

    async def rank(self, questions: Sequence[Question], passages: list[str]) -> dict[str, list[int | None]]:
        """The place of each question's passage among BM25's best, by each way of ordering them."""
        index = Lookalikes(passages)
        places: dict[str, list[int | None]] = {}
        for question in questions:
            near = [passages[number] for number in index.best(question.text, BM25_BEST)]
            for way, order in _orders(await self._heads.read(question.text, near)).items():
                texts = [near[place] for place in order]
                place = texts.index(question.passage) + 1 if question.passage in texts else None
                places.setdefault(way, []).append(place)
        return places

    async def head(self, claims: Sequence[Claim]) -> Timed[Judged]:
        """The trained head alone, on the lines that the ladder would show it."""
        pairs = [(claim.text, await lines(claim)) for claim in claims]
        await self._heads.verify(pairs[:1])
        began = time.process_time()
        found = [(await self._heads.verify([pair]))[0] for pair in pairs]
        verdicts = ["supported" if one.supported >= 0.5 else "unsupported" for one in found]
        return Timed(Judged([one.supported for one in found], verdicts), _each(began, claims))

    async def ladder(self, claims: Sequence[Claim], *, heads: bool) -> Timed[Judged]:
        """The whole ladder without a judge; without heads it is the model-free tier."""
        checkers = Checkers(self._heads if heads else None)
        began = time.process_time()
        found = [await checked(claim, checkers) for claim in claims]
        return Timed(Judged([one.score for one in found], [one.verdict for one in found]), _each(began, claims))


def _orders(readings: Sequence[Reading]) -> dict[str, list[int]]:
    """Places of passages, best first; BM25 gave them in its own order."""
    by_rank = sorted(range(len(readings)), key=lambda place: -readings[place].relevance)
    both = sorted(by_rank, key=lambda place: -(1 / (10 + place) + 2 / (10 + by_rank.index(place))))
    by_answer = sorted(range(len(readings)), key=lambda place: -readings[place].answerable)
    return {"BM25": list(range(len(readings))), "head": by_rank, "head + BM25": both, "answerable": by_answer}


def _each(began: float, items: Sequence[object]) -> float:
    spent = 1000 * (time.process_time() - began) / max(1, len(items))
    return math.ceil(10 * spent) / 10
