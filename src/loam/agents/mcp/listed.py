"""A tool as a server describes it, and what is kept of it before a model or a person sees it.

Pure: text in, text out. A description is written by somebody else and read by the model, so it is what an attack would
use. Invariants: the hash covers every sign as it came; no sign that can't be seen reaches the model; a person is shown
the signs that can't be seen, by their numbers.
"""

import difflib
import hashlib
import unicodedata
from typing import Any, cast

import msgspec
from msgspec import Struct

from loam.core.calls import Tool
from loam.core.errors import ModelFailure
from loam.prompting.schemas import Schema

_LARGEST = 65_536  # bytes of a tool's description and schema; more than that is no description
_SHOWN = 4000  # characters of a description that the model is shown
_DIFFERENCE = 400  # lines of a difference that a person is shown


class Listed(Struct, frozen=True):
    """`schema` is the JSON Schema of the arguments. Annotations are left out: a server says of itself what it likes."""

    name: str
    description: str
    schema: dict[str, Any]

    @property
    def hash(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def unusable(listed: Listed) -> str:
    """Why a tool can't be offered to a model, whoever trusts it; empty where it can."""
    size = len(msgspec.json.encode(listed))
    if size > _LARGEST:
        return f"its description and schema have {size} bytes; {_LARGEST} are the most"
    if listed.schema.get("type") != "object":
        return "its schema is not one of an object"
    if any(hidden(key) for key in _keys(listed.schema)):
        return "its schema has names with signs that can't be seen"
    try:
        Schema(listed.schema, "its schema")
    except ModelFailure as error:
        return error.failure.message
    return ""


def hidden(text: str) -> list[str]:
    """The signs that can't be seen, as U+200B; a single variation selector, as after an emoji, is none."""
    found: list[str] = []
    before = ""
    for sign in text:
        if _invisible(sign) or (_selects(sign) and _selects(before)):
            found.append(f"U+{ord(sign):04X}")
        before = sign
    return found


def concealed(listed: Listed) -> list[str]:
    """The signs that can't be seen in the description and in the schema's texts."""
    return hidden(listed.description) + [sign for text in _texts(listed.schema) for sign in hidden(text)]


def offered(listed: Listed, name: str, server: str, description: str = "") -> Tool:
    """The tool as the model is shown it; `description` is the operator's own, in place of the server's."""
    plain = _plain(listed.description)
    cut = f" (cut: {len(plain) - _SHOWN} characters left out)" if len(plain) > _SHOWN else ""
    said = description or f"{listed.name} of the server {server}, which says of it: {plain[:_SHOWN]}{cut}"
    return Tool(name, said, _plain_schema(listed.schema))


def difference(pinned: Listed | None, now: Listed | None) -> str:
    """What changed, as a unified diff, with every sign visible."""
    lines = list(difflib.unified_diff(_lines(pinned), _lines(now), "pinned", "now", lineterm=""))
    more = [f"({len(lines) - _DIFFERENCE} lines left out)"] if len(lines) > _DIFFERENCE else []
    return "\n".join(lines[:_DIFFERENCE] + more)


def visible(text: str) -> str:
    """A text for a person's eyes and terminal: signs that can't be seen, and those that move a cursor, as numbers."""
    return "".join(
        f"\\u{{{ord(sign):x}}}" if (_invisible(sign) and sign != "\n") or _selects(sign) else sign for sign in text
    )


def _lines(listed: Listed | None) -> list[str]:
    if listed is None:
        return []
    schema = msgspec.json.format(msgspec.json.encode(listed.schema, order="sorted"), indent=2).decode()
    return visible(f"{listed.name}\n\n{listed.description}\n\n{schema}").splitlines()


def _plain(text: str) -> str:
    return "".join(sign for sign in text if not _invisible(sign) and not _selects(sign))


def _plain_schema(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {key: _plain_schema(part) for key, part in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain_schema(part) for part in cast("list[Any]", value)]
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in cast("dict[str, Any]", value).values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in cast("list[Any]", value) for text in _texts(part)]
    return []


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return [*inner, *(key for part in inner.values() for key in _keys(part))]
    if isinstance(value, list):
        return [key for part in cast("list[Any]", value) for key in _keys(part)]
    return []


def _invisible(sign: str) -> bool:
    """Formatting, control, private, unassigned and surrogate signs (Unicode's C), but for line ends and tabs."""
    return unicodedata.category(sign)[0] == "C" and sign not in "\n\t\r"


def _selects(sign: str) -> bool:
    """Variation selectors: one after a sign chooses its picture, a row of them can carry a message."""
    return "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef"
