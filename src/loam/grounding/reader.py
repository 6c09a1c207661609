"""The reader: a Model that answers from the passages of its call, by quoting, or says that they do not say.

Knows no collection and no provider. Needs no key, no server; uses trained heads where there are some.
Invariants: the answer is either one stretch of one document, quoted to the character and cited, or `DECLINED`; where
the heads fail, words are counted, and the trace says so.
"""

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from loam.core.calls import Call, Citation, Delta, Head, Passage, Usage
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model
from loam.core.tokens import counted_input, estimate
from loam.grounding.asking import last_question
from loam.grounding.evidence import Evidence, best
from loam.grounding.prompt import DECLINED, SHAPE
from loam.grounding.rereading import likely
from loam.grounding.sheet import cited

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Heads, Reading

NAME = "loam/reader"
LEAST_SUPPORT = 0.6
"""The share of a question that a quote must cover; chosen with bench/reader.py."""

_SURE, _NO_OBJECTION = 0.4, 0.05
"""How sure the heads must be to answer by themselves, and where the words cover the question; chosen like the above."""

_PIECE = re.compile(r"\S+\s*(?:\S+\s*){0,7}", re.DOTALL)


class Reader(Model):
    """Answers chat calls that carry passages; with trained heads it reads them, without it counts words."""

    def __init__(self, heads: "Heads | None" = None, *, least_support: float = LEAST_SUPPORT) -> None:
        self._heads = heads
        self._least = least_support

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if call.task == "count":
            yield Delta(usage=Usage(input=counted_input(call), estimated=True))
            return
        problem = _problem(call)
        if problem is not None:
            raise problem
        found = await self._found(call, call.passages or ())
        supported = found if found is not None and self._enough(found) else None
        whole = supported.quote if supported else DECLINED
        text = _within(whole, call.sampling.max_tokens)
        yield Delta(head=Head(model=NAME))
        for piece in _pieces(text):
            yield Delta(text=piece)
        yield Delta(
            citations=(_citation(supported, text),) if supported and text else (),
            finish="stop" if text == whole else "length",
        )
        yield Delta(usage=Usage(input=counted_input(call), output=estimate(text), estimated=True))

    async def _found(self, call: Call, passages: Sequence[Passage]) -> Evidence | None:
        question = question_of(call)
        if self._heads is None or not passages:
            return best(question, passages)
        try:
            readings = await self._heads.read(question, [passage.text for passage in passages])
            return await _read_again(self._heads, question, best(question, passages, readings), readings)
        except ModelFailure:
            call.trace.warn(f"{NAME} counted words alone: the trained heads failed, and the log says why")
            return best(question, passages)

    def _enough(self, found: Evidence) -> bool:
        """Whether to answer: the words cover the question and the heads don't object, or the heads are sure."""
        if found.read is None:
            return found.support >= self._least
        return found.read >= _SURE or (found.read >= _NO_OBJECTION and found.support >= self._least)


async def _read_again(
    heads: "Heads", question: str, found: Evidence | None, readings: Sequence["Reading"]
) -> Evidence | None:
    """The evidence, as sure as the heads still are of it after a closer look."""
    if found is None or not found.read:
        return found
    reading = readings[found.place]
    return structs.replace(found, read=reading.relevance * await likely(heads, question, found.passage.text, reading))


def question_of(call: Call) -> str:
    """What the passages were looked up for, or else the text of the user's last message."""
    return call.question or last_question(call.messages)


def _problem(call: Call) -> ModelFailure | None:
    if call.task != "chat":
        return refuse("unsupported", f"{NAME} answers chat calls only", param="model")
    if call.passages is None:
        return refuse(
            "bad_request",
            f'{NAME} answers from documents only; name a collection: ask the model "rag:NAME", '
            'or send "loam": {"collection": "NAME"}',
            param="model",
        )
    if call.output is not None and call.output.name != SHAPE:
        return refuse("unsupported", f"{NAME} quotes plain text; it can't answer in JSON", param="response_format")
    if call.tool_choice is not None and call.tool_choice.mode in ("required", "named"):
        return refuse("unsupported", f"{NAME} calls no tools", param="tool_choice")
    if call.sampling.n != 1:
        return refuse("unsupported", f"{NAME} gives one answer to a question; ask with n = 1", param="n")
    return None


def _citation(found: Evidence, quote: str) -> Citation:
    place = cited(found.passage, found.start, quote, max(found.support, found.read or 0.0))
    return structs.replace(place, answer_end=len(quote))


def _within(text: str, tokens: int | None) -> str:
    """The text, or as many of its first words as `tokens` allow: the beginning of a quote is a quote."""
    while tokens is not None and text and estimate(text) > tokens:
        text = text[: min(len(text) - 1, len(text) * tokens // estimate(text))].rpartition(" ")[0].rstrip()
    return text


def _pieces(text: str) -> Iterator[str]:
    """A few words at a time, as models speak."""
    return (piece.group() for piece in _PIECE.finditer(text))
