"""What loam.toml says of agents: who they are, which tools they have, and where they must stop.

Knows names and numbers only. Invariant: a tool is a `write` tool unless the settings say that it only reads, and a
write tool needs a person's approval unless the settings say otherwise.
"""

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from loam.agents.mcp import settings as mcp_settings
from loam.agents.mcp.settings import McpSettings
from loam.core.calls import AGENT
from loam.core.errors import SettingsError


class ToolSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: Annotated[Literal["python", "documents", "http"], Meta(description="What stands behind the tool.")]
    function: Annotated[
        str, Meta(description="For `python`: `module:function` or `file.py:function`; it runs in a process of its own.")
    ] = ""
    collection: Annotated[str, Meta(description="For `documents`: the collection that is searched.")] = ""
    passages: Annotated[int, Meta(ge=1, le=20, description="For `documents`: passages found at most.")] = 5
    method: Annotated[
        Literal["GET", "POST", "PUT", "PATCH", "DELETE"], Meta(description="For `http`: the request's method.")
    ] = "GET"
    url: Annotated[
        str,
        Meta(description="For `http`: the address, with variables in its path: `https://host/items/{id}`."),
    ] = ""
    parameters: Annotated[
        dict[str, Any] | str,
        Meta(description="For `http`: JSON Schema of the arguments, as a table or as the path of a JSON file."),
    ] = {}
    query: Annotated[
        dict[str, str], Meta(description='For `http`: query parameters, such as `{lang = "en", q = "{search}"}`.')
    ] = {}
    body: Annotated[
        Literal["", "json"],
        Meta(description="For `http`: `json` sends the arguments that path and query do not use as a JSON object."),
    ] = ""
    headers: Annotated[dict[str, str], Meta(description="For `http`: headers that are sent as they stand.")] = {}
    headers_env: Annotated[
        dict[str, str],
        Meta(description="For `http`: headers whose values are in environment variables, by the variable's name."),
    ] = {}
    description: Annotated[str, Meta(description="What the model is told; empty: the function's first line.")] = ""
    access: Annotated[
        Literal["", "read", "write"],
        Meta(description="Whether it changes anything; empty: `documents` and a GET of `http` read, all else writes."),
    ] = ""
    idempotent: Annotated[bool, Meta(description="Whether doing it twice is the same as doing it once.")] = False
    approval: Annotated[
        bool | None, Meta(description="Whether a person must approve each call; left out: for write tools.")
    ] = None
    seconds: Annotated[float, Meta(gt=0, description="Longest time of one call.")] = 30.0
    memory_mb: Annotated[int, Meta(ge=64, description="For `python`: address space that the process may have.")] = 1024
    network: Annotated[
        bool,
        Meta(
            description="For `python`: whether it may reach the network. For `http`: whether the host may have an "
            "address of this machine or of a private network."
        ),
    ] = False
    max_result: Annotated[int, Meta(ge=100, description="Characters of a result that the model is shown.")] = 16_000

    @property
    def reads(self) -> bool:
        by_kind = self.kind == "documents" or (self.kind == "http" and self.method == "GET")
        return self.access == "read" or (not self.access and by_kind)

    @property
    def asks(self) -> bool:
        return not self.reads if self.approval is None else self.approval


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Each is looked at before the next call is made, never after."""

    steps: Annotated[int, Meta(ge=1, description="Calls of the model.")] = 20
    tool_calls: Annotated[int, Meta(ge=0, description="Calls of tools.")] = 40
    tokens: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Tokens, prompts and answers together.")] = (
        None
    )
    max_cost_usd: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Dollars.")] = None
    seconds: Annotated[float, Meta(gt=0, description="Seconds at work; waiting for a person does not count.")] = 600.0
    repeats: Annotated[int, Meta(ge=2, description="The same call of the same tool so often ends the run.")] = 3


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Annotated[str, Meta(description="Who thinks: a route or provider/model.")]
    instructions: Annotated[str, Meta(description="What the agent is there for.")] = ""
    max_tokens: Annotated[int, Meta(ge=1, description="Longest answer of one step.")] = 1024
    attempts: Annotated[int, Meta(ge=1, description="How often a step is tried where the provider fails.")] = 3
    approval_seconds: Annotated[
        float,
        Meta(gt=0, description="Seconds within which a call that waits must be decided on; then it counts as denied."),
    ] = 604_800.0
    calling: Annotated[
        Literal["auto", "native", "text"],
        Meta(description="How the model calls tools: by its own means, in text (ReAct), or `auto`: as it can."),
    ] = "auto"
    tools: dict[str, ToolSettings] = {}
    mcp: dict[str, McpSettings] = {}
    limits: LimitSettings = LimitSettings()

    def check(self, name: str) -> None:
        """Raises SettingsError for a model that is an agent, or a tool that lacks what its kind needs."""
        if self.model.startswith(AGENT):
            raise SettingsError(f"[agents.{name}] asks {self.model}: an agent asks a model, never another agent")
        for tool, settings in self.tools.items():
            check_name(tool, f"[agents.{name}.tools.{tool}]")
            needs = {"python": "function", "documents": "collection", "http": "url"}[settings.kind]
            if not getattr(settings, needs):
                raise SettingsError(f"[agents.{name}.tools.{tool}] is of kind {settings.kind} and needs `{needs}`")
        mcp_settings.check(f"agents.{name}", self.mcp, self.tools)


def check_name(tool: str, where: str) -> None:
    """Raises SettingsError for a name that providers refuse."""
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", tool):
        raise SettingsError(f"{where}: a tool's name is 1 to 64 letters, digits, _ and -, not {tool!r}")
