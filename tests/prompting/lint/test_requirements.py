"""What a prompt requires becomes checks, and a check says yes to what keeps to it and no to what does not."""

from typing import Any

import pytest

from loam.core.errors import ModelFailure
from loam.prompting.lint.checks import Check, problem_of
from loam.prompting.lint.proof import Case, call_of, prove, sign_test
from loam.prompting.lint.requirements import requirements
from loam.providers.scripted import Scripted


def found(text: str) -> list[dict[str, Any]]:
    keep = ("kind", "unit", "number", "texts")
    return [{name: value for name in keep if (value := getattr(check, name))} for check in requirements(text)]


@pytest.mark.parametrize(
    ("text", "check", "passes", "fails"),
    [
        (
            "Answer in at most 3 sentences.",
            {"kind": "most", "unit": "sentence", "number": 3},
            "A. B? C!",
            "A. B. C. D.",
        ),
        ("Write at least 3 words.", {"kind": "least", "unit": "word", "number": 3}, "a b c", "a b"),
        ("Give exactly two lines.", {"kind": "exact", "unit": "line", "number": 2}, "a\n\nb", "a"),
        ("Use five bullets at most.", {"kind": "most", "unit": "bullet", "number": 5}, "- a\n- b", "- a\n" * 6),
        ("At most 9 characters.", {"kind": "most", "unit": "character", "number": 9}, "x" * 9, "x" * 10),
        ("Return valid JSON.", {"kind": "json"}, "[1]", "[1"),
        ('Return JSON with the keys "a" and "b".', {"kind": "keys", "texts": ("a", "b")}, '{"a":1,"b":2}', '{"a":1}'),
        ("Answer red, amber or green.", {"kind": "choice", "texts": ("red", "amber", "green")}, "Amber.", "blue"),
        ('Do not use the word "very".', {"kind": "lacks", "texts": ("very",)}, "every one", "Very good"),
        ('End with "Bye".', {"kind": "ends", "texts": ("Bye",)}, "So long, bye", "Bye now"),
        ('Begin with "Dear".', {"kind": "starts", "texts": ("Dear",)}, "Dear Ada", "Hello"),
        (
            'Include the phrase "at no cost".',
            {"kind": "contains", "texts": ("at no cost",)},
            "it is At no cost.",
            "free",
        ),
        ("No exclamation marks.", {"kind": "lacks", "texts": ("!",)}, "Good.", "Good!"),
    ],
)
def test_a_requirement_can_be_carried_out(text: str, check: dict[str, Any], passes: str, fails: str) -> None:
    [made] = requirements(text)
    assert found(text) == [check]
    assert problem_of(made, passes) == ""
    assert problem_of(made, fails)


def test_what_is_said_to_answer_instead_is_a_choice_too() -> None:
    text = "Answer red, amber or green. If you cannot tell, answer: unsure"
    assert found(text)[0]["texts"] == ("red", "amber", "green", "unsure")


def test_a_schema_is_a_check() -> None:
    schema = '{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}'
    [made] = requirements(f"+++\nmodel = 'm'\nschema = '{schema}'\n+++\nCount.")
    assert problem_of(made, '{"n": 1}') == ""
    assert problem_of(made, '{"n": "1"}') == '/n: "1" is not of type "integer"'
    assert problem_of(made, "one") == "it is not JSON"


@pytest.mark.parametrize(
    "text",
    [
        "If the text is long, use at most 3 sentences.",
        "Each bullet has at most 10 words.",
        "Three paragraphs of at most 70 words each.",
        "The title has at most 9 words.",
    ],
)
def test_what_holds_sometimes_or_of_a_part_is_no_check_of_the_whole(text: str) -> None:
    assert not [check for check in requirements(text) if check.unit in ("word", "sentence")]


def test_a_rule_that_no_program_can_carry_out_is_for_a_judge() -> None:
    [check] = requirements("Never promise money.")
    assert (check.kind, check.source, check.line) == ("judge", "Never promise money.", 1)
    assert problem_of(check, "You get 5 euros.") is None


def test_ids_count_the_requirements_in_the_order_of_the_lines() -> None:
    made = requirements("Two lines.\n\nNever shout.\n\nAt most 30 words.")
    assert [(check.id, check.line) for check in made] == [("r1", 1), ("r2", 3), ("r3", 5)]


VAGUE, SPECIFIC = "Summarise: {text}", '+++\nmodel = "m"\n+++\nOne sentence.\n+++ user\n{{text}}'


def test_a_template_is_asked_as_it_stands_and_a_loam_prompt_as_the_gateway_fills_it() -> None:
    case = Case(variables={"text": "A {b}"})
    plain = call_of(VAGUE, case, asked="x", call_id="1")
    assert [(m.role, m.text) for m in plain.messages] == [("user", "Summarise: A {b}")]
    own = call_of(SPECIFIC, case, asked="", call_id="1")
    assert own.model == "m"
    assert own.messages[-1].text.startswith("<data-")
    with_input = call_of("Be kind.", Case(input="Hello"), asked="x", call_id="1")
    assert [(m.role, m.text) for m in with_input.messages] == [("system", "Be kind."), ("user", "Hello")]


@pytest.mark.anyio
async def test_two_prompts_are_weighed_on_the_same_cases() -> None:
    model = Scripted([lambda call: "One." if call.messages[0].role == "system" else "One. Two."])
    cases = [Case(variables={"text": str(number)}) for number in range(6)]
    trials = await prove(
        model, VAGUE, SPECIFIC, cases, asked="m", checks=requirements("One sentence."), ids=lambda: "c"
    )
    assert [(trial.first, trial.second) for trial in trials] == [(0.0, 1.0)] * 6
    assert sign_test([trial.difference for trial in trials]) == pytest.approx(2 / 64)


@pytest.mark.anyio
async def test_a_case_that_could_not_be_answered_counts_for_neither_and_nothing_to_check_is_refused() -> None:
    from loam.providers.script import Line

    lines = [Line(fail="server", status=500), "One."]
    [trial] = await prove(
        Scripted(lines), "A", "B", [Case(input="x", expected="One")], asked="m", checks=[], ids=lambda: "c"
    )
    assert trial.failure
    with pytest.raises(ModelFailure, match="nothing to check by"):
        await prove(Scripted(["One."]), "A", "B", [Case(input="x")], asked="m", checks=[], ids=lambda: "c")


@pytest.mark.parametrize(("differences", "chance"), [([], 1.0), ([0.0], 1.0), ([1] * 5, 0.0625), ([1, -1], 1.0)])
def test_the_test_of_signs_is_exact(differences: list[float], chance: float) -> None:
    assert sign_test(differences) == chance


def test_an_expected_answer_is_compared_without_its_dress() -> None:
    check = Check(id="e", kind="equals", texts=("42",))
    assert problem_of(check, " `42.` ") == ""
    assert problem_of(check, "43")
