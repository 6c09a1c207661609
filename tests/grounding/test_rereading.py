"""The second look at an answer: what is asked of the heads, and what their say does to the reader's answer."""

import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from loam.core.answers import collect
from loam.core.calls import Call, Passage
from loam.core.messages import say
from loam.grounding.checks.answered import WEIGHTS, answered, by_words
from loam.grounding.encoder.port import Reading, Support
from loam.grounding.prompt import DECLINED
from loam.grounding.reader import Reader
from loam.grounding.rereading import likely, signals

MILL = "It rains. The Old Mill was built in 1842 by Karl Lang. It ground rye for the town. It is shut now."
SENTENCE = "The Old Mill was built in 1842 by Karl Lang."
LOOKS, CHECKS = ("passage", "sentence", "around"), ("values", "denial", "sides")
SPAN = MILL.index("Karl"), MILL.index("Karl") + 9

far = st.floats(0, 20, allow_nan=False)


class _Heads(Struct):
    """Heads that find the builder in the passage, and are as sure as told when they look again."""

    again: float
    seen: list[str]
    id: str = "told"

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        self.seen += passages
        return [Reading(0.9, 0.9, *SPAN, 0.2 if text == MILL else self.again) for text in passages]

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return [Support(0.0, 0.0, 1.0) for _ in pairs]


@given(st.fixed_dictionaries(dict.fromkeys(LOOKS, far) | dict.fromkeys(CHECKS, st.sampled_from([0.0, 1.0]))))
def test_it_is_a_probability_and_no_good_sign_lowers_it(found: dict[str, float]) -> None:
    sure = answered(found)
    assert 0 <= sure <= 1
    for name in LOOKS:
        assert answered(found | {name: found[name] + 1}) >= sure
    for name in CHECKS:
        assert answered(found | {name: 1.0}) >= sure


def test_the_weights_are_of_signals_that_there_are() -> None:
    assert set(WEIGHTS.weights) <= {*LOOKS, *CHECKS}
    assert "sentence" in WEIGHTS.weights


@pytest.mark.parametrize(
    ("question", "failed"),
    [
        ("Who built the Old Mill in 1842?", set[str]()),
        ("Who built the Old Mill in 1843?", {"values"}),
        ("Who did not build the Old Mill?", {"denial"}),
    ],
)
def test_a_question_that_changes_a_value_or_denies_fails_a_check(question: str, failed: set[str]) -> None:
    assert {name for name, passed in by_words(question, SENTENCE).items() if not passed} == failed


@pytest.mark.anyio
async def test_the_heads_see_the_sentence_alone_and_between_its_neighbours() -> None:
    heads = _Heads(0.5, [])
    found = await signals(heads, "Who built the Old Mill?", MILL, Reading(0.9, 0.9, *SPAN, 0.01))
    assert heads.seen == [SENTENCE, f"It rains. {SENTENCE} It ground rye for the town."]
    assert set(found) == {*LOOKS, *CHECKS}
    assert found["passage"] == pytest.approx(-math.log(0.01))
    assert found["sentence"] == found["around"] == pytest.approx(-math.log(0.5))


@pytest.mark.anyio
async def test_where_no_span_is_nothing_is_asked() -> None:
    heads = _Heads(0.5, [])
    assert await likely(heads, "Who?", MILL, Reading(0.9, 0.9, 0, 0)) == 0.0
    assert heads.seen == []


@pytest.mark.anyio
@pytest.mark.parametrize(("again", "text"), [(1e-6, SENTENCE), (1.0, DECLINED)])
async def test_a_second_look_decides_whether_the_reader_answers(again: float, text: str) -> None:
    passage = Passage("d", "Mill", "", "", 0, len(MILL), MILL, 1.0, "r")
    asked = Call(id="call_1", model="m", messages=(say("user", "Who put up the place?"),), passages=(passage,))
    answer = await collect(Reader(_Heads(again, [])).answer(msgspec.structs.replace(asked)))
    assert answer.text == text
