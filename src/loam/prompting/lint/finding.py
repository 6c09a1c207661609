"""What the linter says, and what a rule is.

Knows no rule. Invariant: a rule's name never changes once released: people write it into ignore comments.
"""

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Sheet

Severity = Literal["note", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")


class Hit(Struct, frozen=True):
    """What a rule saw. `line` counts from 1; `whole`: it is about the prompt as a whole."""

    line: int
    message: str
    fix: str
    whole: bool = False


class Rule(Struct, frozen=True):
    """`on` is whether it runs unless settings say otherwise; `why` is one sentence for people.

    `words`: it reads what the instructions say, and so knows English alone.
    """

    name: str
    severity: Severity
    why: str
    look: Callable[[Sheet, LintSettings], Iterator[Hit]]
    on: bool = True
    words: bool = False


class Finding(Struct, frozen=True):
    """One thing to mend in one file."""

    file: str
    line: int
    rule: str
    severity: Severity
    message: str
    fix: str
