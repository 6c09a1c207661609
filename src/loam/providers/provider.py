"""What a provider is: the settings that every kind understands, and the row that makes a kind known.

Knows no provider by name. Invariant: neither a key nor a header's value shows when settings are printed.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.clock import Clock
from loam.core.errors import SettingsError
from loam.core.ports import Model, Timeouts, Transport
from loam.engine.settings import LocalSettings
from loam.providers.script import Line
from loam.providers.transport import read_url

Vectors = Callable[[Path, Sequence[str]], Awaitable[list[list[float]]]]
"""Makes a vector of each text with the sentence-transformers folder at a path."""

Seconds = Annotated[float, Meta(gt=0)]


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[providers.NAME]` of loam.toml."""

    kind: Annotated[
        str, Meta(description="What it speaks; without it NAME says so, else OpenAI's format is meant.")
    ] = ""
    base_url: Annotated[
        str, Meta(description="Where it answers, as in https://host/v1; the kind's own where empty.")
    ] = ""
    api_key: Annotated[str, Meta(description="Its key; `env:NAME` takes it from the environment.")] = ""
    models: Annotated[
        tuple[str, ...], Meta(description="Models to list for clients; others can be asked all the same.")
    ] = ()
    headers: Annotated[dict[str, str], Meta(description="More headers for each request.")] = {}
    lacks: Annotated[
        tuple[str, ...], Meta(description="Fields of a request that this server refuses; they are left out.")
    ] = ()
    default_max_tokens: Annotated[
        int, Meta(description="Longest answer where the client names none and the provider wants a number.", ge=1)
    ] = 4096
    connect_timeout: Annotated[Seconds, Meta(description="Seconds to connect in.")] = 5.0
    first_byte_timeout: Annotated[Seconds, Meta(description="Seconds until an answer must begin.")] = 120.0
    idle_timeout: Annotated[Seconds, Meta(description="Seconds of silence inside an answer.")] = 60.0
    max_connections: Annotated[int, Meta(description="Connections at the same time.", ge=1)] = 1000
    max_answer: Annotated[int, Meta(description="Bytes of a whole answer, or of one event of a stream.", ge=1024)] = (
        33_554_432
    )
    prices: Annotated[str, Meta(description="Its name in the price list; `free` where it costs nothing.")] = ""
    ca_file: Annotated[str, Meta(description="Certificates (PEM) to trust besides those of the system.")] = ""
    script: tuple[Line, ...] = ()
    engine: LocalSettings = LocalSettings()

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(self.connect_timeout, self.first_byte_timeout, self.idle_timeout)

    def __repr__(self) -> str:
        """Without what is secret."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["api_key"] = "***" if self.api_key else ""
        shown["headers"] = dict.fromkeys(self.headers, "***")
        return f"ProviderSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class ProviderKind(Struct, frozen=True, kw_only=True):
    """One row of the table of kinds. `build` gets the provider's configured name first, and raises SettingsError.

    `owns` are prefixes of model names that go there by themselves. `prices` is its name in the price list, `free` where
    nothing costs anything, empty where the kind does not tell.
    """

    name: str
    title: str
    build: Callable[[str, ProviderSettings, Transport, Clock], Model]
    base_url: str = ""
    key_variable: str = ""
    owns: tuple[str, ...] = ()
    prices: str = ""

    def address(self, name: str, settings: ProviderSettings) -> str:
        """Where the provider called `name` answers, without a slash at the end. Raises SettingsError."""
        if self.key_variable and not settings.api_key and not settings.base_url:
            raise SettingsError(f'[providers.{name}] has no key; write api_key = "env:{self.key_variable}"')
        url = (settings.base_url or self.base_url).rstrip("/")
        if not url:
            raise SettingsError(f'[providers.{name}] needs base_url = "http://host:port/v1"')
        try:
            read_url(url)
        except ValueError as error:
            raise SettingsError(f"[providers.{name}] base_url: {error}") from None
        return url
