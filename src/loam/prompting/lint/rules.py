"""All rules, as a table. A rule is one function whose docstring says why; here it gets its name and severity."""

from collections.abc import Callable, Iterator

from loam.prompting.lint.example_rules import example_count, example_schema
from loam.prompting.lint.finding import Hit, Rule, Severity
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.shape import bound, edge_case, json_schema, output_format
from loam.prompting.lint.sheet import Sheet
from loam.prompting.lint.variables_rules import undeclared_variable, unfenced_variable, unstable_prefix
from loam.prompting.lint.wording import contradiction, vague_word


def _rule(severity: Severity, look: Callable[[Sheet, LintSettings], Iterator[Hit]], *, words: bool = False) -> Rule:
    why = " ".join((look.__doc__ or "").split())
    return Rule(look.__name__.replace("_", "-"), severity, why, look, words=words)


RULES: tuple[Rule, ...] = (
    _rule("warning", output_format, words=True),
    _rule("warning", bound, words=True),
    _rule("warning", edge_case, words=True),
    _rule("warning", vague_word, words=True),
    _rule("error", contradiction, words=True),
    _rule("warning", unfenced_variable),
    _rule("error", example_schema),
    _rule("note", example_count),
    _rule("warning", json_schema, words=True),
    _rule("warning", unstable_prefix),
    _rule("error", undeclared_variable),
)
"""In the order in which findings of one line are told. One is off by default where its precision is under 0.9."""
