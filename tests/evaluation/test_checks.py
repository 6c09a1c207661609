"""A file of checks is read whole or refused, and answers are held against it."""

import time
from typing import Any

import msgspec
import pytest

from loam.core.errors import ModelFailure
from loam.evaluation.checks import CheckFile, read_checks, scored
from loam.prompting.lint.requirements import requirements

PROMPT = """Answer in at most 2 sentences. Do not use the word "very". Never promise money.

If it is unclear, ask."""


def written(*checks: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"checks": checks})


def test_what_the_linter_writes_is_read_and_carried_out() -> None:
    checks = read_checks(msgspec.json.encode(CheckFile(tuple(requirements(PROMPT)))))
    assert [check.kind for check in checks] == ["most", "lacks", "judge"]
    report = scored(checks, ["Yes. It is.", "Very well.", "A. B. Very much so.", "I promise five euros."])
    assert [(score.check.id, score.passed) for score in report.scores] == [("r1", 3), ("r2", 2)]
    assert report.scores[0].failed[0].answer == 2
    assert report.scores[0].failed[0].problem == "it has 3 sentences"
    assert (report.answers, report.passed) == (4, 2)
    assert report.within.low < 0.5 < report.within.high
    assert [check.id for check in report.unscored] == ["r3"]


def test_no_answers_say_nothing() -> None:
    report = scored(read_checks(written({"id": "a", "kind": "json"})), [])
    assert (report.within.low, report.within.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (b"[", "no file of checks"),
        (b"\xff", "no file of checks"),
        (b'{"checks": [], "more": 1}', "more"),
        (b'{"checks": ' + b"[" * 100_000, "no file of checks"),
        (written({"id": "a", "kind": "prettier"}), "prettier"),
        (written({"id": "", "kind": "json"}), "check 1"),
        (written({"id": "a", "kind": "json"}, {"id": "a", "kind": "json"}), "check 2"),
        (written({"id": "a", "kind": "most", "unit": "smile", "number": 1}), "there are: word"),
        (written({"id": "a", "kind": "most", "number": 1}), "nobody can count"),
        (written({"id": "a", "kind": "least", "unit": "word", "number": -1}), "below 0"),
        (written({"id": "a", "kind": "starts"}), "`texts` is empty"),
        (written({"id": "a", "kind": "ends", "texts": [""]}), "`texts` is empty"),
        (written({"id": "a", "kind": "schema"}), "`schema` is missing"),
        (written({"id": "a", "kind": "schema", "schema": {"type": "objekt"}}), "no JSON Schema that can be used"),
        (written({"id": "a", "kind": "schema", "schema": {"$ref": "http://127.0.0.1:1/x"}}), "can be used"),
    ],
)
def test_a_check_that_can_not_be_carried_out_is_refused(file: bytes, told: str) -> None:
    with pytest.raises(ModelFailure, match="check") as refused:
        read_checks(file)
    assert told in str(refused.value)


def test_a_hostile_answer_fails_and_costs_little() -> None:
    schema = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}
    checks = read_checks(written({"id": "a", "kind": "schema", "schema": schema}, {"id": "b", "kind": "json"}))
    started = time.perf_counter()
    report = scored(checks, ["[" * 200_000, '{"a": "' + "a" * 60 + '!"}', "{}"])
    assert time.perf_counter() - started < 2
    assert [score.passed for score in report.scores] == [1, 2]


def test_the_whole_schema_counts_not_a_part_of_it() -> None:
    schema = {"not": {"required": ["a"]}, "properties": {"day": {"format": "date"}}}
    [score] = scored(
        read_checks(written({"id": "a", "kind": "schema", "schema": schema})),
        ['{"a": 1}', '{"day": "soon"}', '{"day": "2026-11-30"}'],
    ).scores
    assert score.passed == 1
