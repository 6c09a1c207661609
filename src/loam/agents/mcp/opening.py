"""Sets up the MCP servers that agents name; begins none of them.

Knows settings and the environment. Invariants: the SDK is loaded only where an agent names a server; a server has the
variables that were named, and the gateway starts whether or not they are there.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from loam.agents.mcp.pins import Pins
from loam.agents.mcp.servers import Server, Session, Way
from loam.agents.mcp.settings import McpSettings
from loam.agents.mcp.toolbox import Shelf, Toolbox
from loam.core.clock import Clock
from loam.core.errors import SettingsError
from loam.storage.database import Database


def open_toolbox(
    agent: str, wanted: Mapping[str, McpSettings], environment: Mapping[str, str], database: Database, clock: Clock
) -> Toolbox | None:
    """The tools of an agent's MCP servers, or None where it names none. Raises SettingsError without the SDK."""
    if not wanted:
        return None
    shelves = [
        Shelf(
            Server(name, _Late(_way_to(settings, environment)), clock, settings.start_seconds),
            settings,
            Pins(database, clock, agent, name),
        )
        for name, settings in wanted.items()
    ]
    return Toolbox(shelves)


def _way_to(settings: McpSettings, environment: Mapping[str, str]) -> Callable[[], Way]:
    try:
        from loam.agents.mcp.client import Http, Stdio  # noqa: PLC0415 - the SDK is an extra
    except ImportError as error:
        raise SettingsError("MCP servers need the official SDK: pip install 'loam[mcp]'") from error

    def way() -> Way:
        if settings.url:
            headers = {header: _value(environment, name) for header, name in settings.headers_env.items()}
            return Http(settings.url, headers)
        given = {name: _value(environment, name) for name in settings.env}
        return Stdio((settings.command, *settings.args), {**given, **settings.values})

    return way


class _Late:
    """A way that is found when it is gone, so that a variable that is missing is said then."""

    def __init__(self, way: Callable[[], Way]) -> None:
        self._find = way
        self._way: Way | None = None

    @property
    def words(self) -> str:
        return "" if self._way is None else self._way.words

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Session, None]:
        self._way = None
        self._way = self._find()
        async with self._way.open() as session:
            yield session


def _value(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if value is None:
        raise SettingsError(f"the environment variable {name} is not set")
    if not value.isprintable():
        raise SettingsError(f"the environment variable {name} holds signs that can't be passed on")
    return value
