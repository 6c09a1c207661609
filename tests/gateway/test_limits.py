"""Requests, tokens and calls at the same time, against a slow twin and the promise of `retry_after`."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Principal
from loam.core.errors import Failure, ModelFailure
from loam.gateway.limits import Bucket, Limits, Permit

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def key(**limits: int) -> Principal:
    return Principal(key_id="key_1", **limits)


def refusal(limits: Limits, principal: Principal, tokens: int, now: int) -> Failure:
    with pytest.raises(ModelFailure) as caught:
        limits.admit(principal, tokens, now)
    return caught.value.failure


class Twin:
    """A bucket in exact fractions, as a page would describe it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.level = Fraction(limit)
        self.at = 0

    def take(self, amount: int, now: int) -> bool:
        self.level = min(self.level + Fraction(self.limit, MINUTE) * (now - self.at), Fraction(self.limit))
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


@given(st.integers(1, 1000), st.lists(st.tuples(st.integers(0, MINUTE), st.integers(0, 1200)), max_size=40))
def test_a_bucket_gives_exactly_what_its_twin_gives(limit: int, asked: list[tuple[int, int]]) -> None:
    bucket, twin = Bucket(limit, 0), Twin(limit)
    now = 0
    for pause, amount in asked:
        now += pause
        bucket.refill(now)
        given_out = bucket.wait(amount) == 0
        if given_out:
            bucket.take(amount)
        assert given_out == twin.take(amount, now)
        assert bucket.remaining == int(twin.level)


@given(st.integers(1, 10**9), st.lists(st.integers(0, 10**9), max_size=5), st.data())
def test_after_exactly_the_wait_it_gives_and_not_before(limit: int, taken: list[int], data: st.DataObject) -> None:
    bucket = Bucket(limit, 0)
    for amount in taken:
        bucket.take(amount)
    amount = data.draw(st.integers(1, limit))
    wait = bucket.wait(amount)
    if wait:
        bucket.refill(wait - 1)
        assert bucket.wait(amount) == 1
        bucket.refill(wait)
    assert bucket.wait(amount) == 0


def test_requests_are_refused_when_used_up_and_retry_after_is_exact() -> None:
    limits, principal = Limits(), key(requests_per_minute=2)
    limits.admit(principal, 0, 0)
    limits.admit(principal, 0, 0)
    failure = refusal(limits, principal, 0, 10 * SECOND)
    assert failure.kind == "rate_limit"
    assert failure.retry_after == 20.0
    assert "key_1" in failure.message
    assert "2 requests a minute" in failure.message
    refusal(limits, principal, 0, 30 * SECOND - 1)
    limits.admit(principal, 0, 30 * SECOND)


def test_tokens_are_held_for_the_worst_and_given_back() -> None:
    limits, principal = Limits(), key(tokens_per_minute=1000)
    permit = limits.admit(principal, 900, 0)
    assert refusal(limits, principal, 400, 0).retry_after == 18.0
    permit.settle(100, 0)
    limits.admit(principal, 900, 0)


def test_more_used_than_held_is_owed() -> None:
    limits, principal = Limits(), key(tokens_per_minute=60)
    limits.admit(principal, 60, 0).settle(120, 0)
    assert refusal(limits, principal, 1, 0).retry_after == 61.0


def test_a_call_that_can_never_fit_says_so_and_names_no_time() -> None:
    failure = refusal(Limits(), key(tokens_per_minute=1000), 1001, 0)
    assert failure.retry_after is None
    assert "max_tokens" in failure.message


def test_calls_at_the_same_time_are_counted_and_freed() -> None:
    limits, principal = Limits(), key(max_parallel=1)
    permit = limits.admit(principal, 0, 0)
    assert refusal(limits, principal, 0, 0).retry_after == 1.0
    permit.settle(0, 0)
    limits.admit(principal, 0, 0)


def test_a_refused_call_takes_nothing_of_any_limit() -> None:
    limits, principal = Limits(), key(requests_per_minute=10, tokens_per_minute=100, max_parallel=5)
    for _ in range(20):
        refusal(limits, principal, 101, 0)
    for _ in range(5):
        limits.admit(principal, 20, 0)
    refusal(limits, principal, 0, 0)


def test_a_changed_limit_counts_from_the_next_call() -> None:
    limits = Limits()
    limits.admit(key(requests_per_minute=1), 0, 0)
    refusal(limits, key(requests_per_minute=1), 0, 0)
    limits.admit(key(requests_per_minute=2), 0, 0)
    limits.admit(key(), 0, 0)


def test_keys_do_not_share_a_meter() -> None:
    limits = Limits()
    limits.admit(Principal(key_id="a", requests_per_minute=1), 0, 0)
    limits.admit(Principal(key_id="b", requests_per_minute=1), 0, 0)


def test_headers_say_what_is_left_and_when_it_is_whole_again() -> None:
    limits, principal = Limits(), key(requests_per_minute=60, tokens_per_minute=600)
    assert limits.headers(key(), 0) == []
    limits.admit(principal, 300, 0)
    assert dict(limits.headers(principal, 0)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"300",
        b"x-ratelimit-reset-tokens": b"30s",
    }
    assert dict(limits.headers(principal, 29_988 * SECOND // 1000))[b"x-ratelimit-reset-tokens"] == b"12ms"


def test_a_debt_takes_minutes_and_is_shown_as_nothing_left() -> None:
    limits, principal = Limits(), key(tokens_per_minute=60)
    limits.admit(principal, 0, 0).settle(360, 0)
    headers = dict(limits.headers(principal, 0))
    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"
    assert headers[b"x-ratelimit-reset-tokens"] == b"6m0s"


def test_only_keys_in_use_are_remembered() -> None:
    limits = Limits()
    busy: list[Permit] = []
    for number in range(25_000):
        principal = Principal(key_id=f"k{number}", requests_per_minute=60_000)
        permit = limits.admit(principal, 0, number * SECOND)
        if number % 1000:
            permit.settle(0, number * SECOND)
        else:
            busy.append(permit)
    assert len(limits._meters) <= 10_025
    assert all(permit.meter in limits._meters.values() for permit in busy)
