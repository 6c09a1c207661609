"""Where an agent's tools come from that come and go while the gateway runs.

Knows shapes only. Invariant: what a source does not give when it is looked at can't be called, whatever it gave before.
"""

from collections.abc import Mapping
from typing import Protocol

from loam.agents.outcome import AgentTool


class Source(Protocol):
    async def look(self) -> Mapping[str, AgentTool]:
        """The tools that may be used now, by the names that the model knows; asked for anew, never raises."""
        ...

    def absent(self, name: str) -> str:
        """Why a tool was not given at the last look; empty where the source knows no such tool."""
        ...
