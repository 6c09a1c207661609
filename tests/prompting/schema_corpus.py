"""Schemas as people write them, and values for them: right ones, nearly right ones, and garbage.

`SCHEMAS` has 40 written by hand, of the kinds that trip providers and validators, and 220 made from a seed.
"""

import json
import random
from typing import Any

Json = Any

_TREE = {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#"}}}}
_LINKED = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v"],
            "additionalProperties": False,
        }
    },
}
_FORMATS = ("date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname", "duration")


def _object(properties: dict[str, Json], *required: str, **more: Json) -> dict[str, Json]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


WRITTEN: list[Json] = [
    True,
    {},
    {"type": "string"},
    {"type": ["integer", "null"]},
    {"const": {"a": [1, None]}},
    {"enum": ["red", 3, None, {"x": 1}]},
    _TREE,
    _LINKED,
    _object({"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}}, "name", "age"),
    _object({"größe": {"type": "number"}, "名前": {"type": "string", "maxLength": 3}, "😀": {}}, "größe", "名前", "😀"),
    _object({"a/b~c": {"type": "integer"}}, "a/b~c", additionalProperties=False),
    {"anyOf": [_object({"kind": {"const": "cat"}}, "kind"), _object({"kind": {"const": "dog"}, "n": {"type": "integer"}}, "kind", "n")]},  # noqa: E501 - a schema a line
    {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]},
    {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 9}]},
    {"not": {"type": "string"}},
    {"if": {"type": "integer"}, "then": {"minimum": 10}, "else": {"type": "boolean"}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "array", "contains": {"const": 7}, "minContains": 1, "maxContains": 2},
    {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False, "minProperties": 1},  # noqa: E501 - a schema a line
    {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "maxProperties": 3},
    {"type": "object", "dependentRequired": {"card": ["cvc"]}, "properties": {"card": {"type": "string"}}},
    {"type": "object", "unevaluatedProperties": False, "allOf": [{"properties": {"a": {"type": "integer"}}}]},
    {"type": "string", "pattern": "^(?=.*\\d)[A-Z]{2}\\d+$"},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.25},
    {"type": "integer", "minimum": -9007199254740993, "maximum": 9007199254740993},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "string"}], "additionalItems": False},  # noqa: E501 - a schema a line
    {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 3, "exclusiveMinimum": True},
    {"$defs": {"a b": {"type": "boolean"}}, "$ref": "#/$defs/a%20b"},
    {"type": "object", "properties": {"properties": {"type": "string"}, "$ref": {"type": "integer"}}, "required": ["properties", "$ref"]},  # noqa: E501 - a schema a line
    *({"type": "string", "format": name} for name in _FORMATS),
]  # fmt: skip


def _made(rng: random.Random, depth: int) -> Json:
    kinds = ["string", "integer", "number", "boolean", "enum", "format", "nullable"]
    kind = rng.choice(kinds if depth <= 0 else [*kinds, "object", "object", "array", "anyOf", "allOf"])
    match kind:
        case "object":
            names = rng.sample(
                ["id", "name", "Ärger", "list", "日付", "a b", "total", "x-y", "note", "type"], rng.randint(1, 5)
            )
            required = [name for name in names if rng.random() < 0.6]
            closed = {"additionalProperties": False} if rng.random() < 0.5 else {}
            return {
                "type": "object",
                "properties": {name: _made(rng, depth - 1) for name in names},
                "required": required,
                **closed,
            }
        case "array":
            least = rng.randint(0, 2)
            return {
                "type": "array",
                "items": _made(rng, depth - 1),
                "minItems": least,
                "maxItems": least + rng.randint(0, 3),
            }
        case "anyOf" | "allOf":
            if kind == "allOf":
                return {"allOf": [{"type": "integer"}, {"minimum": rng.randint(-9, 9)}]}
            return {"anyOf": [_made(rng, depth - 1) for _ in range(rng.randint(2, 3))]}
        case "nullable":
            return {"type": [rng.choice(["string", "integer", "boolean"]), "null"]}
        case "enum":
            return {"enum": rng.sample(["a", "b", "ü", 1, 2.5, None, True, "long text"], rng.randint(1, 4))}
        case "format":
            return {"type": "string", "format": rng.choice(_FORMATS)}
        case "string":
            bounds = [{}, {"minLength": rng.randint(1, 4)}, {"maxLength": rng.randint(0, 5)}, {"pattern": "^[a-z]*$"}]
            return {"type": "string", **rng.choice(bounds)}
        case "integer" | "number":
            low = rng.randint(-20, 20)
            bounds = [{}, {"minimum": low}, {"minimum": low, "maximum": low + 5}, {"multipleOf": rng.randint(1, 4)}]
            return {"type": kind, **rng.choice(bounds)}
        case _:
            return {"type": "boolean"}


