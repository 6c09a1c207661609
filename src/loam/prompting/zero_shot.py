"""Zero-shot: the question as it stands, with the remarks of a linter where somebody hands one in.

Knows neither rules nor models. Invariant: the call goes on unchanged; a remark never stops it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.calls import Call, Delta, Step
from loam.core.ports import Model
from loam.prompting.around import NOTHING, Around

NAME = "zero_shot"


class Options(Struct, frozen=True, forbid_unknown_fields=True, tag=NAME, tag_field="name"):
    lint: Annotated[bool, Meta(description="Whether the linter's findings on the prompt come with the answer.")] = False


USUAL = Options()


class ZeroShot:
    """Answers as `inner` does, and says what `around.lint` finds in the prompt."""

    def __init__(self, inner: Model, options: Options = USUAL, around: Around = NOTHING) -> None:
        self._inner = inner
        self._options = options
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call) if self._options.lint else self._inner.answer(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        lint = self._around.lint
        if lint is None:
            call.trace.warn("no linter is here, so the prompt was not looked at")
        else:
            yield Delta(step=Step(NAME, "done", {"findings": await asyncio.to_thread(lint, call)}))
        async with aclosing(self._inner.answer(call)) as deltas:
            async for delta in deltas:
                yield delta
