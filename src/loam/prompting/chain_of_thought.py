"""Chain of thought: the model reasons first, and what reaches the reader is its answer, with the reasoning apart.

Knows the marks that it asks for, and where to cut a stream; reading answers without marks is `answers`' matter.
Invariants: no reasoning stands in the answer's text; hidden reasoning is billed and counted, but shown nowhere; a model
that reasons by itself is left alone.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.calls import Call, Delta, Step, Usage, Words
from loam.core.ports import Model
from loam.prompting.answers import CLOSE, OPEN
from loam.prompting.around import NOTHING, Around
from loam.prompting.instructing import instructed
from loam.prompting.reasoning import Extract, Split

NAME = "chain_of_thought"
ASKED = (
    "Reason step by step before you answer. When the reasoning is done, write your final answer once, between "
    f"{OPEN} and {CLOSE}, with nothing but the answer inside and nothing after it."
)


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    visible: Annotated[bool, Meta(description="Whether the reasoning is sent too, apart from the answer.")] = False
    extract: Annotated[Extract, Meta(description="What the answer is cut down to, as far as it has one.")] = "text"
    force: Annotated[bool, Meta(description="Ask for steps even of a model that reasons by itself.")] = False


USUAL = Options()


class ChainOfThought:
    """Answers with the answer alone; with `visible`, the reasoning comes before it as thinking."""

    def __init__(self, inner: Model, options: Options = USUAL, around: Around = NOTHING) -> None:
        self._inner = inner
        self._options = options
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        off = not self._options.force and self._reasons(call)
        if off:
            yield Delta(step=Step(NAME, "done", {"skipped": "the model reasons by itself"}))
        choices: dict[int, Split] = {}
        watched = call.stream and call.controls.metadata
        async with aclosing(self._inner.answer(call if off else instructed(call, ASKED))) as deltas:
            async for delta in deltas:
                if off:
                    yield delta
                    continue
                split = choices.get(delta.choice)
                if type(delta) is Words and split is not None and split.hides(delta.text):
                    if watched and (pieces := split.progress()):
                        yield Delta(step=Step(NAME, "reasoning", {"pieces": pieces, "tokens": split.reasoning}))
                    continue
                if split is None and (delta.text or delta.finish):
                    split = choices[delta.choice] = Split(visible=self._options.visible, extract=self._options.extract)
                for piece in _pieces(delta, split):
                    yield piece
                if delta.usage is not None:
                    yield Delta(usage=_accounted(delta.usage, choices))
        if not off:
            marked = all(split.marked for split in choices.values())
            yield Delta(step=Step(NAME, "done", {"marked": marked, "visible": self._options.visible}))

    def _reasons(self, call: Call) -> bool:
        sampling = call.sampling
        effort = sampling.reasoning_effort not in (None, "none", "minimal")
        return effort or sampling.thinking_budget is not None or self._around.reasons(call)


def _pieces(delta: Delta, split: Split | None) -> list[Delta]:
    """What the reader gets of one delta, its usage aside. Log probabilities would spell the reasoning out."""
    pieces: list[Delta] = []
    if type(delta) is not Words:
        rest = structs.replace(delta, text="", finish=None, usage=None, logprobs=None)
        pieces = [rest] if rest != Delta(choice=delta.choice, family=delta.family) else []
    if split is None:
        return pieces
    choice, thought, said = delta.choice, split.thought(delta.text), split.answer()
    if delta.finish is not None:
        said += split.end(whole=delta.finish == "stop")
    pieces += [Delta(choice=choice, thinking=thought)] if thought else []
    pieces += [Delta(choice=choice, text=said)] if said else []
    return [*pieces, Delta(choice=choice, finish=delta.finish)] if delta.finish is not None else pieces


def _accounted(usage: Usage, choices: dict[int, Split]) -> Usage:
    """Of the tokens that were written, those that were reasoning are named as such."""
    reasoning = usage.reasoning + sum(split.reasoning for split in choices.values())
    return structs.replace(usage, reasoning=min(reasoning, usage.output))
