"""Forks: a new run with the first events of another, which repeats no call and takes no approval along."""

from pathlib import Path

import pytest

from loam.agents.events import Answered, Began, Decided, Ended, Forked, Returned, Started, Wanted
from loam.agents.state import State
from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from tests.agents.office import ADMIN, ANN, BOB, Office, Pay, called, office

pytestmark = pytest.mark.anyio
SCRIPT = [called("pay", order=7), "first end", "second end"]


async def paid(made: Office) -> str:
    """A run whose call was approved and made: began, asked, answered, wanted, decided, started, returned, …"""
    view = await made.run()
    await made.desk.decide("clerk", view.id, ANN, Decided("1.1", "approve", "key_ann"))
    return (await made.settled(view.id)).id


async def place(made: Office, run_id: str, kind: type) -> int:
    return next(entry.seq for entry in await made.log.events(run_id) if isinstance(entry.event, kind))


async def test_a_fork_goes_on_from_what_both_share_and_calls_nothing_again(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        old = await paid(made)
        after = await place(made, old, Returned)
        made.clock.pass_by(5000)
        fork = await made.desk.fork("clerk", old, ADMIN, after=after)
        view = await made.settled(fork.id)
        shared = [entry for entry in await made.log.events(old) if entry.seq <= after]
        taken = await made.log.events(fork.id)
        assert taken[:after] == shared
        assert taken[after].event == Forked(old, after, "local")
        assert State.of(taken[:after]).messages == State.of(shared).messages
        assert (await made.settled(old)).answer == "first end"
    assert (view.answer, view.steps, view.tool_calls) == ("second end", 2, 1)
    assert view.seconds < 5000  # the time between the two runs is nobody's work
    assert pay.paid == [{"order": 7}]


async def test_a_fork_before_a_decision_waits_for_one_of_its_own(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        old = await paid(made)
        for kind in (Answered, Wanted):
            fork = await made.desk.fork("clerk", old, ANN, after=await place(made, old, kind))
            assert (await made.settled(fork.id)).status == "waiting"
        await made.desk.decide("clerk", fork.id, ANN, Decided("1.1", "approve", "key_ann"))
        await made.settled(fork.id)
    assert pay.paid == [{"order": 7}, {"order": 7}]
    assert pay.keys == [f"{old}:1.1", f"{fork.id}:1.1"]  # another wish, which the far side must not drop


@pytest.mark.parametrize(
    ("kind", "why"), [(Decided, "was approved by then"), (Started, "was begun by then"), (Ended, "it had ended")]
)
async def test_where_a_fork_cannot_begin_is_said(tmp_path: Path, kind: type, why: str) -> None:
    async with office(tmp_path, SCRIPT, {"pay": Pay()}) as made:
        old = await paid(made)
        with pytest.raises(ModelFailure, match=why):
            await made.desk.fork("clerk", old, ANN, after=await place(made, old, kind))
        with pytest.raises(ModelFailure, match="it has 10 events"):
            await made.desk.fork("clerk", old, ANN, after=99)
        assert len(await made.desk.every("clerk", ANN, 9)) == 1


async def test_a_fork_has_the_rights_of_its_run(tmp_path: Path) -> None:
    async with office(tmp_path, SCRIPT, {"pay": Pay()}) as made:
        old = await paid(made)
        after = await place(made, old, Began)
        with pytest.raises(ModelFailure, match="no run"):
            await made.desk.fork("clerk", old, BOB, after=after)
        fork = await made.desk.fork("clerk", old, ADMIN, after=after)
        await made.settled(fork.id)
        run = await made.log.find(fork.id)
        assert run is not None
        assert run.principal == ANN
        made.gone.add("key_ann")
        with pytest.raises(ModelFailure, match="has been disabled"):
            await made.desk.fork("clerk", old, ADMIN, after=after)


# Which keys may run which agents.


async def test_a_key_runs_the_agents_that_it_names(tmp_path: Path) -> None:
    script = ["done"]
    async with office(tmp_path, script, {}) as made:
        for models in ((), ("agent:clerk",), ("agent:*", "rag:x"), ("*",)):
            who = Principal(key_id="key_ann", models=models)
            assert made.desk.names(who) == ["clerk"]
            assert (await made.run(principal=who)).answer == "done"
            assert made.model.calls[-1].principal.may_ask("m")  # which the agent asks, as a prompt asks its model
        other = Principal(key_id="key_ann", models=("m", "agent:boss"))
        assert made.desk.names(other) == []
        with pytest.raises(ModelFailure, match="may not run the agent 'clerk'") as error:
            await made.desk.begin("clerk", "q", other)
        assert error.value.failure.kind == "permission"
        assert made.desk.names(Principal(admin=True, models=("m",))) == ["clerk"]


async def test_a_key_that_may_no_longer_run_the_agent_stops_its_run_there(tmp_path: Path) -> None:
    pay = Pay()
    async with office(tmp_path, SCRIPT, {"pay": pay}) as made:
        view = await made.run(principal=Principal(key_id="key_ann", models=("agent:clerk",)))
        less = Principal(key_id="key_ann", models=("m",))
        made.desk._active = lambda principal: less  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(ModelFailure, match="may not run the agent"):
            await made.desk.decide("clerk", view.id, ADMIN, Decided("1.1", "approve", "local"))
        assert (await made.desk.show("clerk", view.id, ANN)).status == "waiting"
    assert pay.paid == []
