"""What a tool is to an agent, and what a call of one gives.

Knows shapes only. Invariant: a call of a tool has an outcome, whatever happens to it; it never raises of its own.
"""

from typing import Any, Protocol

from msgspec import Struct

from loam.agents.settings import ToolSettings
from loam.core.calls import Citation, Principal, Tool


class Outcome(Struct, frozen=True):
    """`doubt`: the call went out and no answer came, so nobody knows whether it was done."""

    text: str
    is_error: bool = False
    citations: tuple[Citation, ...] = ()
    doubt: bool = False


class AgentTool(Protocol):
    """`settings` say whether it reads or writes and whether a person is asked; `call` never raises of its own.

    `key` names the call and no other: the same key once more is the same call, made again after a crash.
    """

    tool: Tool
    settings: ToolSettings

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome: ...
