"""What every stage of the road keeps to, whatever else it does. A new stage is one row in `ROWS`.

Deltas go through unchanged; a failure keeps its verdict; the inner stream is closed before the stage's own is, also
when the task that reads it is cancelled; nothing is left running; a stage that a call does not use is not in its way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import Struct

from loam.core.calls import Call, Controls, Delta, Head, Principal, Target, ToolDelta, Usage
from loam.core.errors import Failure
from loam.core.ports import Model
from loam.gateway import allowances, calls
from loam.gateway.allowances import Allowance, Allowances
from loam.gateway.bodies import Bodies
from loam.gateway.budget import Budget, BudgetSettings
from loam.gateway.cache import Cache, CacheSettings
from loam.gateway.cache_store import MemoryStore
from loam.gateway.calls import CallLog
from loam.gateway.dispatch import Dispatch
from loam.gateway.fallback import Fallback, FallbackSettings
from loam.gateway.health import Health
from loam.gateway.keys import Keys, KeysSettings
from loam.gateway.ledger import Ledger, LedgerSettings
from loam.gateway.prompt_shelf import Found
from loam.gateway.prompted import Prompted
from loam.gateway.retry import Retry, RetrySettings
from loam.gateway.route import Route, RouteTable
from loam.planners.prices import PriceBook
from loam.prompting.prompts import parsed
from loam.prompting.technique import Techniques
from loam.storage.database import Database
from tests.gateway.virtual import HANG, LoopClock, Scripted, call, failure, hear, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio

A, B = Target("a", "m"), Target("b", "m")


class Row(Struct, frozen=True):
    """`build` puts the stage in front of a model; `used` is a call that it acts on, `unused` one that it does not."""

    name: str
    build: Callable[[Model, Database], Model]
    used: Callable[[], Call]
    unused: Callable[[], Call] | None = None


def retry(inner: Model, _: Database) -> Model:
    return Retry(inner, LoopClock(), lambda: 0.5, RetrySettings(attempts=1))


def fallback(inner: Model, _: Database) -> Model:
    health = Health(failures=3, cooldown=30.0, longest=600.0)
    return Fallback(inner, health, LoopClock(), FallbackSettings(), window=lambda _: None, wider={})


def route(inner: Model, _: Database) -> Model:
    return Route(inner, RouteTable({}, providers={"a": ()}, owns={}), LoopClock())


def cache(*, enabled: bool) -> Callable[[Model, Database], Model]:
    async def revision(_: Call) -> str:
        return ""

    def build(inner: Model, _: Database) -> Model:
        settings = CacheSettings(enabled=enabled)
        return Cache(inner, MemoryStore(1_000_000), LoopClock(), settings, revision=revision)

    return build


def keys(inner: Model, _: Database) -> Model:
    return Keys(inner, LoopClock(), KeysSettings())


def ledger(inner: Model, database: Database) -> Model:
    return Ledger(inner, CallLog(database, Bodies(1_000_000)), LoopClock(), LedgerSettings())


def budget(inner: Model, database: Database) -> Model:
    limit = Allowance(id="budget_1", scope="all", subject="", period="day", money=None, tokens=10**9, created=0.0)
    held = Allowances(database, LoopClock(), [limit], [], 0)
    return Budget(inner, held, PriceBook.load(()), LoopClock(), BudgetSettings())


def techniques(inner: Model, _: Database) -> Model:
    return Techniques(inner)


def prompted(inner: Model, _: Database) -> Model:
    _, prompt = parsed('+++\nmodel = "m"\n+++\nBe brief.')
    return Prompted(inner, lambda name: Found(name, prompt.hash, "prod", prompt))


LIMITED = Principal(key_id="k", requests_per_minute=100, tokens_per_minute=10**9, max_parallel=5)

ROWS = [
    Row("keys", keys, used=lambda: call(principal=LIMITED)),
    Row("prompts", prompted, used=lambda: call(model="prompt:p"), unused=call),
    Row("ledger", ledger, used=call),
    Row("budget", budget, used=lambda: call(target=A)),
    Row("retry", retry, used=lambda: call(target=A)),
    Row("fallback", fallback, used=lambda: call(chain=(A, B)), unused=lambda: call(chain=(A,), target=A)),
    Row("route", route, used=lambda: call(target=None)),
    Row("technique", techniques, used=lambda: call(controls=Controls(technique="zero_shot")), unused=call),
    Row("cache", cache(enabled=True), used=call),
    Row("cache, off", cache(enabled=False), used=call, unused=call),
    Row(
        "dispatch", lambda inner, _: Dispatch({"a": inner}), used=lambda: call(target=A), unused=lambda: call(target=A)
    ),
]

DELTAS = [
    Delta(head=Head(id="up-1", model="m")),
    Delta(thinking="hm", signature="s"),
    Delta(text="He", logprobs=[{"token": "He"}]),
    Delta(choice=1, text="Yes"),
    Delta(text="llo", extra={"k": "v"}, family="openai"),
    Delta(tool=ToolDelta(0, "id", "name", "{}")),
    Delta(finish="tool_calls"),
    Delta(choice=1, finish="stop"),
    Delta(usage=Usage(input=3, output=4)),
]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "loam.db", (*calls.MIGRATIONS, *allowances.MIGRATIONS))
    yield database
    await database.close()


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


async def test_deltas_go_through_unchanged_and_in_order(row: Row, database: Database) -> None:
    heard = await hear(row.build(Scripted(DELTAS), database), row.used())
    assert heard.deltas == DELTAS
    assert heard.failure is None


async def test_deltas_go_through_as_they_come(row: Row, database: Database) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    steps = [step for piece in ("a", "b", "c") for step in (Delta(text=piece), 1.0)]
    steps.append(Delta(usage=Usage(input=3, output=3)))
    times = [loop.time() - start async for _ in row.build(Scripted(steps), database).answer(row.used())]
    assert times == pytest.approx([0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("said", [[], [Delta(text="Hel")]], ids=["before content", "after content"])
async def test_a_failure_keeps_its_verdict(row: Row, database: Database, said: list[Delta]) -> None:
    broken = failure("content_filter", status=400, code="c", param="messages", type="t")
    model = Scripted([*said, broken])
    heard = await hear(row.build(model, database), row.used())
    assert heard.deltas == said
    assert heard.failure == broken
    assert model.closed == 1


async def test_what_loam_refuses_further_in_stays_a_refusal(row: Row, database: Database) -> None:
    refusal = Failure(kind="budget", message="spent", retry_after=60.0)
    assert (await hear(row.build(Scripted([refusal]), database), row.used())).failure == refusal


async def test_the_inner_stream_is_closed_when_the_reader_has_left(row: Row, database: Database) -> None:
    before = asyncio.all_tasks()
    model = Scripted([Delta(text="Hel"), HANG])
    deltas = row.build(model, database).answer(row.used())
    await anext(deltas)
    await deltas.aclose()
    assert model.closed == 1
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("said", [[], [Delta(text="Hel")]], ids=["before content", "after content"])
async def test_the_inner_stream_is_closed_when_the_reading_task_is_cancelled(
    row: Row, database: Database, said: list[Delta]
) -> None:
    before = asyncio.all_tasks()
    model = Scripted([*said, HANG])
    reading = asyncio.ensure_future(hear(row.build(model, database), row.used()))
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert model.closed == 1
    assert asyncio.get_running_loop().time() == start
    assert asyncio.all_tasks() == before


async def test_nothing_is_asked_before_the_stream_is_read(row: Row, database: Database) -> None:
    model = Scripted(DELTAS)
    await row.build(model, database).answer(row.used()).aclose()
    assert model.calls == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.unused is not None], ids=lambda row: row.name)
async def test_a_stage_that_is_not_used_is_not_in_the_way(row: Row, database: Database) -> None:
    class Marked(Scripted):
        def answer(self, call: Call):
            self.stream = super().answer(call)
            return self.stream

    model = Marked(DELTAS)
    assert row.unused is not None
    assert row.build(model, database).answer(row.unused()) is model.stream
