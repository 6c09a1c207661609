"""A small schema that makes much work is seen before the work is done; an ordinary one costs nothing."""

import time
from typing import Any

import pytest

from loam.core.errors import ModelFailure
from loam.prompting.effort import effort
from loam.prompting.schemas import Schema
from tests.prompting.schema_corpus import SCHEMAS

TREE = {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}
BRANCHING: dict[str, Any] = {
    "$defs": {"a": {"anyOf": [{"type": "integer"}, TREE, {**TREE, "minProperties": 1}]}},
    "$ref": "#/$defs/a",
}


def doubling(times: int) -> dict[str, Any]:
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(times)}
    return {"$defs": {**defs, f"d{times}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested(times: int, leaf: Any) -> Any:
    for _ in range(times):
        leaf = {"x": leaf}
    return leaf


def test_what_doubles_at_one_place_is_counted_without_doing_it() -> None:
    assert 2**3 <= effort(doubling(3)).here <= 2**6
    started = time.perf_counter()
    assert effort(doubling(60)).here >= 2**29
    with pytest.raises(ModelFailure, match="refer to each once"):
        Schema(doubling(30))
    assert time.perf_counter() - started < 0.5
    assert Schema(doubling(8)).fits("a")


def test_what_branches_at_every_level_is_checked_and_only_not_listed() -> None:
    schema = Schema(BRANCHING)
    assert effort(BRANCHING).growth == 2
    assert schema.problems(nested(3, "bad"))[0].message != schema.problems(nested(40, "bad"))[0].message
    started = time.perf_counter()
    assert schema.problems(nested(40, 1)) == ()
    [problem] = schema.problems(nested(40, "bad"))
    assert "too deep to say where" in problem.message
    assert time.perf_counter() - started < 1


def test_a_circle_at_one_place_counts_once() -> None:
    for circle in (
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ):
        assert effort(circle).here < 5
        assert Schema(circle).fits({"a": 1})


def test_ordinary_schemas_are_far_from_the_limits() -> None:
    for schema in SCHEMAS:
        assert effort(schema).here < 1000
        assert effort(schema).growth <= 8
