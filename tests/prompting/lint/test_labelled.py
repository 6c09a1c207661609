"""On the labelled prompts no rule that is on by default is wrong more often than once in ten."""

import pytest

from bench.lint import FOLDER, SHIPPED, labelled, page, scores
from loam.prompting.lint.rules import RULES

PROMPTS = labelled()
SCORES = scores(PROMPTS, SHIPPED)


def test_there_are_enough_and_half_are_clean() -> None:
    assert len(PROMPTS) >= 60
    assert 0.4 <= sum(not prompt.labels for prompt in PROMPTS) / len(PROMPTS) <= 0.6
    assert len({prompt.id for prompt in PROMPTS}) == len(PROMPTS)
    assert {label for prompt in PROMPTS for label in prompt.labels} <= {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.on], ids=lambda rule: rule.name)
def test_a_rule_that_is_on_is_right_nine_times_of_ten(rule) -> None:
    score = SCORES[rule.name]
    assert score.right >= 8
    assert score.precision is not None
    assert score.precision >= 0.9


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.on], ids=lambda rule: rule.name)
def test_on_the_last_round_too_which_no_rule_was_changed_for(rule) -> None:
    score = scores([prompt for prompt in PROMPTS if prompt.round == "proof"], SHIPPED)[rule.name]
    assert score.precision is None or score.precision >= 0.9


def test_the_page_says_what_the_script_prints() -> None:
    assert (FOLDER.with_name("LINT.md")).read_text("utf-8") == page(), "print it again: python -m bench.lint --write"
