"""The event-stream parser against the standard's rules, at every cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.wire.sse import Event, EventParser, encode_event

LINES = st.text("ab:d \N{GREEK SMALL LETTER ALPHA}", max_size=6)


def parse(stream: bytes, cuts: list[int] | None = None, limit: int = 1 << 16) -> list[Event]:
    parser = EventParser(limit)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    return [event for a, b in pairwise(edges) for event in parser.feed(stream[a:b])]


def slow(stream: str) -> list[Event]:
    """The standard's algorithm, word for word, over the whole stream."""
    events: list[Event] = []
    name, data = "", []
    *lines, _unfinished = re.split("\r\n|\r|\n", stream.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))
    for line in lines:
        field, _, value = line.partition(":")
        if line == "":
            if data:
                events.append(Event(name, "\n".join(data).encode()))
            name, data = "", []
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    return events


streams = st.lists(
    st.tuples(st.sampled_from(["data: ", "data:", "data", "event: ", ": ", "id: ", "", ""]), LINES).map("".join)
    | st.just(""),
    max_size=12,
)


@given(
    lines=streams,
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=4),
    bom=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_stream_cut_anywhere_gives_what_the_standard_says(
    lines: list[str], ends: list[str], bom: bool, cuts: list[int]
) -> None:
    text = "".join(line + ends[i % len(ends)] for i, line in enumerate(lines))
    text = "\N{ZERO WIDTH NO-BREAK SPACE}" * bom + text
    if text.endswith("\r"):
        text += "\n"  # the twin reads the whole stream, so it cannot know a return that a newline may still follow
    assert parse(text.encode(), cuts) == slow(text)


@given(
    data=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])),
    event=st.sampled_from(["", "delta"]),
)
def test_an_encoded_event_parses_to_itself(data: str, event: str) -> None:
    assert parse(encode_event(data.encode(), event)) == [Event(event, data.encode())]


def test_one_read_with_many_records() -> None:
    assert parse(b'data: {"a":1}\n\ndata: {"a":2}\n\ndata: [DONE]\n\n') == [
        Event("", b'{"a":1}'),
        Event("", b'{"a":2}'),
        Event("", b"[DONE]"),
    ]


def test_comments_and_names() -> None:
    stream = b": OPENROUTER PROCESSING\n\nevent: message_stop\nid: 7\ndata: {}\n\n"
    assert parse(stream) == [Event("message_stop", b"{}")]


def test_an_unfinished_record_is_no_event() -> None:
    assert parse(b"data: {}\n") == []


@pytest.mark.parametrize("cuts", [[], list(range(200))])
def test_a_record_over_the_limit_is_refused(cuts: list[int]) -> None:
    record = b"data: " + b"x" * 94
    assert len(parse(record + b"\n\n" + record + b"\n\n", cuts, limit=100)) == 2
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        parse(b"data: {}\n\n" + record + b"x\n\n", cuts, limit=100)


def test_an_endless_record_is_refused_before_its_end() -> None:
    parser = EventParser(limit=1000)
    fed = [parser.feed(b"data: " + b"x" * 94) for _ in range(10)]
    assert not any(fed)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        parser.feed(b"xx")
