"""The linter: a prompt's text in, findings out.

Pure. Knows the rules' table; knows no rule. Invariants: the same text and settings give the same findings in the same
order; a comment silences a rule only if it gives a reason.

```python
findings = lint("Write a good summary of {text}", file="summary.md")
findings[0].rule  # "output-format"
```
"""

from collections.abc import Iterator

from loam.core.errors import SettingsError
from loam.prompting.lint.finding import Finding, Hit, Rule, Severity
from loam.prompting.lint.rules import RULES
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Ignore, Sheet, sheet

IGNORE = "ignore-reason"
"""The rule on the comments themselves."""
UNREADABLE = "unreadable"
"""What is said of a file that cannot be read as a prompt."""
LANGUAGE = "language"
"""What is said of a prompt whose words no rule can read."""
AS_SHIPPED = LintSettings()


def lint(text: str, *, file: str = "-", settings: LintSettings = AS_SHIPPED) -> list[Finding]:
    """Everything to mend in a prompt, by line. Raises SettingsError for a rule that there is not."""
    check(settings)
    read = sheet(text)
    found = [*_unreadable(read, file), *_comments(read, file), *_foreign(read, file)]
    for rule in RULES:
        severity = severity_of(rule, settings)
        if severity is not None and (read.english or not rule.words):
            found += [
                Finding(file, hit.line, rule.name, severity, hit.message, hit.fix)
                for hit in rule.look(read, settings)
                if not _silenced(read.ignores, rule, hit)
            ]
    return sorted(found, key=lambda finding: finding.line)


def severity_of(rule: Rule, settings: LintSettings) -> Severity | None:
    """How grave a rule's findings are; `None` where it is off."""
    level = settings.rules.get(rule.name)
    if level is None:
        return rule.severity if rule.on else None
    return None if level == "off" else level


def check(settings: LintSettings) -> None:
    """Raises SettingsError for a rule that there is not."""
    names = {rule.name for rule in RULES}
    for name in settings.rules:
        if name not in names:
            raise SettingsError(f"[lint.rules] names {name!r}; there are: {', '.join(sorted(names))}")


def _silenced(ignores: tuple[Ignore, ...], rule: Rule, hit: Hit) -> bool:
    return any(
        rule.name in one.rules and one.reason and (hit.whole or hit.line in (one.line, one.line + 1)) for one in ignores
    )


def _comments(read: Sheet, file: str) -> Iterator[Finding]:
    names = {rule.name for rule in RULES}
    for one in read.ignores:
        unknown = [name for name in one.rules if name not in names]
        if not one.rules or not one.reason:
            message = "this comment silences nothing: it names no rule or gives no reason"
        elif unknown:
            message = f"there is no rule {unknown[0]}"
        else:
            continue
        yield Finding(file, one.line, IGNORE, "warning", message, "write: # loam: ignore RULE: the reason")


def _foreign(read: Sheet, file: str) -> Iterator[Finding]:
    if not read.english:
        message = "this prompt is not in English: only its variables and examples were looked at"
        yield Finding(file, 1, LANGUAGE, "note", message, "nothing to mend; ask a reader for what its words leave open")


def _unreadable(read: Sheet, file: str) -> Iterator[Finding]:
    if read.problem:
        yield Finding(file, 1, UNREADABLE, "error", read.problem, "correct it; `loam prompts push` refuses it as it is")
