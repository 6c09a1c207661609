"""Decisions: in time, too late, twice at once; what waits for one; and what goes when it has ended long ago."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loam.agents.events import MIGRATIONS, Decided, Decision, Ended, Entry, Started
from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from loam.storage.database import Database
from tests.agents.office import ADMIN, ANN, BOB, DAY, Office, Pay, called, office

pytestmark = pytest.mark.anyio
SCRIPT = [called("pay", order=7), "as you say"]


def said(decision: Decision = "approve", key: str = "1.1", **more: Any) -> Decided:
    return Decided(key, decision, "key_ann", **more)


async def test_a_decision_in_time_counts_and_is_on_record(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        view = await made.run()
        (waiting,) = view.waiting
        assert waiting.expires == waiting.since + 7 * DAY
        made.clock.pass_by(7 * DAY - 1)
        await made.desk.decide("clerk", view.id, ANN, said())
        assert (await made.settled(view.id)).answer == "as you say"
        entries = await made.log.events(view.id)
        ((decided, at),) = [(entry.event, entry.at) for entry in entries if isinstance(entry.event, Decided)]
        assert (decided.by, at) == ("key_ann", waiting.since + 7 * DAY - 1)
    assert pay.paid == [{"order": 7}]
    assert pay.keys == [f"{view.id}:1.1"]


@pytest.mark.parametrize("how", ["show", "every", "waiting", "events", "follow", "decide", "resume", "sweep"])
async def test_a_decision_too_late_never_approves_whoever_looks_first(tmp_path: Path, how: str) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}, approval_seconds=300) as made:
        view = await made.run()
        made.clock.pass_by(300)
        await looked(made, view.id, how)
        with pytest.raises(ModelFailure, match="does not wait for a decision"):
            await made.desk.decide("clerk", view.id, ANN, said())
        view = await made.settled(view.id)
        (decided,) = [event for event in await made.events(view.id) if isinstance(event, Decided)]
        told = made.model.calls[-1].messages[-1]
    assert (view.reason, view.answer) == ("answered", "as you say")
    assert (decided.decision, decided.by) == ("deny", "expiry")
    assert "this call was not allowed: nobody decided within 5 minutes" in str(told)
    assert pay.paid == []


async def looked(made: Office, run_id: str, how: str) -> None:
    desk = made.desk
    if how == "show":
        await desk.show("clerk", run_id, ANN)
    elif how == "every":
        await desk.every("clerk", ANN, 5)
    elif how == "waiting":
        assert await desk.waiting(ANN, 5) == []
    elif how == "events":
        await desk.events("clerk", run_id, ANN, after=0, wait=0)
    elif how == "follow":
        await (await desk.follow("clerk", run_id, ANN, after=0, pulse=1)).aclose()
    elif how == "resume":
        await desk.resume("clerk", run_id, ANN)
    elif how == "sweep":
        await desk.sweep(30)


async def test_a_sweep_leaves_alone_what_still_has_time(tmp_path: Path) -> None:
    async with office(tmp_path, SCRIPT, {"pay": Pay()}, approval_seconds=300) as made:
        view = await made.run()
        made.clock.pass_by(299)
        await made.desk.sweep(30)
        assert (await made.desk.show("clerk", view.id, ANN)).status == "waiting"


async def test_with_its_key_gone_an_expired_run_is_denied_and_stays(tmp_path: Path) -> None:
    async with office(tmp_path, SCRIPT, {"pay": Pay()}, approval_seconds=300) as made:
        view = await made.run()
        made.gone.add("key_ann")
        made.clock.pass_by(300)
        view = await made.desk.show("clerk", view.id, ANN)
        assert (view.status, view.steps) == ("interrupted", 1)
        with pytest.raises(ModelFailure, match="has been disabled"):
            await made.desk.resume("clerk", view.id, ANN)


async def test_an_approval_that_comes_into_the_log_too_late_is_a_denial(tmp_path: Path) -> None:
    """As where the clock passes the moment between the look and the writing."""
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}, approval_seconds=300) as made:
        view = await made.run()
        made.clock.pass_by(300)
        await made.log.append(view.id, Entry(view.events + 1, made.clock.now(), said()))
        await made.desk.resume("clerk", view.id, ANN)
        assert (await made.settled(view.id)).answer == "as you say"
        assert "nobody decided in time" in str(made.model.calls[-1].messages[-1])
    assert pay.paid == []


async def test_of_two_who_approve_at_once_one_is_refused_and_the_tool_is_called_once(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        view = await made.run()
        both = [made.desk.decide("clerk", view.id, who, said()) for who in (ANN, ADMIN)]
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        failed = [one for one in outcomes if isinstance(one, ModelFailure)]
        assert [one.failure.kind for one in failed] == ["conflict"]
        assert (await made.settled(view.id)).answer == "as you say"
    assert len(pay.paid) == 1


async def test_an_approval_after_the_end_is_refused(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        view = await made.run()
        await made.desk.cancel("clerk", view.id, ANN)
        with pytest.raises(ModelFailure, match="it was cancelled"):
            await made.desk.decide("clerk", view.id, ANN, said())
        assert isinstance((await made.events(view.id))[-1], Ended)
        assert await made.desk.waiting(ANN, 5) == []
    assert pay.paid == []


async def test_of_an_approval_and_a_cancellation_at_once_the_run_ends(tmp_path: Path) -> None:
    pay = Pay()
    pay.may_end.clear()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        view = await made.run()
        approving = made.desk.decide("clerk", view.id, ANN, said())
        cancelling = made.desk.cancel("clerk", view.id, ANN)
        await asyncio.gather(approving, cancelling, return_exceptions=True)
        view = await made.settled(view.id)
    assert (view.status, view.reason) == ("ended", "cancelled")
    assert view.message == "by key_ann"


async def test_a_run_is_cancelled_while_its_tool_works(tmp_path: Path) -> None:
    pay = Pay(approval=False)
    pay.may_end.clear()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        begun = await made.desk.begin("clerk", "pay", ANN)
        await pay.begun.wait()
        view = await made.desk.cancel("clerk", begun.id, ANN)
        last = (await made.events(begun.id))[-2:]
    assert (view.status, view.reason) == ("ended", "cancelled")
    assert [type(event) for event in last] == [Started, Ended]  # the log says that it was begun, and no more


# What waits.


async def test_what_waits_is_found_over_all_runs_by_who_may_see_it(tmp_path: Path) -> None:
    script = [called("pay", order=number) for number in (1, 2, 3)]
    async with office(tmp_path, script, {"pay": Pay()}) as made:
        first = await made.run("the first", ANN)
        made.clock.pass_by(5)
        second = await made.run("the second", BOB)
        made.clock.pass_by(5)
        third = await made.run("the third" + "x" * 5_000_000, ANN)
        every = await made.desk.waiting(ADMIN, 10)
        assert [(one.run, one.user, one.question) for one in every] == [
            (first.id, "ann", "the first"),
            (second.id, "bob", "the second"),
            (third.id, "ann", "the third" + "x" * 491),
        ]
        assert every[1].waiting.arguments == '{"order":2}'
        assert [one.run for one in await made.desk.waiting(ANN, 10)] == [first.id, third.id]
        assert [one.run for one in await made.desk.waiting(ANN, 1)] == [first.id]
        assert await made.desk.waiting(Principal(), 10) == []
        with pytest.raises(ModelFailure, match="no run"):
            await made.desk.decide("clerk", first.id, BOB, said())


# What goes.


async def test_what_ended_long_ago_goes_and_what_waits_stays(tmp_path: Path) -> None:
    script = ["done", called("pay", order=7), "done"]
    async with office(tmp_path, script, {"pay": Pay()}, approval_seconds=1000 * DAY) as made:
        old, waits = await made.run(), await made.run()
        made.clock.pass_by(20 * DAY)
        young = await made.run()
        made.clock.pass_by(11 * DAY)
        assert await made.desk.sweep(30) == 1
        assert [one.id for one in await made.desk.every("clerk", ANN, 9)] == [young.id, waits.id]
        with pytest.raises(ModelFailure, match="no run"):
            await made.desk.show("clerk", old.id, ANN)
        rows = await made.database.read(lambda c: c.execute("SELECT DISTINCT run FROM agent_events").fetchall())
        assert {row[0] for row in rows} == {young.id, waits.id}
        assert await made.desk.sweep(30) == 0


async def test_many_go_in_small_pieces(tmp_path: Path) -> None:
    async with office(tmp_path, ["done"], {}) as made:
        for _ in range(120):
            await made.run()
        made.clock.pass_by(31 * DAY)
        assert await made.desk.sweep(30) == 120
        assert await made.desk.every("clerk", ANN, 9) == []


async def test_events_are_still_never_changed(tmp_path: Path) -> None:
    async with office(tmp_path, ["done"], {}) as made:
        await made.run()
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            await made.database.write(lambda c: c.execute("UPDATE agent_events SET at = 0"))


async def test_runs_of_an_older_program_are_known_by_how_they_stand(tmp_path: Path) -> None:
    """The first version kept events alone; the second finds in them what waits and what ended."""
    path = tmp_path / "loam.db"
    database = await Database.open(path, MIGRATIONS[:1])
    tags: dict[str, dict[str, Any]] = {
        "run_1": {"type": "wanted", "key": "1.1", "tool": "pay", "arguments": "{}", "why": "approval"},
        "run_2": {"type": "ended", "reason": "answered"},
        "run_3": {"type": "asked", "money": 0, "tokens": 0},
    }
    began = {"type": "began", "question": "q"}
    answered = {
        "type": "answered", "money": 0, "tokens": 0,
        "parts": [{"type": "tool_call", "id": "a", "name": "pay", "arguments": "{}"}],
    }  # fmt: skip
    principal = msgspec.msgpack.encode(ANN)

    def insert(connection: sqlite3.Connection) -> None:
        for run, last in tags.items():
            connection.execute("INSERT INTO agent_runs VALUES (?, 'clerk', 'key_ann', ?, 1.0)", (run, principal))
            asked = {"type": "asked", "money": 0, "tokens": 0}
            for seq, event in enumerate((began, asked, answered, last), 1):
                data = msgspec.msgpack.encode(event)
                connection.execute("INSERT INTO agent_events VALUES (?, ?, ?, ?)", (run, seq, 100.0 + seq, data))

    await database.write(insert)
    await database.close()
    async with office(tmp_path, ["done"], {"pay": Pay()}) as made:
        (waiting,) = await made.desk.waiting(ANN, 9)
        assert (waiting.run, waiting.waiting.expires) == ("run_1", 0)
        assert await made.desk.sweep(30) == 1
        assert [one.status for one in await made.desk.every("clerk", ANN, 9)] == ["interrupted", "waiting"]
