from typing import Any

import pytest
from anthropic.lib._parse._transform import transform_schema
from hypothesis import given
from hypothesis import strategies as st

from loam.wire.anthropic_schema import accepted

TEXT = {"type": "string"}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def test_objects_are_closed_at_every_depth() -> None:
    inner = {"type": "object", "properties": {"b": TEXT}}
    said = {"type": "object", "properties": {"a": {"type": "array", "items": inner}}, "$defs": {"C": inner}}
    closed = thing(b=TEXT)
    assert accepted(said) == {**thing(a={"type": "array", "items": closed}), "$defs": {"C": closed}}


def test_refused_words_move_into_the_description() -> None:
    said = {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."}
    assert accepted(said) == {"type": "integer", "description": 'How many. {"minimum":1,"maximum":9}'}


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({"oneOf": [TEXT]}, {"anyOf": [TEXT]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "regex"}, {"type": "string", "description": '{"format":"regex"}'}),
        ({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1}),
        ({"type": "array", "minItems": 2}, {"type": "array", "description": '{"minItems":2}'}),
        ({"$schema": "x", "enum": ["a"]}, {"enum": ["a"]}),
        ({"type": "object", "properties": {}, "additionalProperties": False}, thing()),
    ],
)
def test_single_words(said: dict[str, Any], written: dict[str, Any]) -> None:
    assert accepted(said) == written


@pytest.mark.parametrize(
    "said",
    [
        {"type": "object"},
        {"type": ["object", "null"]},
        {"type": "object", "additionalProperties": TEXT},
        thing(a={"type": "object", "additionalProperties": True}),
        {"anyOf": 3},
        {"items": [TEXT]},
        thing(a=True),
    ],
)
def test_what_cannot_be_said(said: dict[str, Any]) -> None:
    assert accepted(said) is None


def test_nesting_without_end_cannot_be_said() -> None:
    said: dict[str, Any] = TEXT
    for _ in range(2000):
        said = {"type": "array", "items": said}
    assert accepted(said) is None


leaves = st.sampled_from(
    [TEXT, {"type": "integer", "minimum": 3}, {"enum": ["a", 1]}, {"type": "string", "format": "x"}]
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda some: {"oneOf": some}, st.lists(inner, min_size=1, max_size=2))
        | st.builds(
            lambda some: {"type": "object", "properties": some}, st.dictionaries(st.text("ab"), inner, min_size=1)
        )
    ),
    max_leaves=6,
)


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {word: without_descriptions(value) for word, value in schema.items() if word != "description"}
    return [without_descriptions(inner) for inner in schema] if isinstance(schema, list) else schema


@given(schemas)
def test_it_says_what_the_official_sdk_would_say(said: dict[str, Any]) -> None:
    assert without_descriptions(accepted(said)) == without_descriptions(transform_schema(said))


@given(schemas)
def test_saying_it_twice_changes_nothing(said: dict[str, Any]) -> None:
    once = accepted(said)
    assert once is not None
    assert accepted(once) == once
