"""Answers held against the checks of a file: how many pass each, why others do not, and how sure the shares are.

Pure. Knows the file that `loam lint --requirements` writes; not how the answers were had. Invariants: a check that no
program can carry out is refused when it is read; what only a reader can decide is listed and never counted.

```python
checks = read_checks('{"checks": [{"id": "r1", "kind": "most", "unit": "word", "number": 3}]}')
report = scored(checks, ["Yes.", "It is so, I think."])
report.scores[0].passed  # 1
```
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from loam.core.errors import ModelFailure, refuse
from loam.evaluation.intervals import Interval, wilson
from loam.prompting.lint.checks import UNITS, Check, problem_of
from loam.prompting.schemas import Schema

_WORDED = ("choice", "equals", "keys", "starts", "ends", "contains", "lacks")
_SHOWN = 5


class CheckFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    checks: tuple[Check, ...]


class Failed(Struct, frozen=True):
    """One answer that does not pass: its place in the set, from 0, and what is wrong with it."""

    answer: int
    problem: str


class CheckScore(Struct, frozen=True):
    """How many answers pass one check; `within` is where their share lies (Wilson, 95 %); the first failures."""

    check: Check
    passed: int
    answers: int
    within: Interval
    failed: tuple[Failed, ...]


class Report(Struct, frozen=True):
    """`passed` answers pass every check that was carried out; `unscored` are those for a judge or a reader."""

    answers: int
    passed: int
    within: Interval
    scores: tuple[CheckScore, ...]
    unscored: tuple[Check, ...]


def read_checks(text: str | bytes) -> tuple[Check, ...]:
    """The checks of a file. Raises ModelFailure (bad_request) that names the check that can't be carried out."""
    try:
        checks = msgspec.json.decode(text, type=CheckFile).checks
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse("bad_request", f"no file of checks as `loam lint --requirements` writes it: {error}") from error
    seen: set[str] = set()
    for number, check in enumerate(checks, 1):
        wrong = "its id is not its own" if not check.id or check.id in seen else _unusable(check)
        if wrong:
            raise refuse("bad_request", f"check {number} ({check.id or 'without an id'}, {check.kind}): {wrong}")
        seen.add(check.id)
    return checks


def _unusable(check: Check) -> str:
    """Why a check can't be carried out; empty where it can."""
    if check.kind in ("most", "least", "exact"):
        if check.unit not in UNITS:
            return f"nobody can count {check.unit or 'nothing'}; there are: {', '.join(UNITS)}"
        return "`number` is below 0" if check.number < 0 else ""
    if check.kind in _WORDED and not any(check.texts):
        return "`texts` is empty"
    if check.kind == "schema":
        if check.schema is None:
            return "`schema` is missing"
        try:
            Schema(check.schema, param="`schema`")
        except ModelFailure as error:
            return str(error)
    return ""


def scored(checks: Sequence[Check], answers: Sequence[str]) -> Report:
    """Holds every answer against every check that a program can carry out."""
    run = [check for check in checks if check.kind != "judge"]
    problems = [[problem_of(check, answer) or "" for check in run] for answer in answers]
    scores: list[CheckScore] = []
    for place, check in enumerate(run):
        failed = [Failed(number, row[place]) for number, row in enumerate(problems) if row[place]]
        good = len(answers) - len(failed)
        scores.append(CheckScore(check, good, len(answers), wilson(good, len(answers)), tuple(failed[:_SHOWN])))
    whole = sum(not any(row) for row in problems)
    unscored = tuple(check for check in checks if check.kind == "judge")
    return Report(len(answers), whole, wilson(whole, len(answers)), tuple(scores), unscored)
