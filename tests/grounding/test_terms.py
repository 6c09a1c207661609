import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loam.grounding.terms import match_query, pairs_met, searchable, stem, words


@pytest.mark.parametrize(
    "family",
    [
        "reimburse reimburses reimbursed reimbursing reimbursement",
        "policy policies",
        "approve approved approval",
        "leave leaves",
        "employ employed employer employment",
        "stop stopped stopping",
    ],
)
def test_forms_of_a_word_meet_in_one_stem(family: str) -> None:
    assert len({stem(word) for word in family.split()}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("employer", "employee"), ("travel", "trave"), ("access", "acces"), ("form1", "form11")]
)
def test_different_words_stay_different(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_words_are_folded() -> None:
    assert words("Café, STRASSE & straße: don't_stop 東京") == [
        "cafe",
        "strasse",
        "strasse",
        "don",
        "t",
        "stop",
        "東",
        "京",
    ]


def test_a_query_drops_stop_words_unless_there_is_nothing_else() -> None:
    assert match_query("How many hours of leave do I have?") == '"hours" OR "leave"'
    assert match_query("Who are you?") == '"who" OR "are" OR "you"'
    assert match_query("?!…") == ""
    assert match_query("東京都") == '"東 京" OR "京 都"'


def search(text: str, question: str) -> int:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (body, content = '', tokenize = 'porter unicode61')")
    connection.execute("INSERT INTO t (rowid, body) VALUES (1, ?)", (searchable(text),))
    found = connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", (f"{{body}} : ({match_query(question)})",))
    count: int = found.fetchone()[0]
    connection.close()
    return count


@given(st.text())
@example('" OR 1 --')
@example("body : x* NEAR(a b, 3) ^c AND NOT {d}")
@example("a\x00b")
@example("ﬀ ½ ǅ İ ҈ 한국어")
@example("हिन्दी ภาษาไทย العَرَبِيَّة")
def test_no_question_is_read_as_syntax_and_every_text_finds_itself(text: str) -> None:
    if match_query(text):
        assert search(text, text) == 1


def test_a_word_is_found_whatever_its_script_or_accents() -> None:
    assert search("Der Café-Besuch auf der Straße", "strasse") == 1
    assert search("한국어 문서입니다", "한국어") == 1
    assert search("東京都の天気", "東京") == 1
    assert search("東の京", "東京") == 0
    assert search("Привет, мир", "МИР") == 1


def test_word_pairs_are_met_as_they_stand() -> None:
    assert pairs_met("sick leave hours", "Hours of Sick-Leave.") == 0.5
    assert pairs_met("休暇は", "この休暇はよい") == 1
    assert pairs_met("leave", "leave") == pairs_met("", "x") == 0


@given(question=st.text(max_size=60), text=st.text(max_size=200))
def test_the_share_of_word_pairs_is_a_share_and_whole_in_the_question_itself(question: str, text: str) -> None:
    assert 0 <= pairs_met(question, text) <= 1
    assert pairs_met(question, question) == float(len(words(question)) > 1)
