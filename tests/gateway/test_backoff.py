"""How long to wait before another attempt, and when not to make one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import Failure, kind_of_status
from loam.gateway.backoff import RetrySettings, next_wait

SETTINGS = RetrySettings(attempts=5, first_wait=0.5, longest_wait=8.0, longest_retry_after=60.0)


def broken(*, status: int = 500, retry_after: float | None = None, should_retry: bool | None = None) -> Failure:
    kind = kind_of_status(status)
    return Failure(
        kind=kind, provider="p", message="", status=status, retry_after=retry_after, should_retry=should_retry
    )


def wait(failure: Failure, *, tried: int = 1, chance: float = 0.5, room: float | None = None) -> float | None:
    return next_wait(failure, SETTINGS, tried=tried, chance=chance, room=room)


@pytest.mark.parametrize("status", [408, 409, 429, 498, 500, 502, 503, 504, 529, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert wait(broken(status=status)) == 0.25


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 424, 451])
def test_what_stays_wrong_is_not(status: int) -> None:
    assert wait(broken(status=status)) is None


def test_the_providers_word_outranks_the_status() -> None:
    assert wait(broken(status=500, should_retry=False)) is None
    assert wait(broken(status=400, should_retry=True)) == 0.25


def test_what_loam_refused_is_not_tried_again() -> None:
    assert wait(Failure(kind="rate_limit", message="too many", retry_after=1.0)) is None


def test_the_pause_doubles_up_to_the_longest() -> None:
    assert [wait(broken(), tried=tried, chance=1.0) for tried in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    wide = RetrySettings(attempts=20)
    assert next_wait(broken(), wide, tried=19, chance=1.0, room=None) == wide.longest_wait


def test_none_follows_the_last_attempt() -> None:
    assert wait(broken(), tried=5) is None
    assert wait(broken(retry_after=1.0), tried=5) is None


def test_a_retry_after_is_honoured_up_to_the_cap() -> None:
    assert wait(broken(retry_after=2.0), chance=0.0) == 2.0
    assert wait(broken(retry_after=60.0), chance=0.0) == 60.0
    assert wait(broken(retry_after=60.1)) is None


def test_no_wait_outlasts_the_time_left() -> None:
    assert wait(broken(retry_after=2.0), chance=0.0, room=2.1) == 2.0
    assert wait(broken(retry_after=2.0), chance=0.0, room=2.0) is None


@given(
    tried=st.integers(1, 30),
    chance=st.floats(0, 1),
    room=st.none() | st.floats(-5, 100),
    retry_after=st.none() | st.floats(0, 200),
    status=st.sampled_from([400, 404, 429, 500, 529]),
)
def test_every_wait_is_within_its_bounds(
    tried: int, chance: float, room: float | None, retry_after: float | None, status: int
) -> None:
    failure = broken(status=status, retry_after=retry_after)
    pause = wait(failure, tried=tried, chance=chance, room=room)
    if pause is None:
        return
    assert failure.retryable
    assert tried < SETTINGS.attempts
    assert room is None or pause < room
    if retry_after is None:
        assert 0 <= pause <= min(SETTINGS.longest_wait, SETTINGS.first_wait * 2 ** (tried - 1))
    else:
        assert retry_after <= pause <= retry_after * 1.1 + 1e-9
        assert retry_after <= SETTINGS.longest_retry_after
