"""All settings in one place: each room's own, read from loam.toml and the environment.

Knows every room's settings and nothing of what they do. Invariant: rooms never read the environment; what is wrong in
the settings is told with its place and, where a name is nearly right, with the name that was meant.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct

from loam.agents.settings import AgentSettings
from loam.core.errors import SettingsError
from loam.gateway.budget import BudgetSettings
from loam.gateway.cache import CacheSettings
from loam.gateway.door import DoorSettings
from loam.gateway.endpoint import HttpSettings
from loam.gateway.fallback import FallbackSettings
from loam.gateway.keys import KeysSettings
from loam.gateway.ledger import LedgerSettings
from loam.gateway.prompted import PromptSettings
from loam.gateway.retention import RetentionSettings
from loam.gateway.retry import RetrySettings
from loam.gateway.route import RouteSettings
from loam.gateway.server import ServerSettings
from loam.grounding.ground import GroundSettings
from loam.planners.prices import PriceOverride
from loam.prompting.lint.settings import LintSettings
from loam.prompting.technique import TechniqueSettings
from loam.providers.provider import ProviderSettings
from loam.storage.database import Durability

FILE = "loam.toml"


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What loam.toml may say; every part has defaults, so an empty file and no file are fine."""

    data: Annotated[str, Meta(description="Folder for everything Loam keeps; one gateway uses it at a time.")] = ".loam"
    durability: Annotated[
        Durability,
        Meta(
            description="What a recorded call survives: `process` a killed process, `power` also a power cut (slower)."
        ),
    ] = "process"
    server: ServerSettings = ServerSettings()
    http: HttpSettings = HttpSettings()
    door: DoorSettings = DoorSettings()
    keys: KeysSettings = KeysSettings()
    ledger: LedgerSettings = LedgerSettings()
    retention: RetentionSettings = RetentionSettings()
    budget: BudgetSettings = BudgetSettings()
    cache: CacheSettings = CacheSettings()
    retry: RetrySettings = RetrySettings()
    fallback: FallbackSettings = FallbackSettings()
    grounding: GroundSettings = GroundSettings()
    prompts: PromptSettings = PromptSettings()
    techniques: TechniqueSettings = TechniqueSettings()
    lint: LintSettings = LintSettings()
    default_route: Annotated[
        str, Meta(description="Route or provider/model for model names that nothing else claims; empty for none.")
    ] = ""
    agents: dict[str, AgentSettings] = {}
    routes: dict[str, RouteSettings] = {}
    providers: dict[str, ProviderSettings] = {}
    prices: tuple[PriceOverride, ...] = ()


def load(environment: Mapping[str, str], *, file: Path | None = None) -> Settings:
    """Reads `file` (or LOAM_CONFIG, or ./loam.toml where there is one), then LOAM_* variables on top.

    `LOAM_SERVER__PORT=8080` sets `port` of `[server]`; LOAM_DATA, LOAM_HOST and LOAM_PORT are short forms. A text
    `env:NAME` anywhere in the file stands for that variable. Raises SettingsError.
    """
    named = file or (Path(environment["LOAM_CONFIG"]) if environment.get("LOAM_CONFIG") else None)
    path = named or Path(FILE)
    raw = _read(path) if named is not None or path.exists() else {}
    place = str(path) if raw else "the environment"
    for name, value in sorted(environment.items()):
        keys = _SHORT.get(name) or _long(name)
        if keys:
            _put(raw, keys, value, name)
    return parse(_resolved(raw, environment, ""), place)


def parse(raw: dict[str, Any], place: str = FILE) -> Settings:
    """Settings from plain data. Raises SettingsError."""
    try:
        return msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{place}: {_explain(str(error))}") from None


_SHORT = {"LOAM_DATA": ("data",), "LOAM_HOST": ("server", "host"), "LOAM_PORT": ("server", "port")}


def _long(name: str) -> tuple[str, ...]:
    if not name.startswith("LOAM_") or "__" not in name:
        return ()
    return tuple(part.lower() for part in name[5:].split("__"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _put(raw: dict[str, Any], keys: tuple[str, ...], value: str, name: str) -> None:
    section: dict[str, Any] = raw
    for key in keys[:-1]:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{name} sets a value inside {key!r}, which is not a section")
        section = cast("dict[str, Any]", inner)
    section[keys[-1]] = _value(value)


def _value(text: str) -> Any:
    """A variable's text as the list, table, number or truth it looks like."""
    if text[:1] in "[{" or text in ("true", "false"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _resolved(value: Any, environment: Mapping[str, str], path: str) -> Any:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {key: _resolved(inner, environment, f"{path}.{key}".lstrip(".")) for key, inner in table.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_resolved(inner, environment, path) for inner in items]
    if isinstance(value, str) and value.startswith("env:"):
        name = value[4:]
        if name not in environment:
            raise SettingsError(f"{path} asks for the environment variable {name}, which is not set")
        return environment[name]
    return value


def _explain(error: str) -> str:
    """The decoder's message, with the field's path as TOML writes it and a guess at a misspelt name."""
    message, _, path = error.partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.*?)`", message)
    if unknown is None:
        return f"{place}: {message}" if place else message
    names = _names_in(place)
    close = difflib.get_close_matches(unknown[1], names, 1)
    guess = f"; did you mean {close[0]!r}?" if close else f"; it knows {', '.join(names)}"
    return f"[{place}] has no setting {unknown[1]!r}{guess}" if place else f"no setting {unknown[1]!r}{guess}"


def _names_in(place: str) -> list[str]:
    struct: Any = Settings
    for part in [part for part in re.split(r"\.|\[.*?\]", place) if part]:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
        struct = _struct_in(fields.get(part, Settings))
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _struct_in(annotation: Any) -> Any:
    """The Struct that a section, or an entry of a table or list of sections, is made of."""
    inner = getattr(annotation, "__args__", ())
    return next((a for a in (annotation, *inner) if isinstance(a, type) and issubclass(a, Struct)), Settings)
