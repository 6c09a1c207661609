"""What words and the trained head say together, and what the head may change of a verdict."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from loam.core.calls import Passage, SentenceCheck
from loam.grounding.checks.support import WEIGHTS, Weights, feature, support
from loam.grounding.claims import Claim
from loam.grounding.encoder.port import Reading, Support
from loam.grounding.sheet import Sheet
from loam.grounding.verify import Checkers, Verifier

MILL = "The Old Mill was built in 1842 by Karl Lang. It ground 300 sacks of rye a day for the town of Bergen."
SIGNALS = ("numbers", "names", "denial", "sides", "places", "order", "whole", "coverage", "pairs", "head", "denied")

shares = st.floats(0, 1, allow_nan=False)


@given(st.fixed_dictionaries(dict.fromkeys(SIGNALS, shares)))
def test_it_is_a_probability_and_no_good_sign_lowers_it(signals: dict[str, float]) -> None:
    likely = support(signals)
    assert 0 <= likely <= 1
    for name in SIGNALS:
        better = signals | {name: 0.0 if name == "denied" else 1.0}
        assert support(better) >= likely


def test_the_weights_are_of_signals_that_verdicts_have() -> None:
    assert WEIGHTS.weights
    assert set(WEIGHTS.weights) <= set(SIGNALS)
    assert "head" in WEIGHTS.weights


def test_the_heads_probability_counts_as_its_log_odds() -> None:
    only_head = Weights("test", 0.0, {"head": 1.0})
    assert support({"head": 0.9}, only_head) == pytest.approx(0.9)
    assert feature("head", 1.0) == feature("head", 0.9999)
    assert feature("coverage", 0.25) == 0.25


class _Stored(Struct, frozen=True):
    revision: str
    text: str
    pages: tuple[int, ...] = ()


class _Shelf(Struct, frozen=True):
    async def document(self, collection: str, document_id: str) -> _Stored:
        return _Stored("r", MILL)


class _Heads(Struct, frozen=True):
    """Heads that always judge the same."""

    judgement: Support
    id: str = "same"

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        return [Reading(0.0, 0.0, 0, 0) for _ in passages]

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return [self.judgement for _ in pairs]


SURE, UNSURE, DENYING = Support(0.999, 0.0005, 0.0005), Support(0.3, 0.2, 0.5), Support(0.001, 0.998, 0.001)


async def judged(sentence: str, head: Support) -> SentenceCheck:
    sheet = Sheet([Passage("d", "Mill", "", "", 0, len(MILL), MILL, 1.0, "r")])
    verifier = Verifier(_Shelf(), "c", sheet, question="", checkers=Checkers(_Heads(head)), judge=None)
    return await verifier.check(Claim(sentence, sentence, "", ("1.1",)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sentence",
    [
        "The Old Mill was built in 1843 by Karl Lang.",
        "The Old Mill was built in 1842 by Peter Olsen.",
        "The Old Mill was not built in 1842 by Karl Lang.",
    ],
)
async def test_no_head_lifts_a_sentence_on_which_a_gate_is_shut(sentence: str) -> None:
    assert (await judged(sentence, SURE)).verdict in ("unsupported", "contradicted")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sentence",
    [
        "The Old Mill was built in 1842 by Karl Lang because auditors complained.",
        "The Old Mill was secretly built in 1842 by Karl Lang.",
    ],
)
async def test_no_head_supports_what_was_added_to_a_true_sentence(sentence: str) -> None:
    assert (await judged(sentence, SURE)).verdict == "weak"


@pytest.mark.anyio
async def test_a_sure_head_lets_a_true_sentence_pass_and_a_denying_one_holds_it() -> None:
    said = "The Old Mill was built in 1842 by Karl Lang."
    passed, held = await judged(said, SURE), await judged(said, DENYING)
    assert passed.verdict == "supported"
    assert held.verdict != "supported"
    assert passed.score > held.score
    assert {"head", "denied"} <= set(passed.signals)


@pytest.mark.anyio
async def test_the_score_can_be_computed_again_from_the_signals_of_a_verdict() -> None:
    for head in (SURE, UNSURE, DENYING):
        check = await judged("Karl Lang built the Old Mill in 1842.", head)
        assert check.score == pytest.approx(support(check.signals), abs=0.001)
