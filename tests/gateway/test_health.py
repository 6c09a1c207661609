"""Sick targets: when they are left alone, and how they come back."""

from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Target
from loam.core.errors import Failure, Kind
from loam.gateway.health import Health
from tests.gateway.virtual import failure

A, B = Target("a", "m"), Target("b", "m")


def health(*, failures: int = 3) -> Health:
    return Health(failures=failures, cooldown=30.0, longest=600.0)


def sick(at: float = 0.0) -> Health:
    made = health(failures=1)
    made.failed(A, failure("server"), at)
    return made


def test_a_few_failures_in_a_row_open_a_target_and_only_it() -> None:
    made = health(failures=3)
    for moment in (1.0, 2.0):
        made.failed(A, failure("server"), moment)
        assert made.admit(A, moment, "c")
    made.failed(A, failure("server"), 3.0)
    assert not made.admit(A, 3.0, "c")
    assert (made.state(A, 3.0), made.state(B, 3.0)) == ("open", "closed")
    assert made.admit(B, 3.0, "c")


def test_a_success_in_between_starts_the_count_anew() -> None:
    made = health(failures=2)
    made.failed(A, failure("server"), 1.0)
    made.succeeded(A)
    made.failed(A, failure("server"), 2.0)
    assert made.admit(A, 2.0, "c")


def test_after_the_cooldown_one_probe_goes_out_at_a_time() -> None:
    made = sick(at=0.0)
    assert not made.admit(A, 29.9, "first")
    assert made.admit(A, 30.0, "first")
    assert not made.admit(A, 30.0, "second")
    made.release(A, "second")  # it never had the probe
    assert not made.admit(A, 30.0, "third")
    made.release(A, "first")
    assert made.admit(A, 30.0, "third")


def test_a_probe_that_is_answered_closes_the_target() -> None:
    made = sick()
    assert made.admit(A, 30.0, "c")
    made.succeeded(A)
    assert made.state(A, 30.0) == "closed"
    assert made.admit(A, 30.0, "d")


def test_a_probe_that_fails_opens_it_again() -> None:
    made = sick()
    assert made.admit(A, 30.0, "c")
    made.failed(A, failure("timeout"), 31.0)
    made.release(A, "c")
    assert made.state(A, 60.9) == "open"
    assert made.state(A, 61.0) == "half-open"


def test_a_retry_after_opens_at_once_for_as_long_as_it_says() -> None:
    made = health(failures=3)
    made.failed(A, failure("rate_limit", retry_after=5.0), 10.0)
    made.failed(B, failure("rate_limit", retry_after=86_400.0), 10.0)
    assert (made.state(A, 14.9), made.state(A, 15.0)) == ("open", "half-open")
    assert (made.state(B, 609.9), made.state(B, 610.0)) == ("open", "half-open")


def test_a_callers_error_shows_that_the_target_is_well() -> None:
    made = health(failures=2)
    made.failed(A, failure("server"), 1.0)
    made.failed(A, failure("bad_request"), 2.0)
    made.failed(A, failure("server"), 3.0)
    assert made.admit(A, 3.0, "c")


def test_what_loam_refused_says_nothing_of_the_target() -> None:
    made = sick()
    made.failed(A, Failure(kind="timeout", message="time was up"), 1.0)
    assert made.state(A, 1.0) == "open"
    well = health(failures=1)
    well.failed(A, Failure(kind="timeout", message="time was up"), 1.0)
    assert well.state(A, 1.0) == "closed"


def test_the_least_recently_failed_is_the_last_resort() -> None:
    made = health(failures=1)
    made.failed(A, failure("server"), 5.0)
    made.failed(B, failure("server"), 3.0)
    assert made.least_recently_failed((A, B)) == B
    made.failed(B, failure("server"), 6.0)
    assert made.least_recently_failed((A, B)) == A


def test_failing_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    made = health(failures=1)
    for number in range(3_000):
        made.failed(Target("a", f"made-up-{number}"), failure("not_found"), float(number))
    known = [made.state(Target("a", f"made-up-{number}"), 3_000.0) != "closed" for number in range(3_000)]
    assert sum(known) == 1_000
    assert all(known[-1_000:])


KINDS: tuple[Kind, ...] = ("server", "timeout", "rate_limit", "bad_request", "authentication")


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["ok", *KINDS]), st.booleans()), max_size=60))
def test_of_a_sick_target_at_most_one_probe_is_out(story: list[tuple[float, str, bool]]) -> None:
    made, now, out = health(failures=2), 0.0, list[str]()
    for number, (pause, outcome, ends) in enumerate(story):
        now += pause
        name = str(number)
        closed = made.state(A, now) == "closed"
        admitted = made.admit(A, now, name)
        if closed:
            assert admitted
        elif admitted:
            out.append(name)
            assert len(out) == 1
        if not (admitted and ends):
            continue
        if outcome == "ok":
            made.succeeded(A)
        else:
            made.failed(A, failure(outcome, retry_after=7.0 if outcome == "rate_limit" else None), now)
        made.release(A, name)
        out = [] if made.state(A, now) == "closed" else [probe for probe in out if probe != name]
