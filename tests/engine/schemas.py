"""Schemas of every kind that llguidance holds to: written by hand for each keyword, and nested at random."""

import random
from typing import Any

Schema = dict[str, Any]

BY_HAND: tuple[Schema, ...] = (
    {"type": "string"},
    {"type": "string", "minLength": 3, "maxLength": 9},
    {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.com$"},
    {"type": "string", "pattern": "^(cat|dog)-[0-9]{2,4}$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email", "maxLength": 60},  # llguidance's has no bound, RFC 5321's has: 64 and 254
    {"enum": ["red", "green", "blue"]},
    {"enum": [1, "two", None, True, 3.5]},
    {"const": {"a": [1, 2, {"b": "c"}]}},
    {"type": "integer"},
    {"type": "integer", "minimum": 100, "maximum": 199},
    {"type": "integer", "exclusiveMinimum": -5, "exclusiveMaximum": 5},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    {"type": "number"},
    {"type": "number", "minimum": -1.5, "maximum": 2.25},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["string", "null"]},
    {"type": ["integer", "boolean", "array"], "items": {"type": "null"}},
    {"type": "array"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "items": False},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]},
    {"type": "object", "required": ["unnamed"]},
    {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False},
    {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"k": {"type": "null"}}, "required": ["k"]}]},
    {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 12}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        "required": ["name", "kids"], "additionalProperties": False,
    }}},
    {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
    {"type": "object", "properties": {
        "reasoning": {"type": "string"}, "answer": {"type": "number"}, "sure": {"type": "boolean"},
        "sources": {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 1},
    }, "required": ["reasoning", "answer", "sure", "sources"], "additionalProperties": False},
    {},
)  # fmt: skip


def nested(chance: random.Random, depth: int = 3) -> Schema:
    """An object, an array or a choice of smaller ones; at the bottom something by hand."""
    kind = chance.choice(["object", "object", "array", "anyOf"]) if depth else "leaf"
    if kind == "object":
        names = chance.sample(["id", "name", "größe", "a b", 'quo"te', "x", "items", "yes"], chance.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: nested(chance, depth - 1) for name in names},
            "required": [name for name in names if chance.random() < 0.7],
            "additionalProperties": False,
        }
    if kind == "array":
        least = chance.randint(0, 2)
        return {"type": "array", "items": nested(chance, depth - 1), "minItems": least, "maxItems": least + 3}
    if kind == "anyOf":
        return {"anyOf": [nested(chance, depth - 1), nested(chance, 0)]}
    return chance.choice([each for each in BY_HAND[:27] if "type" in each or "enum" in each])


def varied(count: int) -> list[Schema]:
    """`count` schemas, those by hand first."""
    chance = random.Random(0)
    return [*BY_HAND, *(nested(chance, chance.randint(1, 3)) for _ in range(count))][:count]
