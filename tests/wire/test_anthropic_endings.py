from typing import Any, get_args

import msgspec
import pytest
from anthropic.types import MessageDeltaUsage, StopReason
from anthropic.types import Usage as SdkUsage
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Finish, Usage
from loam.wire.anthropic_endings import finish_of, stop_reason_of, usage_of, words_of

COUNTS = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 40},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
}


def test_the_core_counts_cached_input_and_anthropic_does_not() -> None:
    usage = usage_of(COUNTS)
    assert usage == Usage(input=140, output=50, cached=100, cache_write=30, cache_write_1h=10, reasoning=40, searches=2)
    assert words_of(usage) == COUNTS


def test_nulls_and_missing_counts_are_zero() -> None:
    assert usage_of({"input_tokens": 3, "cache_creation": None, "server_tool_use": None}) == Usage(input=3)
    assert usage_of({}) == Usage()


@pytest.mark.parametrize("counts", [{"input_tokens": "3"}, {"cache_creation": 3}])
def test_counts_that_are_no_numbers(counts: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        usage_of(counts)


small = st.integers(0, 10**9)
usages = st.builds(
    lambda plain, cached, short, long, **rest: Usage(
        input=plain + cached + short + long, cached=cached, cache_write=short + long, cache_write_1h=long, **rest
    ),
    *[small] * 4,
    output=small,
    reasoning=small,
    searches=small,
)


@given(usages)
def test_there_and_back(usage: Usage) -> None:
    words = words_of(usage)
    assert usage_of(words) == usage
    SdkUsage.model_validate(words)
    MessageDeltaUsage.model_validate(words)
    assert (
        words["input_tokens"] + words["cache_read_input_tokens"] + words["cache_creation_input_tokens"] == usage.input
    )


@pytest.mark.parametrize("reason", get_args(StopReason))
def test_every_stop_reason_of_the_sdk_comes_back(reason: str) -> None:
    sequence = "END" if reason == "stop_sequence" else None
    called = reason == "tool_use"
    finish = finish_of(reason)
    assert finish is not None
    assert stop_reason_of(finish, stop_sequence=sequence, refused=False, called=called) == reason


@pytest.mark.parametrize("finish", [None, *get_args(Finish)])
def test_every_finish_has_a_reason_that_the_sdk_knows(finish: Finish | None) -> None:
    assert stop_reason_of(finish, stop_sequence=None, refused=False, called=False) in get_args(StopReason)


def test_what_came_decides_where_the_provider_only_said_stop() -> None:
    assert stop_reason_of("stop", stop_sequence=None, refused=False, called=True) == "tool_use"
    assert stop_reason_of(None, stop_sequence=None, refused=True, called=False) == "refusal"
    assert stop_reason_of("length", stop_sequence=None, refused=False, called=True) == "max_tokens"


def test_a_reason_of_tomorrow_has_no_word() -> None:
    assert finish_of("bored") is None
