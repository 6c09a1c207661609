"""What the native API can do with the tools of agents' MCP servers: look at them, and trust what was looked at.

Knows the toolboxes. Invariant: administrators alone trust a tool, and only as it was shown to them.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from loam.agents.mcp.toolbox import Toolbox, ToolView
from loam.core.errors import refuse
from loam.core.operations import Asked, Operation

_TOOLS = "/loam/v1/agents/{name}/tools"


class Tools(Struct, frozen=True):
    tools: list[ToolView]


class Trust(Struct, frozen=True, forbid_unknown_fields=True):
    hash: Annotated[str, Meta(description="`hash` of the tool as it was reviewed; refused if it is another by now.")]


def tool_operations(toolboxes: Mapping[str, Toolbox | None]) -> tuple[Operation, ...]:
    """`toolboxes` has every agent, with None for one that names no MCP server."""

    def toolbox_of(name: str) -> Toolbox | None:
        if name not in toolboxes:
            raise refuse("not_found", f"there is no agent {name!r}; there are: {', '.join(toolboxes) or 'none'}")
        return toolboxes[name]

    async def tools(asked: Asked) -> Tools:
        toolbox = toolbox_of(asked.path["name"])
        return Tools([] if toolbox is None else await toolbox.views())

    async def trust(asked: Asked) -> Tools:
        toolbox = toolbox_of(asked.path["name"])
        if toolbox is None:
            raise refuse("not_found", f"{asked.path['name']} has no MCP servers")
        return Tools(await toolbox.trust(asked.path["tool"], asked.body.hash, asked.principal.key_id))

    return (
        Operation(
            method="GET", path=_TOOLS, summary="An agent's tools of MCP servers, as they are now", run=tools,
            answer=Tools,
        ),
        Operation(
            method="POST", path=_TOOLS + "/{tool}/trust", summary="Trust a tool of an MCP server as it was reviewed",
            run=trust, body=Trust, answer=Tools,
        ),
    )  # fmt: skip
