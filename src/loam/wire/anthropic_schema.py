"""A JSON Schema in the dialect that Anthropic's structured outputs take.

Knows which words the API refuses. Invariant: an answer that fits the result fits the original too, but for words that
moved into descriptions, where the model still reads them; whoever checks the answer checks it against the original.
"""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_PLAIN = frozenset({"type", "enum", "const", "$ref", "title", "description", "default", "required"})
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf")
_RENAMED = {"oneOf": "anyOf"}
_DROPPED = ("additionalProperties", "$schema", "$id")
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_DEEPEST = 32


class _Unsayable(Exception):
    """The dialect has no way to say this."""


def accepted(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema as the API takes it; None where it can't be said: objects of free form, or nesting without end."""
    try:
        return _closed(schema, 0)
    except _Unsayable:
        return None


def _closed(schema: Any, depth: int) -> dict[str, Any]:
    said = _checked(schema, dict[str, Any])
    if depth > _DEEPEST:
        raise _Unsayable
    kept: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    for word, value in said.items():
        if word in _PLAIN or _has_a_word(word, value):
            kept[word] = value
        elif (inner := _inner(word, value, depth + 1)) is not None:
            kept[_RENAMED.get(word, word)] = inner
        elif word not in _DROPPED:
            moved[word] = value
    kind = kept.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        if not kept.get("properties") and said.get("additionalProperties") is not False:
            raise _Unsayable
        kept["additionalProperties"] = False
    if moved:
        remark = msgspec.json.encode(moved).decode()
        kept["description"] = f"{kept['description']} {remark}" if "description" in kept else remark
    return kept


def _has_a_word(word: str, value: Any) -> bool:
    return (word == "format" and value in _FORMATS) or (word == "minItems" and value in (0, 1))


def _inner(word: str, value: Any, depth: int) -> Any:
    """What holds schemas, each of them closed; None for a word that holds none."""
    if word in _NAMED:
        return {name: _closed(schema, depth) for name, schema in _checked(value, dict[str, Any]).items()}
    if word in _LISTED:
        return [_closed(schema, depth) for schema in _checked(value, list[Any])]
    return _closed(value, depth) if word == "items" else None


def _checked(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _Unsayable from error
