"""What a tool is to an agent, and what a call of one gives.

Knows shapes only. Invariant: a call of a tool has an outcome, whatever happens to it; it never raises of its own.
"""

from typing import Any, Protocol

from msgspec import Struct

from loam.core.calls import Citation, Principal, Tool


class Outcome(Struct, frozen=True):
    """`doubt`: the call went out and no answer came, so nobody knows whether it was done."""

    text: str
    is_error: bool = False
    citations: tuple[Citation, ...] = ()
    doubt: bool = False


class Rules(Protocol):
    """What the operator says of a tool: whether it reads, whether a person is asked, and how much it may say."""

    @property
    def reads(self) -> bool: ...
    @property
    def asks(self) -> bool: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def max_result(self) -> int: ...


class AgentTool(Protocol):
    """`settings` say whether it reads or writes and whether a person is asked; `call` never raises of its own.

    `key` names the call and no other: the same key once more is the same call, made again after a crash.
    """

    @property
    def tool(self) -> Tool: ...
    @property
    def settings(self) -> Rules: ...

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome: ...
