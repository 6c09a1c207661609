"""The words: ids sort by time, money is exact, verdicts decide what they should, collecting undoes taking apart."""

import itertools
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import Collector, as_one, deltas_of
from loam.core.calls import Answer, Choice, Delta, Head, ToolDelta, Usage, Words
from loam.core.clock import new_id
from loam.core.errors import STATUS, Failure, fail, kind_of_status, refuse
from loam.core.messages import Text, Thinking, ToolCall, say
from loam.core.money import dollars, money

TEXT = st.text(min_size=1, max_size=20)
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
PART = st.one_of(
    st.builds(Text, TEXT),
    st.builds(Thinking, TEXT, TEXT),
    st.builds(ToolCall, TEXT, TEXT, st.text(max_size=30)),
)


def no_two_texts_touch(parts: list[object]) -> bool:
    return all(not (isinstance(a, Text) and isinstance(b, Text)) for a, b in itertools.pairwise(parts))


PARTS = st.lists(PART, max_size=6).filter(no_two_texts_touch).map(tuple)
ANSWERS = st.builds(
    Answer,
    st.lists(st.builds(Choice, PARTS, FINISH), min_size=1, max_size=3).map(tuple),
    st.none() | st.builds(Usage, st.integers(0, 999), st.integers(0, 999)),
    st.builds(Head, id=st.text(max_size=5), model=st.text(max_size=5)),
)


@given(ANSWERS)
def test_collecting_undoes_taking_apart(answer: Answer) -> None:
    collector = Collector()
    for delta in deltas_of(answer):
        collector.add(delta)
    assert collector.answer() == answer


@given(ANSWERS)
def test_a_plain_answer_in_one_delta_says_the_same(answer: Answer) -> None:
    deltas = as_one(list(deltas_of(answer)))
    collector = Collector()
    for delta in deltas:
        collector.add(delta)
    assert collector.answer() == answer


def test_head_content_and_usage_become_one_delta() -> None:
    head, usage = Head(id="x"), Usage(1, 2)
    parts = [Delta(head=head), Delta(text="Hi", finish="stop"), Delta(usage=usage)]
    assert as_one(parts) == [Delta(text="Hi", finish="stop", head=head, usage=usage)]
    assert as_one([*parts, Delta(choice=1, text="Ho")]) == [*parts, Delta(choice=1, text="Ho")]


@given(st.integers(0, 3), TEXT)
def test_words_are_the_delta_of_the_same_text(choice: int, text: str) -> None:
    delta = Delta(choice=choice, text=text)
    assert Words(choice, text) == delta == Words(choice, text)
    assert Words(choice, text) != Delta(choice=choice, text=text, finish="stop")
    assert msgspec.json.encode(Words(choice, text)) == msgspec.json.encode(delta)


@given(st.lists(st.tuples(st.integers(0, 2), TEXT), max_size=12))
def test_words_collect_like_deltas(said: list[tuple[int, str]]) -> None:
    words, deltas = Collector(), Collector()
    for choice, text in said:
        words.add(Words(choice, text))
        deltas.add(Delta(choice=choice, text=text))
    assert words.answer() == deltas.answer()
    assert words.text_length == deltas.text_length


def test_text_arriving_in_pieces_is_one_part_and_tools_keep_apart() -> None:
    collector = Collector()
    for delta in (
        Delta(text="He"),
        Delta(text="llo"),
        Delta(tool=ToolDelta(0, "a", "f", '{"x"')),
        Delta(tool=ToolDelta(1, "b", "g", "{}")),
        Delta(tool=ToolDelta(0, arguments=": 1}")),
        Delta(finish="tool_calls"),
        Delta(usage=Usage(3, 4)),
    ):
        collector.add(delta)
    answer = collector.answer()
    assert answer.text == "Hello"
    assert answer.tool_calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))
    assert answer.usage == Usage(3, 4)


def test_extra_fields_grow_where_they_are_streamed() -> None:
    collector = Collector()
    collector.add(Delta(extra={"steps": [1], "note": "a", "n": 1}, family="openai"))
    collector.add(Delta(extra={"steps": [2], "note": "b", "n": 2}, family="openai"))
    assert collector.answer().choices[0].extra == {"steps": [1, 2], "note": "ab", "n": 2}


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_ids_sort_by_time_to_the_millisecond(a: float, b: float) -> None:
    early, late = sorted((a, b))
    if int(early * 1000) < int(late * 1000):
        assert new_id("call", early) < new_id("call", late)
    assert len(new_id("call", early)) == len("call_") + 24


def test_ids_do_not_repeat() -> None:
    assert len({new_id("call", 1.0) for _ in range(10_000)}) == 10_000


@given(st.integers(-(10**15), 10**15))
def test_money_goes_to_dollars_and_back(amount: int) -> None:
    assert money(dollars(amount)) == amount


@pytest.mark.parametrize("text", ["", "abc", "1.0000001", "nan", "inf", "1e400"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="dollars"):
        money(text)


def test_money_takes_decimals() -> None:
    assert money(Decimal("0.000001")) == 1


@pytest.mark.parametrize(
    ("status", "retryable", "mendable"),
    [
        (400, False, False),
        (401, False, True),
        (403, False, True),
        (404, False, True),
        (408, True, True),
        (409, True, True),
        (413, False, False),
        (418, False, False),
        (422, False, False),
        (429, True, True),
        (498, True, True),
        (500, True, True),
        (502, True, True),
        (503, True, True),
        (529, True, True),
        (599, True, True),
    ],
)
def test_the_verdict_on_each_status(status: int, retryable: bool, mendable: bool) -> None:
    failure = fail(kind_of_status(status), "p", "said no", status=status).failure
    assert (failure.retryable, failure.mendable, failure.http_status) == (retryable, mendable, status)


def test_what_loam_refuses_nobody_mends() -> None:
    for kind in STATUS:
        failure = refuse(kind, "no").failure
        assert not failure.retryable
        assert not failure.mendable


def test_the_upstreams_word_on_retrying_outranks_the_kind() -> None:
    assert not Failure(kind="server", message="", provider="p", should_retry=False).retryable
    assert Failure(kind="bad_request", message="", provider="p", should_retry=True).retryable


def test_a_message_says_its_text() -> None:
    assert say("user", "Hi").text == "Hi"
