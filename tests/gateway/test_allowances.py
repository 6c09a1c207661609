"""Budgets as counters and on record: windows, room, restarts, and what the administrator sees."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Call, Controls, Principal
from loam.core.errors import Failure, ModelFailure
from loam.gateway.accounts import Period, Reservation, window_of
from loam.gateway.allowances import MIGRATIONS, Allowances, NewAllowance, Standing
from loam.storage.database import Database
from tests.gateway.still import StillClock

pytestmark = pytest.mark.anyio
DAY = NewAllowance(scope="all", period="day", money=1000, tokens=500)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def clock() -> StillClock:
    return StillClock(NOON)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "loam.db", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def allowances(database: Database, clock: StillClock) -> Allowances:
    return await Allowances.open(database, clock)


def ask(**who: Any) -> Call:
    controls = Controls(user=who.pop("end_user", ""))
    return Call(id="c", model="m", principal=Principal(**who), controls=controls)


def reserve(allowances: Allowances, money: int, tokens: int = 0, call: Call | None = None) -> Reservation:
    return allowances.reserve(allowances.applying(call or ask()), money, tokens, [])


def refusal(allowances: Allowances, money: int, tokens: int = 0, call: Call | None = None) -> Failure:
    with pytest.raises(ModelFailure) as caught:
        reserve(allowances, money, tokens, call)
    assert caught.value.failure.kind == "budget"
    return caught.value.failure


async def standing(allowances: Allowances) -> list[Standing]:
    return [state for budget in allowances.all() for state in allowances.standing(budget.id)]


# Windows


@given(st.floats(6e8, 4e9), st.sampled_from(["day", "week", "month"]))
def test_a_window_holds_its_moment_and_ends_where_the_next_begins(now: float, period: Period) -> None:
    window = window_of(period, now)
    assert window.start <= now < window.end
    assert window_of(period, window.start) == window_of(period, window.end - 0.001) == window
    assert window_of(period, window.end).start == window.end
    start = datetime.fromtimestamp(window.start, UTC)
    assert start.time().isoformat() == "00:00:00"
    assert period != "week" or start.weekday() == 0
    assert period != "month" or start.day == 1
    assert timedelta(days=1) <= timedelta(seconds=window.end - window.start) <= timedelta(days=31)


def test_a_window_of_ever_never_ends() -> None:
    assert window_of("ever", NOON).end == float("inf")


# Room


async def test_what_is_held_and_spent_leaves_that_much_less(allowances: Allowances) -> None:
    await allowances.create(DAY)
    first = reserve(allowances, 600)
    refusal(allowances, 401)
    second = reserve(allowances, 400)
    allowances.settle(first, 100, 0)
    allowances.settle(second, 400, 0)
    refusal(allowances, 501)
    reserve(allowances, 500)


async def test_money_and_tokens_both_limit(allowances: Allowances) -> None:
    await allowances.create(DAY)
    reserve(allowances, 10, 500)
    assert "0 tokens are left and this call may take 1" in refusal(allowances, 0, 1).message


async def test_a_call_is_held_in_every_budget_or_in_none(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="user", subject="ada", period="day", money=1000))
    await allowances.create(NewAllowance(scope="team", subject="red", period="day", money=300))
    refusal(allowances, 301, call=ask(user="ada", team="red"))
    reserve(allowances, 1000, call=ask(user="ada"))
    assert [state.reserved for state in await standing(allowances)] == [1000, 0]


@pytest.mark.parametrize(
    ("scope", "subject", "drawn"),
    [
        ("all", "", {"nobody", "ada", "bob", "key"}),
        ("all", "*", {"nobody", "ada", "bob", "key"}),
        ("user", "ada", {"ada"}),
        ("user", "*", {"ada", "bob"}),
        ("team", "red", {"bob"}),
        ("key", "k1", {"key"}),
        ("key", "*", {"key"}),
    ],
)
async def test_a_budget_applies_to_whom_it_names(
    allowances: Allowances, scope: Any, subject: str, drawn: set[str]
) -> None:
    await allowances.create(NewAllowance(scope=scope, subject=subject, period="ever", money=1))
    callers = {
        "nobody": ask(),
        "ada": ask(user="ada"),
        "bob": ask(end_user="bob", team="red"),
        "key": ask(key_id="k1"),
    }
    assert {name for name, call in callers.items() if allowances.applying(call)} == drawn


async def test_a_caller_cannot_name_another_user_than_its_key_does(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="user", subject="*", period="day", money=100))
    reserve(allowances, 100, call=ask(user="ada", end_user="somebody-new"))
    refusal(allowances, 1, call=ask(user="ada", end_user="somebody-else"))


async def test_each_subject_of_a_star_has_an_account_of_its_own(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="user", subject="*", period="day", money=100))
    reserve(allowances, 100, call=ask(user="ada"))
    refusal(allowances, 1, call=ask(user="ada"))
    reserve(allowances, 100, call=ask(user="bob"))
    assert [state.subject for state in await standing(allowances)] == ["ada", "bob"]


# What a refusal says


async def test_a_refusal_says_which_budget_how_it_stands_and_when_it_ends(allowances: Allowances) -> None:
    budget = await allowances.create(NewAllowance(scope="user", subject="ada", period="day", money=1_000_000))
    allowances.settle(reserve(allowances, 900_000, call=ask(user="ada")), 900_000, 0)
    failure = refusal(allowances, 200_000, call=ask(user="ada"))
    assert failure.retry_after == 12 * 3600
    assert failure.code == "budget_exceeded"
    for part in (budget.id, "user ada", "$1.000000 a day", "$0.100000 is left", "$0.200000", "2026-11-25 00:00 UTC"):
        assert part in failure.message


async def test_a_refusal_for_what_is_only_held_asks_to_try_again_soon(allowances: Allowances) -> None:
    await allowances.create(DAY)
    reserve(allowances, 900)
    assert refusal(allowances, 200).retry_after == 1.0


async def test_a_refusal_that_waiting_cannot_mend_names_no_time(allowances: Allowances) -> None:
    await allowances.create(DAY)
    assert refusal(allowances, 1001).retry_after is None
    await allowances.create(NewAllowance(scope="user", subject="ada", period="ever", money=100))
    allowances.settle(reserve(allowances, 100, call=ask(user="ada")), 100, 0)
    failure = refusal(allowances, 1, call=ask(user="ada"))
    assert failure.retry_after is None
    assert "does not begin anew" in failure.message


# Time


async def test_a_new_window_begins_empty_and_late_settlements_go_to_the_old_one(
    allowances: Allowances, clock: StillClock
) -> None:
    await allowances.create(DAY)
    late = reserve(allowances, 1000)
    clock.pass_by(12 * 3600)
    reserve(allowances, 1000)
    allowances.settle(late, 1000, 0)
    (state,) = await standing(allowances)
    assert (state.spent, state.reserved) == (0, 1000)


async def test_a_clock_that_is_put_back_opens_no_old_window_again(
    allowances: Allowances, database: Database, clock: StillClock
) -> None:
    await allowances.create(DAY)
    allowances.settle(reserve(allowances, 1000), 1000, 0)
    clock.jump(-3 * 86_400)
    refusal(allowances, 1)
    refusal(await Allowances.open(database, clock), 1)
    clock.jump(4 * 86_400)
    reserve(allowances, 1000)


# Records


async def test_spending_outlives_a_restart(allowances: Allowances, database: Database, clock: StillClock) -> None:
    await allowances.create(DAY)
    for _ in range(3):
        allowances.settle(reserve(allowances, 300, 100), 250, 20)
    again = await Allowances.open(database, clock)
    (state,) = await standing(again)
    assert (state.spent, state.spent_tokens, state.reserved) == (750, 60, 0)
    assert again.recovered == 0
    refusal(again, 251)


async def test_what_a_killed_process_held_counts_as_spent(
    allowances: Allowances, database: Database, clock: StillClock
) -> None:
    await allowances.create(DAY)
    pending: list[Awaitable[Any]] = []
    reservation = allowances.reserve(allowances.applying(ask()), 300, 30, pending)
    assert allowances.extend(reservation, 100, 10, pending)
    await asyncio.gather(*pending)
    again = await Allowances.open(database, clock)
    (state,) = await standing(again)
    assert (state.spent, state.spent_tokens, state.reserved) == (400, 40, 0)
    assert again.recovered == 1
    assert (await Allowances.open(database, clock)).recovered == 0


async def test_more_can_be_held_only_where_there_is_room(allowances: Allowances) -> None:
    await allowances.create(DAY)
    reservation = reserve(allowances, 900)
    assert not allowances.extend(reservation, 101, 0, [])
    assert allowances.extend(reservation, 100, 0, [])
    allowances.settle(reservation, 0, 0)
    reserve(allowances, 1000)


async def test_a_changed_limit_counts_at_once_and_keeps_what_is_spent(
    allowances: Allowances, database: Database, clock: StillClock
) -> None:
    budget = await allowances.create(DAY)
    allowances.settle(reserve(allowances, 1000), 1000, 0)
    refusal(allowances, 1)
    await allowances.change(budget.id, money=1500, tokens=None)
    for ring in (allowances, await Allowances.open(database, clock)):
        refusal(ring, 501)
        assert ring.get(budget.id).tokens is None
    reserve(allowances, 500, 10_000)


async def test_a_deleted_budget_stops_limiting_and_its_running_calls_end_in_peace(
    allowances: Allowances, database: Database, clock: StillClock
) -> None:
    budget = await allowances.create(DAY)
    running = reserve(allowances, 1000)
    await allowances.delete(budget.id)
    assert allowances.applying(ask()) == ()
    allowances.settle(running, 10, 0)
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM spending").fetchone()[0]) == 0
    assert (await Allowances.open(database, clock)).all() == []


@pytest.mark.parametrize(
    "wish",
    [
        NewAllowance(scope="all", period="day"),
        NewAllowance(scope="all", subject="ada", period="day", money=1),
        NewAllowance(scope="user", period="day", money=1),
    ],
)
async def test_a_budget_of_nothing_or_of_nobody_is_refused(allowances: Allowances, wish: NewAllowance) -> None:
    with pytest.raises(ModelFailure) as caught:
        await allowances.create(wish)
    assert caught.value.failure.kind == "bad_request"
    assert allowances.all() == []


async def test_an_unknown_budget_is_named(allowances: Allowances) -> None:
    for attempt in (allowances.delete("budget_x"), allowances.change("budget_x", money=1, tokens=None)):
        with pytest.raises(ModelFailure, match="budget_x") as caught:
            await attempt
        assert caught.value.failure.kind == "not_found"


async def test_a_limit_below_zero_is_not_read() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"scope": "all", "period": "day", "money": -1}', type=NewAllowance)


async def test_old_windows_are_forgotten_after_a_year_and_totals_are_not(
    allowances: Allowances, database: Database, clock: StillClock
) -> None:
    await allowances.create(DAY)
    await allowances.create(NewAllowance(scope="all", period="ever", money=10_000))
    allowances.settle(reserve(allowances, 100), 100, 0)
    clock.pass_by(500 * 86_400)
    again = await Allowances.open(database, clock)
    assert [state.spent for state in await standing(again)] == [0, 100]
    kept = await database.read(lambda c: c.execute("SELECT count(*) FROM spending").fetchone()[0])
    assert kept == 1


async def test_a_record_that_cannot_be_written_is_logged_and_the_count_goes_on(
    allowances: Allowances, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await allowances.create(DAY)

    def break_table(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE spending RENAME TO gone")

    reservation = reserve(allowances, 1000)
    await database.write(break_table)
    allowances.settle(reservation, 1000, 0)
    await database.write(lambda c: None)
    assert "could not be written" in caplog.text
    refusal(allowances, 1)
