"""Findings as SARIF 2.1.0, which code hosts show beside the changed lines.

Pure. Knows the format's required fields and no file system. Invariant: `ruleIndex` of a result points at its own rule.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from loam.prompting.lint.finding import Finding, Severity
from loam.prompting.lint.linter import IGNORE, UNREADABLE
from loam.prompting.lint.rules import RULES

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_OWN: tuple[tuple[str, Severity, str], ...] = (
    (IGNORE, "warning", "A comment silences a rule only with a reason."),
    (UNREADABLE, "error", "The file cannot be read as a prompt."),
)


def sarif(findings: Sequence[Finding], *, version: str) -> dict[str, Any]:
    """One run of the linter as a SARIF log."""
    shipped: list[tuple[str, Severity, str]] = [(rule.name, rule.severity, rule.why) for rule in RULES]
    rules = [*shipped, *_OWN]
    place = {name: number for number, (name, _, _) in enumerate(rules)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "loam lint",
                        "semanticVersion": version,
                        "rules": [_rule(*rule) for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, place[finding.rule]) for finding in findings],
            }
        ],
    }


def _rule(name: str, severity: Severity, why: str) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": name.replace("-", " ")},
        "fullDescription": {"text": why},
        "help": {"text": f"{why} Silence it on one line with: # loam: ignore {name}: the reason"},
        "defaultConfiguration": {"level": severity},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    mark = sha256(f"{finding.rule}\0{finding.file}\0{finding.message}".encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{finding.message}. {finding.fix}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": finding.file.replace("\\", "/")},
                    "region": {"startLine": finding.line},
                }
            }
        ],
        "partialFingerprints": {"loamFinding/v1": mark[:32]},
    }
