"""The SARIF log has the fields that 2.1.0 requires, in the types that it requires."""

import json
import re
from typing import Any

from loam.prompting.lint.linter import lint
from loam.prompting.lint.sarif import sarif

# the required properties and value sets of the OASIS schema, for the objects that the log has
REQUIRED: dict[str, dict[str, type]] = {
    "sarifLog": {"version": str, "runs": list},
    "run": {"tool": dict},
    "tool": {"driver": dict},
    "toolComponent": {"name": str},
    "reportingDescriptor": {"id": str},
    "result": {"message": dict},
}
LEVELS = {"none", "note", "warning", "error"}


def need(kind: str, value: dict[str, Any]) -> None:
    for name, type_ in REQUIRED[kind].items():
        assert isinstance(value[name], type_), f"{kind}.{name}"


def test_a_log_is_what_the_standard_asks_for() -> None:
    findings = lint("# loam: ignore\nWrite a good summary of:\n{text}", file="prompts\\a.md") + lint(
        "+++\n", file="b.md"
    )
    log = json.loads(json.dumps(sarif(findings, version="1.2.3")))
    need("sarifLog", log)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    [run] = log["runs"]
    need("run", run)
    need("tool", run["tool"])
    driver = run["tool"]["driver"]
    need("toolComponent", driver)
    assert re.fullmatch(r"\d+\.\d+\.\d+", driver["semanticVersion"])
    for rule in driver["rules"]:
        need("reportingDescriptor", rule)
        assert rule["shortDescription"]["text"]
        assert rule["defaultConfiguration"]["level"] in LEVELS
    assert len(run["results"]) == len(findings) >= 5
    for result, finding in zip(run["results"], findings, strict=True):
        need("result", result)
        assert result["message"]["text"]
        assert result["level"] in LEVELS
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == finding.rule
        place = result["locations"][0]["physicalLocation"]
        assert "\\" not in place["artifactLocation"]["uri"]
        assert place["region"]["startLine"] == finding.line >= 1
        assert all(isinstance(mark, str) for mark in result["partialFingerprints"].values())
