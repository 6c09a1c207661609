"""`loam prompts` and `loam lint`, run as a person runs them."""

import json
from pathlib import Path

import pytest

from tests.cli.program import Program

SUPPORT = """+++
model = "fast"
+++
Answer in at most 2 sentences. If the text is empty, answer "nothing".
+++ user
{{text}}
"""
SETTINGS = """
[routes.fast]
chain = ["fake/any"]
[providers.fake]
kind = "scripted"
models = ["any"]
[lint.rules]
example-count = "off"
"""


@pytest.fixture
def loam(tmp_path: Path) -> Program:
    (tmp_path / "loam.toml").write_text(SETTINGS)
    (tmp_path / "support.md").write_text(SUPPORT)
    (tmp_path / "vague.md").write_text("Write a good summary of this:\n{text}")
    return Program(tmp_path)


def test_versions_are_pushed_labelled_compared_and_traced(loam: Program) -> None:
    first = loam.run("prompts", "push", "support.md", "--label", "prod", "--json").report
    assert (first["name"], first["labels"]) == ("support", ["prod"])
    (loam.folder / "support.md").write_text(SUPPORT.replace("2 sentences", "3 sentences"))
    second = loam.run("prompts", "push", "support.md", "--json").report
    same = loam.run("prompts", "diff", "support@prod", f"support@{first['hash'][:8]}")
    assert (same.status, same.out) == (0, "")
    changed = loam.run("prompts", "diff", "support@prod", f"support@{second['hash'][:8]}")
    assert changed.status == 1
    assert "-Answer in at most 2 sentences" in changed.out
    assert "+Answer in at most 3 sentences" in changed.out
    lost = loam.run("prompts", "label", f"support@{second['hash']}", "prod", "--expect", second["hash"])
    assert lost.status != 0
    assert "stands on" in lost.err
    moved = loam.run("prompts", "label", f"support@{second['hash']}", "prod", "--expect", first["hash"])
    assert moved.out == f"support: prod moved from {first['hash'][:12]} to {second['hash'][:12]}\n"
    assert "3 sentences" in loam.run("prompts", "show", "support").out
    history = loam.run("prompts", "show", "support", "--history").out
    assert history.count("prod") >= 2
    [row] = loam.run("prompts", "list", "--json").report
    assert (row["versions"], row["labels"]) == (2, {"prod": second["hash"]})


def test_findings_decide_the_exit_status(loam: Program) -> None:
    bad = loam.run("lint", "vague.md", "support.md", "--format", "json")
    assert bad.status == 1
    assert {finding["file"] for finding in bad.report["findings"]} == {"vague.md"}
    assert loam.run("lint", "vague.md", "--fail-on", "error").status == 0
    assert loam.run("lint", "support.md").status == 0
    stricter = loam.run("lint", "vague.md", "--fail-on", "error", "--rule", "vague-word=error")
    assert stricter.status == 1
    assert "vague.md:1 error vague-word" in stricter.out
    sarif = loam.run("lint", ".", "--format", "sarif", "--fail-on", "never")
    assert (sarif.status, sarif.report["version"]) == (0, "2.1.0")
    assert loam.run("lint", "nothing.md").status == 2
    assert "there are: bound" in loam.run("lint", "vague.md", "--rule", "vage-word=off").err


def test_requirements_become_checks_and_two_prompts_are_weighed_by_them(loam: Program) -> None:
    checks = loam.run("lint", "support.md", "--requirements")
    assert [check["kind"] for check in checks.report["checks"]] == ["most"]
    (loam.folder / "checks.json").write_text(checks.out)
    cases = [{"variables": {"text": "One. Two. Three."}}, {"variables": {"text": "One."}}]
    (loam.folder / "cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    words = ("--set", "cases.jsonl", "--checks", "checks.json", "--model", "fast", "--format", "json")
    weighed = loam.run("lint", "vague.md", "--prove", "support.md", *words).report
    # the scripted model repeats the last user message: the vague prompt's own words make one sentence more
    assert (weighed["cases"], weighed["failed"]) == (2, 0)
    assert weighed["within"]["low"] <= weighed["difference"] <= weighed["within"]["high"]
    (loam.folder / "one.json").write_text('{"checks": [{"id": "r1", "kind": "lacks", "texts": ["good summary"]}]}')
    few = loam.run("lint", "vague.md", "--prove", "support.md", *words[:2], "--checks", "one.json", "--model", "fast")
    assert "The second prompt looks better, but on so few cases that may be chance" in few.out
    assert "--set" in loam.run("lint", "vague.md", "--prove", "support.md").err
    (loam.folder / "broken.json").write_text('{"checks": [{"id": "a", "kind": "most", "unit": "smile"}]}')
    refused = loam.run("lint", "vague.md", "--prove", "support.md", *words, "--checks", "broken.json")
    assert (refused.status, "nobody can count smile" in refused.err) == (2, True)


def test_recorded_answers_are_held_against_a_prompt_or_a_file_of_checks(loam: Program) -> None:
    (loam.folder / "checks.json").write_text(loam.run("lint", "support.md", "--requirements").out)
    (loam.folder / "answers.jsonl").write_text('"One."\n\n{"answer": "One. Two. Three. Four. Five."}\n')
    held = loam.run("lint", "--checks", "checks.json", "--answers", "answers.jsonl", "--format", "json")
    assert held.status == 1
    assert (held.report["answers"], held.report["passed"]) == (2, 1)
    assert held.report["scores"][0]["failed"] == [{"answer": 1, "problem": "it has 5 sentences"}]
    plain = loam.run("lint", "support.md", "--answers", "answers.jsonl", "--fail-on", "never")
    assert plain.status == 0
    assert "answer 2: it has 5 sentences" in plain.out
    (loam.folder / "answers.jsonl").write_text('"One."\n{"answr": 1}\n')
    assert "answers.jsonl, line 2" in loam.run("lint", "support.md", "--answers", "answers.jsonl").err
    assert "name a file" in loam.run("lint", "--answers", "answers.jsonl").err
