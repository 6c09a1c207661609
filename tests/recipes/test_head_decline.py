"""Which questions the reader's decision is fitted on, and that it is judged on articles it was not fitted on."""

import numpy as np
from recipes.heads.claims import Question
from recipes.heads.decline import SIGNALS, asked, left_out
from recipes.heads.weigh import fitted


def question(title: str, number: int, *, answerable: bool, origin: str = "squad2-dev") -> Question:
    return Question(f"Who is number {number}?", "Ann is.", title, ((0, 3),) if answerable else (), answerable, origin)


MIXED = [question("Mill", number, answerable=number % 2 == 0) for number in range(10)]
OTHERS = [
    *(question("Port", number, answerable=True) for number in range(5)),
    *(question("Mill", number, answerable=True, origin="squad1.1-dev") for number in range(5)),
]


def test_only_articles_with_unanswerable_questions_teach_and_the_draw_is_the_same_again() -> None:
    found = asked([*MIXED, *OTHERS], 6)
    assert len(found) == 6
    assert all(one in MIXED for one in found)
    assert found == asked([*MIXED, *OTHERS], 6)
    assert sorted(one.text for one in asked([*MIXED, *OTHERS], 99)) == sorted(one.text for one in MIXED)


def test_signs_that_hold_in_every_article_tell_articles_left_out_and_chance_does_not() -> None:
    rng = np.random.default_rng(20)
    right = (rng.random(400) < 0.5).astype(float)
    titles = [f"article {number % 8}" for number in range(400)]
    chance = rng.random((400, len(SIGNALS)))
    telling = chance.copy()
    telling[:, 1] += right
    assert left_out(telling, right, titles) > 0.95
    assert left_out(chance, right, titles) < 0.6


def test_no_sign_that_should_help_gets_a_weight_against() -> None:
    rng = np.random.default_rng(20)
    right = (rng.random(400) < 0.5).astype(float)
    table = rng.random((400, len(SIGNALS)))
    table[:, 0] += right
    table[:, 3] -= right
    weights = fitted(table, right, SIGNALS)
    assert weights["passage"] > 0
    assert "values" not in weights
