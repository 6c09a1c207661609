"""Choosing examples: the first ones, the nearest to the question, or near ones that say something new each.

Knows vectors and hashes; knows no model. Invariant: an example whose input is the question itself, however it is
spaced, cased or pointed, is never chosen: it would give the answer away.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from loam.core.errors import refuse
from loam.prompting.answers import folded

Select = Literal["fixed", "knn", "mmr"]
_NEARNESS = 0.5  # of mmr: how much the question counts against novelty


Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Texts to vectors of unit length."""


class Example(Struct, frozen=True, forbid_unknown_fields=True):
    """A question and how it is answered well; `output` is text, or a value that is written as JSON."""

    input: Annotated[str, Meta(description="The question.")]
    output: Annotated[Any, Meta(description="How it is answered well.")]
    id: Annotated[str, Meta(description="Its name in the record; without one, the hash of its input.")] = ""


class Chosen(Struct, frozen=True):
    """Examples in the order they are shown; `leaking` are ids of those that are the question itself."""

    examples: tuple[Example, ...]
    leaking: tuple[str, ...] = ()


def fingerprint(text: str) -> str:
    """What two texts have in common that differ in spaces, case and points only."""
    return hashlib.sha256((folded(text) or "").encode("utf-8", "surrogatepass")).hexdigest()


class ExampleSet:
    """Examples that many questions choose from. Their vectors are made when they are first needed."""

    def __init__(self, examples: Sequence[Example], embed: Embed | None = None) -> None:
        self._prints = tuple(fingerprint(example.input) for example in examples)
        self._examples = tuple(
            example if example.id else Example(example.input, example.output, self._prints[at][:12])
            for at, example in enumerate(examples)
        )
        self._embed = embed
        self._vectors: Sequence[Sequence[float]] | None = None

    def __len__(self) -> int:
        return len(self._examples)

    async def choose(self, question: str, k: int, select: Select) -> Chosen:
        """At most `k` examples, the nearest last, where the model reads it last. Raises ModelFailure."""
        asked = fingerprint(question)
        free = [at for at, print in enumerate(self._prints) if print != asked]
        leaking = tuple(example.id for at, example in enumerate(self._examples) if self._prints[at] == asked)
        if select == "fixed" or len(free) <= k:
            order = free[:k]
        else:
            order = await self._near(question, free, k, select)
        return Chosen(tuple(self._examples[at] for at in order), leaking)

    async def _near(self, question: str, free: list[int], k: int, select: Select) -> list[int]:
        if self._embed is None:
            raise refuse(
                "unsupported",
                "examples are chosen by meaning with an encoder, and none is here; install loam[grounding] and its "
                "weights (`loam setup`), or take the first ones with select = fixed",
                param="loam.technique.select",
            )
        if self._vectors is None:
            self._vectors = await self._embed([example.input for example in self._examples])
        (asked,) = await self._embed([question])
        vectors = self._vectors
        near = {at: _dot(asked, vectors[at]) for at in free}
        picked: list[int] = []
        while len(picked) < k:
            left = [at for at in free if at not in picked]
            if select == "mmr":
                said = {at: max((_dot(vectors[at], vectors[one]) for one in picked), default=0.0) for at in left}
                picked.append(max(left, key=lambda at: _NEARNESS * near[at] - (1 - _NEARNESS) * said[at]))
            else:
                picked.append(max(left, key=lambda at: near[at]))
        return sorted(picked, key=lambda at: near[at])


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))


def read_examples(text: str) -> tuple[Example, ...]:
    """Examples of a file: JSON lines with `input`, `output` and perhaps `id`. Raises ValueError that names the line."""
    found: list[Example] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Example))
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise ValueError(f"line {number}: {error}") from error
    return tuple(found)
