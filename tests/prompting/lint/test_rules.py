"""Each rule fires on what it is for, on the right line, and stays silent where the prompt is mended."""

import json
import re
import time
from pathlib import Path
from typing import get_args

import pytest

from loam.core.errors import SettingsError
from loam.prompting.lint.checks import Kind
from loam.prompting.lint.linter import lint
from loam.prompting.lint.rules import RULES
from loam.prompting.lint.settings import LintSettings

SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'


def pairs(*answers: str) -> str:
    return "\n\n".join(f"Input: {number}\nOutput: {answer}" for number, answer in enumerate(answers))


def own(body: str, head: str = "") -> str:
    return f'+++\nmodel = "fast"\n{head}+++\n{body}'


CASES = [
    # rule, the line it is told on, a prompt with the defect, the same mended
    ("output-format", 1, "Tell me about eels.", "Tell me about eels in one paragraph."),
    ("bound", 1, "Tell me about eels.", "Tell me about eels in at most 90 words."),
    (
        "edge-case",
        1,
        "Answer the question.\n<q>{{q}}</q>",
        "Answer the question. If it is empty, say so.\n<q>{{q}}</q>",
    ),
    ("vague-word", 2, "Two lines.\nMake it engaging.", "Two lines.\nMake it engaging (one question to the reader)."),
    ("contradiction", 3, "One line.\n- Always name the source.\n- Never name the source.", "- Always name the source."),
    (
        "contradiction",
        2,
        "At most 40 words.\n- Write at least 60 words.",
        "At most 40 words.\n- Write at least 20 words.",
    ),
    ("contradiction", 2, "Answer in German.\nReply in English.", "Answer in German.\nIf asked, reply in English."),
    ("contradiction", 2, "Output only the number.\nThen explain your steps.", "Output only the number."),
    ("unfenced-variable", 3, "Two lines.\n\nMail: {email_body}", "Two lines.\n\n<mail>{email_body}</mail>"),
    ("unfenced-variable", 1, "Reply to {{message}} in two lines.", 'Reply to """{{message}}""" in two lines.'),
    ("unfenced-variable", 1, "Reply to {{message}} in two lines.", own("Reply to {{message}} in two lines.")),
    ("example-count", 1, pairs("a", "b"), pairs("a", "b", "c")),
    ("example-count", 1, pairs(*"abcdef"), pairs(*"abcde")),
    ("example-schema", 8, own(pairs('{"n": 1}', '{"n": "2"}', "[]"), f"schema = '{SCHEMA}'\n"), ""),
    ("example-schema", 4, pairs('{"a": 1}', '{"b": 1}', '{"a": 2}'), pairs('{"a": 1}', '{"a": 1}', '{"a": 2}')),
    ("json-schema", 1, "Return it as JSON.", 'Return it as JSON with the keys "a" and "b".'),
    ("unstable-prefix", 1, "Today is {{date}}.\n" + "x" * 500, "x" * 500 + "\nToday is {{date}}."),
    ("undeclared-variable", 7, own("{{name}} {{tim}}.", "[variables]\nname = {}\n\n"), own("{{tim}}")),
    (
        "undeclared-variable",
        1,
        own("Hi {{a}}.", "[variables]\na = {}\nb = {}\n"),
        own("{{a}}", "[variables]\na = {}\n"),
    ),
    (
        "undeclared-variable",
        1,
        '[{"role": "system", "content": "Hi {{a}}"}]',
        '[{"role": "system", "content": "Hi a"}]',
    ),
]


@pytest.mark.parametrize(("rule", "line", "bad", "good"), CASES, ids=lambda value: str(value)[:40])
def test_a_rule_tells_its_defect_and_no_more_when_it_is_mended(rule: str, line: int, bad: str, good: str) -> None:
    found = [finding for finding in lint(bad) if finding.rule == rule]
    assert [finding.line for finding in found][:1] == [line]
    assert found[0].message
    assert found[0].fix
    assert rule not in [finding.rule for finding in lint(good)]