def _all() -> list[Json]:
    rng = random.Random(20261130)
    return [*WRITTEN, *(_made(rng, 3) for _ in range(220))]


SCHEMAS = _all()

_RIGHT = {
    "date": "2026-11-30", "date-time": "2026-11-30T03:00:00Z", "time": "03:00:00Z", "email": "a@b.org",
    "uri": "https://x.org/y", "uuid": "01234567-89ab-cdef-0123-456789abcdef", "ipv4": "10.0.0.1", "ipv6": "::1",
    "hostname": "x.org", "duration": "P1D",
}  # fmt: skip


def guess(schema: Json, rng: random.Random, root: Json = None, depth: int = 0) -> Json:
    """A value that fits more often than not; some schemas are too hard for it."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > 6:
        return rng.choice([None, 1, "x", [], {}])
    if "const" in schema or "enum" in schema:
        return schema.get("const", rng.choice(schema.get("enum", [None])))
    if "$ref" in schema and schema["$ref"].startswith("#"):
        target = root
        for step in schema["$ref"].replace("%20", " ").split("/")[1:]:
            target = target[step]
        return guess(target, rng, root, depth + 1)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return guess(rng.choice(schema[word]), rng, root, depth + 1)
    if "allOf" in schema:
        merged = {name: value for part in schema["allOf"] for name, value in part.items()}
        return guess({**merged, **({"type": schema["type"]} if "type" in schema else {})}, rng, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "boolean")
    return _plain(rng.choice(kind) if isinstance(kind, list) else kind, schema, rng, root, depth)


def _plain(kind: str, schema: Json, rng: random.Random, root: Json, depth: int) -> Json:
    match kind:
        case "object":
            wanted = set(schema.get("required", ()))
            members = {
                name: guess(one, rng, root, depth + 1)
                for name, one in schema.get("properties", {}).items()
                if name in wanted or (depth < 3 and rng.random() < 0.5)
            }
            return members or ({"x_a": 1} if "patternProperties" in schema else {})
        case "array":
            first = [guess(one, rng, root, depth + 1) for one in schema.get("prefixItems", ())]
            if first or not isinstance(schema.get("items"), dict):
                return first or [7]
            count = (
                schema.get("minItems", 0)
                if depth > 2
                else rng.randint(schema.get("minItems", 0), schema.get("maxItems", 3))
            )
            return [guess(schema["items"], rng, root, depth + 1) for _ in range(count)]
        case "string":
            text = _RIGHT.get(schema.get("format", ""), "abcdef"[: schema.get("maxLength", 6)])
            return text.ljust(schema.get("minLength", 0), "z")
        case "integer" | "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0) or 0)
            step = schema.get("multipleOf", 1)
            value = -(-low // step) * step if isinstance(step, int) else step
            return value + step if value == schema.get("exclusiveMinimum") else value
        case "null":
            return None
        case _:
            return True


def garbage(schema: Json, rng: random.Random) -> str:
    """What a model might write: the value, in one of the ways models wrap it, or something that is not it."""
    value = guess(schema, rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return rng.choice(
        [
            text,
            text,
            f"```json\n{text}\n```",
            f"Sure! Here it is: {text} Hope that helps.",
            text[: len(text) // 2],
            text + "}",
            text.replace('"', "'"),
            json.dumps(_broken(value, rng)),
            json.dumps(rng.choice([None, 1, -1.5, "", "x" * 300, [], {}, [[[]]], {"unexpected": value}])),
            "",
            "I can't answer that.",
            "NaN",
            '{"a": 1, "a": "b"}',
            "[" * 200,
            "\ud83d" + text,
        ]
    )


def _broken(value: Json, rng: random.Random) -> Json:
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        change = rng.choice(["drop", "add", "inner"])
        if change == "drop":
            return {key: one for key, one in value.items() if key != name}
        return {**value, "surplus": 1} if change == "add" else {**value, name: _broken(value[name], rng)}
    if isinstance(value, list) and value:
        return [*value, _broken(value[0], rng)]
    return rng.choice([None, str(value), [value], 10**18, -0.5, not value])
