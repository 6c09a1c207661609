"""Formats of JSON Schema that llguidance holds to more loosely than the standards they name, made as narrow as those.

Knows schemas as plain data. Invariant: whatever fits the schema that is given back fits the one that was given; an
address of more than 64 letters and a leap second, which fit the standards, are never written.
"""

from typing import Any, cast

_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SCHEMAS = ("items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains")
_LONGEST_EMAIL = 64
"""RFC 5321 allows 64 before the `@` and 254 in all, which no one number says; below this one both hold."""
_NO_LEAP = {"time": r"^[0-9]{2}:[0-9]{2}:[0-5]", "date-time": r"^[-0-9]{10}.[0-9]{2}:[0-9]{2}:[0-5]"}
"""Second 60 is one at the end of few days (RFC 3339); llguidance allows it at any time."""


def narrowed(schema: Any) -> Any:
    """The schema with its formats as narrow as their standards; names of members and plain data are left alone."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for word, value in cast("dict[str, Any]", schema).items():
        if word in _MAPS and isinstance(value, dict):
            kept[word] = {name: narrowed(one) for name, one in cast("dict[str, Any]", value).items()}
        elif word in _LISTS and isinstance(value, list):
            kept[word] = [narrowed(one) for one in cast("list[Any]", value)]
        else:
            kept[word] = narrowed(value) if word in _SCHEMAS else value
    form = kept.get("format")
    if form == "email":
        most = kept.get("maxLength")
        kept["maxLength"] = min(most, _LONGEST_EMAIL) if isinstance(most, int) else _LONGEST_EMAIL
    elif form in _NO_LEAP and "pattern" not in kept:
        kept["pattern"] = _NO_LEAP[form]
    return kept