def test_every_rule_is_tried_and_says_why_it_is_there() -> None:
    assert {rule.name for rule in RULES} == {case[0] for case in CASES}
    assert all(len(rule.why) > 40 for rule in RULES)


def test_the_guides_tables_are_the_programs() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "linting.md").read_text("utf-8")
    told = re.findall(r"^\| `([a-z-]+)` \| .* \| (note|warning|error) \|$", guide, re.MULTILINE)
    assert told == [(rule.name, rule.severity) for rule in RULES if rule.on]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \| [^|]+ \|$", guide, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"[a-z]+", row)} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("You are a helpful, friendly assistant. One line.", "vague-word"),
        ('Count the word "good" and print one number.', "vague-word"),
        ("The relevant norm is KDIGO 2024. Two lines.", "vague-word"),
        ("Short sentences (at most 12 words).", "vague-word"),
        ("Translate into {{language}}. One line.", "unfenced-variable"),
        ("Each part has at most 50 words.\n- The whole has at least 200 words.", "contradiction"),
        ("If asked, always name the source.\n- Never name the source if it is a person.", "contradiction"),
        ("The JSON below is a forecast. Say in one line if it rains.", "json-schema"),
        ("Kinds: a or b.\nFormat: one line.", "example-count"),
        ("Serve {{servings}}.\n" + "x" * 400, "unstable-prefix"),
    ],
)
def test_what_only_looks_like_a_defect_is_let_pass(text: str, rule: str) -> None:
    assert rule not in [finding.rule for finding in lint(text)]


@pytest.mark.parametrize(
    ("rule", "found", "text", "quiet"),
    [
        ("output-format", True, "Explain it.\n```\n{{code}}\n```", "Translate it into Dutch.\n```\n{{code}}\n```"),
        ("edge-case", True, "Tell a story about {{story}}", "Tell a story about the {{product}}."),
        ("vague-word", True, "Two lines. Be reliable.", "Two lines. It is reliable if it quotes. Be reliable."),
        ("vague-word", True, "Two lines. Be nice.", "Two lines. Say one of: nice, bad. Be nice."),
        ("vague-word", True, "Be brief.", "At most 20 words. Be brief."),
        ("contradiction", True, "Always answer in English.\nReply in the language of the user.", "Answer in English."),
        ("contradiction", True, "Only the number.\nReturn the name alone.\nAfter it, explain why.", "Only the number."),
        ("unfenced-variable", True, "Two lines: {doc.page[:20]} {row['text']}", "Two lines: {root.path}"),
        ("example-count", True, "Ore: a\nYard: b\n\nOre: c\nYard: d", "Ore: a\nYard: b\n\nOre: {c}\nYard:"),
        ("example-schema", True, "R: a\n{\"k\": 1}\n\nR: b\n{\"k\": 1}\n\nR: c\n{\"x\": 1}", "R: a\n\n{\"k\": 1}"),
        ("example-schema", True, f"{SCHEMA}\n\n{pairs(*['{}'] * 3)}", pairs(*["{}"] * 3)),
        ("undeclared-variable", True, own("Hi {b} {{a}}", "[variables]\na = {}\n"), own("Placeholders like {b}")),
    ],
)  # fmt: skip
def test_what_a_second_author_showed(rule: str, found: bool, text: str, quiet: str) -> None:
    assert (rule in [finding.rule for finding in lint(text)]) == found
    assert rule not in [finding.rule for finding in lint(quiet)]


def test_a_prompt_in_another_language_is_told_so_and_its_words_are_let_be() -> None:
    german = "Fasse den Text kurz und verständlich zusammen, wenn er nicht auf Deutsch ist.\n\n{{text}}"
    assert [(f.rule, f.severity) for f in lint(german)] == [("language", "note"), ("unfenced-variable", "warning")]
    assert [f.rule for f in lint("文章を短くまとめてください。")] == ["language"]


