"""What loam.toml says of an agent's MCP servers: how each is reached, and which of its tools the agent has.

Knows names and numbers only. Invariants: a tool that is not named here does not exist for the agent; a tool writes and
asks a person unless the operator says otherwise, whatever its server says; no secret stands in the settings, only the
names of the environment variables that hold them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from loam.core.errors import SettingsError

_SERVER = re.compile(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*")
_LONGEST = 64  # characters that every provider takes in a tool's name


class McpToolSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    access: Annotated[
        Literal["read", "write"], Meta(description="Whether it changes anything; the server's own word does not count.")
    ] = "write"
    idempotent: Annotated[bool, Meta(description="Whether doing it twice is the same as doing it once.")] = False
    approval: Annotated[
        bool | None, Meta(description="Whether a person must approve each call; left out: for write tools.")
    ] = None
    description: Annotated[str, Meta(description="What the model is told; empty: what the server says of it.")] = ""
    seconds: Annotated[float, Meta(gt=0, description="Longest time of one call.")] = 30.0
    max_result: Annotated[int, Meta(ge=100, description="Characters of a result that the model is shown.")] = 16_000

    @property
    def reads(self) -> bool:
        return self.access == "read"

    @property
    def asks(self) -> bool:
        return not self.reads if self.approval is None else self.approval


class McpSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    command: Annotated[str, Meta(description="For stdio: the program that is started.")] = ""
    args: Annotated[tuple[str, ...], Meta(description="For stdio: its arguments.")] = ()
    env: Annotated[
        tuple[str, ...],
        Meta(description="For stdio: the environment variables that it is given, by name; it has no others."),
    ] = ()
    values: Annotated[
        dict[str, str], Meta(description="For stdio: variables whose values are no secret and stand here.")
    ] = {}
    url: Annotated[str, Meta(description="For streamable HTTP: the server's address.")] = ""
    headers_env: Annotated[
        dict[str, str],
        Meta(description="For streamable HTTP: headers, each with the environment variable that holds its value."),
    ] = {}
    trust: Annotated[
        Literal["first", "review"],
        Meta(description="first: a tool is trusted as it is first seen. review: a person trusts it before it is used."),
    ] = "first"
    start_seconds: Annotated[float, Meta(gt=0, description="Longest time until the server is ready.")] = 30.0
    tools: Annotated[
        dict[str, McpToolSettings], Meta(description="The server's tools that the agent has, by the server's names.")
    ] = {}


def shown(server: str, tool: str) -> str:
    """The name by which the model knows a server's tool."""
    return f"{server}__{re.sub('[^A-Za-z0-9_-]', '_', tool)}"


def check(where: str, servers: Mapping[str, McpSettings], taken: Iterable[str]) -> None:
    """Raises SettingsError for a server that can't be reached as it is written, and for a name that two tools have."""
    names = set(taken)
    for server, settings in servers.items():
        wrong = _wrong(server, settings) or next(_unnameable(server, settings, names), "")
        if wrong:
            raise SettingsError(f"[{where}.mcp.{server}] {wrong}")


def _wrong(server: str, settings: McpSettings) -> str:
    if not _SERVER.fullmatch(server):
        return "has a name with something else than letters, digits, hyphens and single underscores"
    if bool(settings.command) == bool(settings.url):
        return "needs either `command`, for a server that is started here, or `url`"
    if settings.url and urlsplit(settings.url).scheme not in ("http", "https"):
        return "has a `url` that is no http(s) address"
    if settings.url and (settings.args or settings.env or settings.values):
        return "has a `url`; `args`, `env` and `values` are for a `command`"
    if settings.command and settings.headers_env:
        return "has a `command`; `headers_env` is for a `url`"
    if twice := set(settings.env) & set(settings.values):
        return f"gives {', '.join(sorted(twice))} in `env` and in `values`"
    return "" if settings.tools else "names no tools, and only named ones are used; add [….tools.NAME]"


def _unnameable(server: str, settings: McpSettings, names: set[str]) -> Iterator[str]:
    for tool in settings.tools:
        name = shown(server, tool)
        if len(name) > _LONGEST:
            yield f"has a tool whose name, {name}, has more than {_LONGEST} characters; give the server a shorter name"
        if name in names:
            yield f"has a tool that would be called {name}, as another tool is"
        names.add(name)
