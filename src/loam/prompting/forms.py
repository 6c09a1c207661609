"""The form of an answer that votes are counted by: what `answers.canonical` makes of it, or its nearest in meaning.

Knows vectors only as numbers. Invariant: of two answers whose meaning is as near as `NEAR`, the later takes the form of
the earlier, so the form of an answer never changes once it is given.
"""

from typing import Protocol

from loam.core.errors import refuse
from loam.prompting.answers import answer_in, canonical
from loam.prompting.around import Same
from loam.prompting.examples import Embed

NEAR = 0.85
"""The least cosine of two answers that mean the same."""


class Form(Protocol):
    async def of(self, text: str) -> str | None:
        """The form of an answer; None where it has none."""
        ...


class Written:
    """Forms by rules of writing alone."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    async def of(self, text: str) -> str | None:
        return canonical(text, self._kind)


class Meant:
    """Forms by meaning: an answer joins the first earlier one that is near enough."""

    def __init__(self, embed: Embed, near: float = NEAR) -> None:
        self._embed = embed
        self._near = near
        self._known: list[tuple[str, tuple[float, ...]]] = []

    async def of(self, text: str) -> str | None:
        said = (answer_in(text) or text).strip()
        if not said:
            return None
        (vector,) = [tuple(map(float, one)) for one in await self._embed([said])]
        for form, known in self._known:
            if sum(a * b for a, b in zip(vector, known, strict=True)) >= self._near:
                return form
        self._known.append((said, vector))
        return said


class Judged:
    """Forms by a judge's word: an answer joins the first earlier one that the judge takes for the same."""

    def __init__(self, same: Same) -> None:
        self._same = same
        self._known: list[str] = []

    async def of(self, text: str) -> str | None:
        said = (answer_in(text) or text).strip()
        if not said:
            return None
        for form in self._known:
            if form == said or await self._same(form, said):
                return form
        self._known.append(said)
        return said


def form_of(kind: str, embed: Embed | None, same: Same | None = None) -> Form:
    """Raises ModelFailure (unsupported) where meaning is asked for and nothing tells it."""
    if kind != "cluster":
        return Written(kind)
    if same is not None:
        return Judged(same)
    if embed is None:
        raise refuse(
            "unsupported",
            "answers are compared by meaning with an encoder, and none is here; install loam[grounding] and its "
            "weights (`loam setup`), or compare by number, choice, text or json:/pointer",
            param="loam.technique.normalise",
        )
    return Meant(embed)