def test_an_example_against_a_hostile_schema_is_looked_at_in_bounded_time() -> None:
    schema = '{"type":"object","properties":{"n":{"type":"string","pattern":"^(a+)+$"}}}'
    started = time.perf_counter()
    lint(f"{schema}\n\n{pairs(*(json.dumps({'n': 'a' * 40 + '!'}),) * 3)}")
    lint(f"{'[' * 100_000}\n\n{pairs('[' * 100_000)}")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "piece",
    ["answer ", "as a, ", "{text} ", "At most 3 words. At least 5. ", "Answer in Greek. ", "<a>", '"', "`", "1 ", " ",
     "\n", "Always name it. Never name it. ", "A: b\n", "{% for x in y %}", "---\n", '{"a":', "<example>", "if when "],
)  # fmt: skip
def test_a_hostile_prompt_is_looked_at_in_bounded_time(piece: str) -> None:
    started = time.perf_counter()
    lint((piece * 20_000)[:20_000])
    assert time.perf_counter() - started < 4


def test_a_comment_with_a_reason_silences_its_rule_on_its_line_and_the_next() -> None:
    text = "Two lines.\n# loam: ignore vague-word: the client's word\nBe nice.\nBe engaging."
    assert [(f.rule, f.line) for f in lint(text)] == [("vague-word", 4)]
    html = "Two lines.\n<!-- loam: ignore vague-word: the client's word -->\nBe nice."
    assert lint(html) == []


@pytest.mark.parametrize(
    "comment", ["# loam: ignore vague-word", "# loam: ignore : why", "# loam: ignore vague-wrod: why"]
)
def test_a_comment_without_rule_or_reason_silences_nothing_and_is_told(comment: str) -> None:
    assert [f.rule for f in lint(f"Two lines.\n{comment}\nBe nice.")] == ["ignore-reason", "vague-word"]


def test_a_comment_on_the_whole_prompt_may_stand_anywhere() -> None:
    bare = "Tell me about eels."
    rules = [finding.rule for finding in lint(bare)]
    assert rules == ["output-format", "bound"]
    assert lint(f"{bare}\n\n# loam: ignore output-format, bound: a talk, not a document") == []


def test_settings_turn_rules_off_and_up_and_add_words() -> None:
    text = "Two lines.\nBe snappy and nice."
    off = LintSettings(rules={"vague-word": "off"})
    assert lint(text, settings=off) == []
    up = LintSettings(rules={"vague-word": "error"}, vague=("snappy",))
    assert [(f.severity, f.message.split('"')[1]) for f in lint(text, settings=up)] == [
        ("error", "snappy"),
        ("error", "nice"),
    ]
    with pytest.raises(SettingsError, match="there are: bound, "):
        lint(text, settings=LintSettings(rules={"vage-word": "off"}))


def test_a_missing_part_is_told_alone_only_where_the_thorough_look_is_wanted() -> None:
    text = "Summarise the report in <report> as a table.\n<report>{{report}}</report>"
    assert lint(text) == []
    assert [f.rule for f in lint(text, settings=LintSettings(thorough=True))] == ["bound", "edge-case"]


def test_a_file_that_cannot_be_read_is_told_and_still_linted() -> None:
    found = lint("+++\nmodel = 3\n+++\nWrite two lines. Be engaging.")
    assert (found[0].rule, found[0].severity) == ("unreadable", "error")
    assert "vague-word" in [f.rule for f in found]


def test_messages_are_told_on_the_line_of_their_file() -> None:
    said = '{"role": "system", "content": "One line.\\nBe catchy."}'
    text = f'{{\n"messages": [\n{{"role": "user", "content": "hi"}},\n{said}\n]}}'
    assert [(f.rule, f.line) for f in lint(text)] == [("vague-word", 4)]


def test_front_matter_of_other_tools_is_no_prompt() -> None:
    assert [f.line for f in lint("---\ntitle: a good one\n---\nTwo lines.\nBe catchy.")] == [5]
