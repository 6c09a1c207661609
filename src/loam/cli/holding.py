"""What `loam lint --answers` does: recorded answers held against a file of checks."""

from pathlib import Path

import click
import msgspec
from msgspec import Struct

from loam.core.errors import ModelFailure
from loam.evaluation.checks import Report, read_checks
from loam.prompting.lint.checks import Check


class _Answer(Struct, frozen=True):
    answer: str


def checks_in(path: str) -> tuple[Check, ...]:
    """The checks of a file. Raises click.UsageError that says what is wrong with it."""
    try:
        return read_checks(Path(path).read_bytes())
    except (OSError, ModelFailure) as error:
        raise click.UsageError(f"{path}: {error}") from error


def answers_in(path: str) -> list[str]:
    """One answer a line: a JSON text, or an object with `answer`. Raises click.UsageError with the line."""
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {path}: {error}") from error
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                said = msgspec.json.decode(line, type=str | _Answer)
            except (msgspec.DecodeError, RecursionError) as error:
                raise click.UsageError(f"{path}, line {number}: {error}") from error
            found.append(said if isinstance(said, str) else said.answer)
    return found


def tell(report: Report) -> str:
    """The report as a person reads it."""
    lines: list[str] = []
    for score in report.scores:
        share = f"{score.passed} of {score.answers}"
        within = f"({score.within.low:.0%} to {score.within.high:.0%})"
        lines.append(f"{score.check.id:5} {share:>12}  {within}  {_of(score.check)}")
        lines += [f"      answer {failed.answer + 1}: {failed.problem}" for failed in score.failed]
    lines += [f"{check.id:5} {'for a reader':>12}  {_of(check)}" for check in report.unscored]
    lines.append(
        f"{report.passed} of {report.answers} answers pass all {len(report.scores)} checks "
        f"({report.within.low:.0%} to {report.within.high:.0%})"
    )
    return "\n".join(lines)


def _of(check: Check) -> str:
    return check.source or f"{check.kind} {', '.join(check.texts) or check.number}"
