"""Changes differ from their source in the stated words, rewritings add no fact, and declared claims keep the answer."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes.heads.changes import MAKERS
from recipes.heads.declare import declared
from recipes.heads.rewrites import REWRITERS, rewritten
from recipes.heads.words import base, names, past

SENTENCES = (
    "In 1807, Ada Byron sold 1,250 engines to the Royal Society of London.",
    "The first bridge was built by Karl Lang in May 1931 and carries 40 trains a day.",
    "Roman Meyer defeated Peter Olsen in the final, which was not held in Oslo.",
    "On Tuesday the northern mill, however, had three wheels and did not stop.",
    "The harbour lies 12.5 km before Port Ellen (on Islay), known for large ships.",
)
POOL = ("Mary Sandford", "Jean Valjean", "Bergen", "Institute of Physics", "NATO")


@pytest.mark.parametrize("kind", sorted(MAKERS))
@given(sentence=st.sampled_from(SENTENCES), seed=st.integers(0, 10_000))
def test_a_change_is_only_what_it_says(kind: str, sentence: str, seed: int) -> None:
    change = MAKERS[kind](sentence, POOL, random.Random(seed))
    if change is None:
        return
    assert change.text != sentence
    if kind == "roles":
        swapped = sentence.replace(change.old, "\0", 1).replace(change.new, change.old, 1).replace("\0", change.new, 1)
        assert change.text == swapped
    else:
        places = [at.start() for at in re.finditer(re.escape(change.old), sentence)]
        assert change.text in {sentence[:at] + change.new + sentence[at + len(change.old) :] for at in places}


@given(sentence=st.sampled_from(SENTENCES), seed=st.integers(0, 10_000))
def test_a_changed_number_is_another_number_and_no_date(sentence: str, seed: int) -> None:
    change = MAKERS["number"](sentence, POOL, random.Random(seed))
    if change is not None:
        assert change.old not in ("1807", "1931")
        assert change.old.replace(",", "") != change.new.replace(",", "")


@given(sentence=st.sampled_from(SENTENCES), seed=st.integers(0, 10_000))
def test_a_changed_date_stays_a_date_of_its_sort(sentence: str, seed: int) -> None:
    change = MAKERS["date"](sentence, POOL, random.Random(seed))
    if change is not None:
        assert change.old.isdigit() == change.new.isdigit()
        assert len(change.old) == len(change.new) or not change.old.isdigit() or len(change.old) < 3


@given(sentence=st.sampled_from(SENTENCES), seed=st.integers(0, 10_000))
def test_another_name_comes_from_the_pool(sentence: str, seed: int) -> None:
    change = MAKERS["entity"](sentence, POOL, random.Random(seed))
    assert change is None or change.new in POOL


@pytest.mark.parametrize(
    ("sentence", "denied"),
    [
        ("The mill was old.", "not"),
        ("It was not old.", None),
        ("They cannot swim.", None),
        ("The mill opened early.", "not"),
    ],
)
def test_a_denial_goes_in_or_out(sentence: str, denied: str | None) -> None:
    found = {MAKERS["negation"](sentence, (), random.Random(seed)) for seed in range(20)}
    for change in found:
        assert change is not None
        assert bool(re.search(r"not\b|n't|never", change.text)) == bool(denied)


@pytest.mark.parametrize("name", sorted(REWRITERS))
@given(sentence=st.sampled_from(SENTENCES), seed=st.integers(0, 10_000))
def test_a_rewriting_adds_no_number_name_or_denial(name: str, sentence: str, seed: int) -> None:
    text = REWRITERS[name](sentence, random.Random(seed))
    if text is None:
        return
    plain = text.replace(",", "")
    own = set(re.findall(r"\d+", sentence.replace(",", ""))) | {"3"}  # "three" may turn into 3
    assert set(re.findall(r"\d+", plain)) <= own
    added = {text[slice(*span)] for span in names(text)} - {sentence[slice(*span)] for span in names(sentence)}
    assert all(name in sentence for name in added)
    assert len(re.findall(r"\bnot\b|n't|never", text)) <= len(re.findall(r"\bnot\b|n't|never", sentence))


def test_a_rewritten_sentence_differs() -> None:
    assert all(rewritten(sentence, random.Random(1)) != sentence for sentence in SENTENCES)


@pytest.mark.parametrize(
    ("question", "answer", "claim"),
    [
        ("Who designed the Hereford Screen?", "Gilbert Scott", "Gilbert Scott designed the Hereford Screen."),
        ("When did the mill open?", "1842", "The mill opened in 1842."),
        ("In what year was the mill closed?", "1901", "The mill was closed in 1901."),
        ("What does ATP store?", "energy", "ATP stores energy."),
        ("What is the capital of Norway?", "Oslo", "The capital of Norway is Oslo."),
        ("The work was funded by what company?", "Acme", "The work was funded by Acme."),
        ("Where was Ada born?", "London", "Ada was born in London."),
        ("Why?", "because", None),
    ],
)
def test_a_question_and_its_answer_become_a_sentence(question: str, answer: str, claim: str | None) -> None:
    assert declared(question, answer) == claim


@given(question=st.text(max_size=60), answer=st.text(min_size=1, max_size=20))
def test_declaring_takes_any_text(question: str, answer: str) -> None:
    claim = declared(question, answer)
    assert claim is None or claim.endswith(".")


@pytest.mark.parametrize("verb", ["carry", "stop", "use", "build", "attack", "win"])
def test_past_and_base_undo_each_other(verb: str) -> None:
    assert base(past(verb)) == verb


def test_names_are_runs_of_capitals_that_are_no_calendar_words() -> None:
    text = "In May the Royal Society of London met Ada Byron. Later NATO came."
    assert [text[slice(*span)] for span in names(text)] == ["Royal Society of London", "Ada Byron", "NATO"]
