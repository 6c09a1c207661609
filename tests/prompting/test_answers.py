"""Reading an answer: what a person would take for the same answer has one form, and a right one is never lost."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.prompting.answers import answer_in, canonical, written

NUMBERS = [
    ("So he pays $1,200.00.", "1200"),
    ("The answer is **42**.", "42"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    (r"Therefore $\boxed{1{,}234}$.", "1234"),
    ("Answer: 2 1/2 cups", "2.5"),
    ("Answer: 2½", "2.5"),
    ("Answer: 1/3", "1/3"),
    ("−5", "-5"),
    ("answer: forty-two", "42"),
    ("Answer: three hundred and five", "305"),
    ("Answer: 1.5 million", "1500000"),
    ("Answer: 50%", "50"),
    (r"Answer: 25\%", "25"),
    (r"Answer: \$5.50", "5.5"),
    ("A: 5 x 4 = 20", "20"),
    ("She has 3 left.\n#### 3", "3"),
    ("It is 10-3 = 7 left", "7"),
    ("1\u202f234 people", "1234"),
    ("5.0", "5"),
    (".5", "0.5"),
    ("1e3", "1000"),
    ("First 12, then 15, so 27", "27"),
    ("Final Answer: 18 dollars for 3 shirts", "18"),
    ("<answer>\n7\n</answer>", "7"),
    ("<answer>7</answer> Or rather <answer>8</answer>", "8"),
    ("Answer: 3\nWait.\nAnswer: 4", "4"),
    ("x = 3/0", None),
    ("no idea", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_numbers(text: str, number: str | None) -> None:
    assert canonical(text, "number") == number


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("The answer is (B).", "B"),
        ("Answer: c", "C"),
        ("**D**", "D"),
        ("I think A is wrong, so it must be C", "C"),
        ("B) because of the rain", "B"),
        ("nothing fits", None),
    ],
)
def test_choices(text: str, choice: str | None) -> None:
    assert canonical(text, "choice") == choice


def test_text_is_told_apart_without_case_points_and_spaces() -> None:
    assert canonical("Thinking.\nAnswer: The  Hague.", "text") == canonical("the hague", "text") == "the hague"
    assert canonical("  ", "text") is None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Answer: 12 dollars", "12"),
        ("Answer: B", "B"),
        ("Answer: Paris.", "paris"),
        ("It is 5 in Lima, not 6, she said", "it is 5 in lima, not 6, she said"),
    ],
)
def test_auto_takes_the_kind_that_the_answer_has(text: str, form: str) -> None:
    assert canonical(text, "auto") == form


def test_a_pointer_reads_json_in_one_writing() -> None:
    assert canonical('{"a/b": [1, {"total": 5.0}]}', "json:/a~1b/1/total") == "5"
    assert canonical('{"b": 1, "a": "Yes."}', "json:") == canonical('{"a": "yes", "b": 1.0}', "json:")
    assert canonical('{"a": 1}', "json:/b") is None
    assert canonical("not json", "json:/a") is None


def test_an_unmarked_text_has_no_marked_answer() -> None:
    assert answer_in("Water boils at 100 degrees") is None


@given(st.fractions(max_denominator=10_000), st.sampled_from(["{}", "Answer: {}.", "so x = {}", "<answer>{}</answer>"]))
def test_every_number_comes_back_however_it_is_wrapped(value: Fraction, frame: str) -> None:
    assert canonical(frame.format(written(value)), "number") == written(value)


@given(st.text(max_size=300), st.sampled_from(["number", "choice", "text", "auto", "json:/a"]))
def test_no_text_breaks_it(text: str, kind: str) -> None:
    canonical(text, kind)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Answer: 1 200 km", "1200"),
        ("Answer: 1.200,50 €", "1200.5"),
        ("Answer: 1,5", "1.5"),
        ("Answer: $1.5M", "1500000"),
        ("Answer: 1.5k", "1500"),
        ("Answer: 5 m", "5"),
        ("Answer: three and a half", "3.5"),
        ("Answer: half", "0.5"),
        ("Answer: a dozen", "12"),
        ("Answer: two hundred and five thousand and six", "205006"),
        ("Answer: minus four", "-4"),
        ("Answer: negative $3", "-3"),
        ("Answer: $3.0 \\times 10^{2}$", "300"),
        ("Answer: 10^3", "1000"),
        ("Answer: 3 dollars and 50 cents", "3.5"),
        ("Answer: 1.234", "1.234"),
        ("Answer: 3, 4", "3"),
        ("He uses 6*2=12 masks every 2 days.", "12"),
        ("They watch 6*4 = 24 movies in 4 weeks", "24"),
        ("If x = 3 then y is 9.", "9"),
        ("So 2+2=4, so he has 5", "5"),
        ("The sum is 30 + 20 = 50.\nThere are 4 left.", "4"),
    ],
)
def test_a_number_is_read_as_a_person_reads_it(text: str, number: str) -> None:
    assert canonical(text, "number") == number


@pytest.mark.parametrize("kind", ["number", "choice", "text", "auto", "json:/a"])
@pytest.mark.parametrize(
    "hostile",
    ["9" * 5000, "\\boxed{" * 20_000, "twenty " * 20_000, "1 000 " * 20_000, "a and " * 20_000, "[" * 100_000],
)
def test_a_hostile_answer_is_read_in_bounded_time(hostile: str, kind: str) -> None:
    started = time.perf_counter()
    canonical(hostile, kind)
    canonical(f"Answer: {hostile}", kind)
    assert time.perf_counter() - started < 2
