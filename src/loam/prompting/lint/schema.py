"""Whether a value keeps to a JSON Schema, as far as examples in a prompt need it.

Pure. Knows the keywords that prompts' schemas use; what it does not know it lets pass, so it never accuses wrongly. The
answers of models are validated elsewhere, by a whole validator. Invariant: every problem names the place in the value.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def violations(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong, the first thing first; empty where nothing is."""
    return list(_walk(schema, value, "", schema, 0))


def _walk(schema: Any, value: Any, place: str, root: dict[str, Any], depth: int) -> Iterator[str]:
    if not isinstance(schema, dict) or depth > 50:
        if schema is False:
            yield f"{place or 'the value'} is not allowed"
        return
    rules = _resolved(cast("dict[str, Any]", schema), root)
    here = place or "the value"
    if not _is_of(rules.get("type"), value):
        yield f"{here} is {_name(value)}, not {_listed(rules['type'])}"
        return
    if "enum" in rules and value not in rules["enum"]:
        yield f"{here} is {value!r}, which is none of {_listed(rules['enum'])}"
    if "const" in rules and value != rules["const"]:
        yield f"{here} is {value!r}, not {rules['const']!r}"
    choices = cast("list[Any]", rules.get("anyOf") or rules.get("oneOf") or [])
    if choices and all(list(_walk(one, value, place, root, depth + 1)) for one in choices):
        yield f"{here} fits none of the alternatives"
    if isinstance(value, dict):
        yield from _object(rules, cast("dict[str, Any]", value), place, root, depth)
    elif isinstance(value, list):
        yield from _array(rules, cast("list[Any]", value), place, root, depth)
    else:
        yield from _scalar(rules, value, here)


def _resolved(rules: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The rules behind a `$ref` within the same schema."""
    for _ in range(20):
        ref = rules.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            break
        found: Any = root
        for part in ref[2:].split("/"):
            found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            return {}
        rules = cast("dict[str, Any]", found)
    return rules


def _object(
    rules: dict[str, Any], value: dict[str, Any], place: str, root: dict[str, Any], depth: int
) -> Iterator[str]:
    known = cast("dict[str, Any]", rules.get("properties") or {})
    for name in cast("list[str]", rules.get("required") or []):
        if name not in value:
            yield f'{place or "the value"} lacks the key "{name}"'
    more = rules.get("additionalProperties", True)
    for name, inner in value.items():
        if name in known:
            yield from _walk(known[name], inner, f"{place}/{name}", root, depth + 1)
        elif more is False and not rules.get("patternProperties"):
            yield f'{place or "the value"} has the key "{name}", which the schema does not know'
        elif isinstance(more, dict):
            yield from _walk(more, inner, f"{place}/{name}", root, depth + 1)


def _array(rules: dict[str, Any], value: list[Any], place: str, root: dict[str, Any], depth: int) -> Iterator[str]:
    if len(value) < rules.get("minItems", 0) or len(value) > rules.get("maxItems", len(value)):
        yield f"{place or 'the value'} has {len(value)} items"
    if "items" in rules:
        for number, inner in enumerate(value):
            yield from _walk(rules["items"], inner, f"{place}/{number}", root, depth + 1)


def _scalar(rules: dict[str, Any], value: Any, here: str) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) < rules.get("minLength", 0) or len(value) > rules.get("maxLength", len(value)):
            yield f"{here} has {len(value)} characters"
        if isinstance(rules.get("pattern"), str) and not _matches(rules["pattern"], value):
            yield f"{here} does not match {rules['pattern']}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value < rules.get("minimum", value) or value > rules.get("maximum", value):
            yield f"{here} is {value}, out of its bounds"
        if value <= rules.get("exclusiveMinimum", value - 1) or value >= rules.get("exclusiveMaximum", value + 1):
            yield f"{here} is {value}, out of its bounds"


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # written for another dialect of regular expressions
        return True


def _is_of(wanted: Any, value: Any) -> bool:
    names = cast("list[str]", wanted if isinstance(wanted, list) else [wanted] if isinstance(wanted, str) else [])
    return not names or any(_one_of(name, value) for name in names)


def _one_of(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _name(value: Any) -> str:
    return next((name for name in _TYPES if _one_of(name, value)), type(value).__name__)


def _listed(value: Any) -> str:
    return " or ".join(str(one) for one in cast("list[Any]", value)) if isinstance(value, list) else str(value)
