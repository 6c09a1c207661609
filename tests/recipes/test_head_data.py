"""Pairs keep their spans, claims keep their labels true, and the same seed gives the same data."""

import random

import pytest
from recipes.heads.claims import Claim, Pair, Question
from recipes.heads.corpus import Lookalikes, human, synthetic
from recipes.heads.questions import changed_pairs, cloze_pairs, cropped, other_pairs, own_pairs
from recipes.heads.verdicts import asked, labelled, places, trained

MILL = (
    "The Old Mill was built in 1842 by Karl Lang near Oslo. It ground 300 sacks of rye a day for the town. "
    "In 1901 Peter Olsen bought the mill and closed it after 12 years. The building now holds a museum of rural life. "
    "Mary Sandford opened the museum on 3 May 1988 with many guests from Bergen."
)
PORT = (
    "Port Ellen lies on the southern coast of Islay in Scotland. Walter Campbell founded the village in 1821. "
    "Its three distilleries were famous for their smoke and closed one after another. "
    "The ferry to Kennacraig was started by David Hutcheson in 1881 and runs twice a day."
)


def question(text: str, passage: str, answer: str | None, title: str) -> Question:
    spans = ((passage.index(answer), passage.index(answer) + len(answer)),) if answer else ()
    return Question(text, passage, title, spans, bool(answer), "own")


QUESTIONS = [
    question("Who built the Old Mill?", MILL, "Karl Lang", "Mill"),
    question("When did Mary Sandford open the museum?", MILL, "3 May 1988", "Mill"),
    question("Who burnt the Old Mill?", MILL, None, "Mill"),
    question("Who founded the village?", PORT, "Walter Campbell", "Port Ellen"),
    question("When was the ferry to Kennacraig started?", PORT, "1881", "Port Ellen"),
]


@pytest.mark.parametrize("seed", range(5))
def test_a_cropped_pair_still_holds_its_answer(seed: int) -> None:
    rng = random.Random(seed)
    for pair in own_pairs(QUESTIONS, rng):
        short = cropped(pair, rng, 1.0, 25)
        assert short.passage in pair.passage
        assert len(short.passage) < len(pair.passage)
        if pair.span and short.span:
            assert short.passage[slice(*short.span)] == pair.passage[slice(*pair.span)]
        assert bool(pair.span) == bool(short.span)


def test_lookalikes_are_other_passages_without_the_answer() -> None:
    for pair in other_pairs(QUESTIONS, random.Random(1)):
        own = next(q for q in QUESTIONS if q.text == pair.question)
        assert pair.passage != own.passage
        assert pair.span is None
        assert pair.relevant is False


def test_changed_questions_have_no_answer() -> None:
    pairs = list(changed_pairs(QUESTIONS, random.Random(3), 1.0))
    assert pairs
    assert all(pair.span is None and pair.question not in {q.text for q in QUESTIONS} for pair in pairs)


def test_a_cloze_asks_for_a_stretch_that_it_does_not_hold() -> None:
    found: list[Pair] = []
    for seed in range(30):
        found += cloze_pairs([("Mill", MILL), ("Port Ellen", PORT)], random.Random(seed))
    assert any(pair.span is None for pair in found)
    for pair in found:
        if pair.span:
            assert pair.passage[slice(*pair.span)] not in pair.question


def test_bm25_finds_the_passage_that_shares_the_words() -> None:
    assert Lookalikes([PORT, MILL]).best("Who closed the mill after 12 years?", 2)[0] == 1


def held(claim: Claim) -> bool:
    return claim.source in claim.evidence


@pytest.mark.parametrize("seed", range(5))
def test_training_claims_are_true_to_their_labels(seed: int) -> None:
    found = places([("Mill", MILL), ("Port Ellen", PORT)])
    claims = list(trained(found, random.Random(seed), whole=0.5, origin="own"))
    assert {claim.label for claim in claims} == {"supported", "contradicted", "unsaid"}
    assert all(held(claim) for claim in claims if claim.label == "supported")
    assert not any(held(claim) for claim in claims if claim.label != "supported")


def test_the_labelled_set_is_the_same_for_a_seed_and_true_to_its_kinds() -> None:
    claims = labelled(QUESTIONS, seed=4)
    assert claims == labelled(QUESTIONS, seed=4)
    kinds = {claim.kind: claim for claim in claims}
    assert {"verbatim", "paraphrase", "number", "date", "entity", "negation", "foreign", "abstractive"} <= set(kinds)
    for claim in claims:
        assert held(claim) == (claim.label != "unsaid")
        assert (claim.text in claim.evidence) == (claim.kind == "verbatim")


def test_asked_claims_carry_the_right_answer_or_another() -> None:
    claims = list(asked(QUESTIONS, random.Random(2), whole=1.0))
    right = {claim.text for claim in claims if claim.label == "supported"}
    assert "Karl Lang built the Old Mill." in right
    assert not right & {claim.text for claim in claims if claim.label != "supported"}


def test_rows_become_questions_whose_spans_are_checked() -> None:
    row = {
        "question": "Who built the Old Mill?",
        "context": MILL,
        "title": "Mill",
        "answers": [{"text": "Karl Lang", "start": MILL.index("Karl")}, {"text": "Karl", "start": 0}],
        "answerable": True,
        "source": "own",
    }
    assert human([row])[0].spans == ((MILL.index("Karl"), MILL.index("Karl") + 9),)


def test_clumsy_synthetic_questions_are_left_out() -> None:
    qas = [
        {"question": text, "answers": [], "answerable": False, "kind": kind}
        for text, kind in (
            ("When was it built?", "when"),
            ("When was Oslo founded?", "none-typed-founded"),
            ("When did Ada die?", "none-death"),
        )
    ]
    assert [q.text for q in synthetic([{"title": "Mill", "context": MILL, "qas": qas}])] == ["When did Ada die?"]
