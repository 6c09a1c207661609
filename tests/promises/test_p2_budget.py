"""P2, no budget is overspent: attacked by crowds at its edge, by every way a call can end, and by kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loam.core.calls import Call, Delta, Principal, Sampling, Target, Usage
from loam.core.clock import SystemClock
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.core.tokens import upper_bound
from loam.gateway.accounts import Account
from loam.gateway.allowances import MIGRATIONS, Allowances, NewAllowance, Standing
from loam.gateway.backoff import RetrySettings
from loam.gateway.budget import Budget, BudgetSettings
from loam.gateway.retry import Retry
from loam.planners.prices import PriceBook, PriceOverride
from loam.storage.database import Database
from tests.gateway.still import StillClock
from tests.gateway.virtual import Scripted, Step, failure, hear

pytestmark = pytest.mark.anyio

PRICES = PriceBook.load((PriceOverride(model="m", input=Decimal(2), output=Decimal(5), cache_write=Decimal(3)),))
LONGEST = 50


def ask(number: int = 0) -> Call:
    return Call(
        id=f"call_{number}",
        model="m",
        messages=(say("user", "How much may this cost?"),),
        sampling=Sampling(max_tokens=LONGEST),
        principal=Principal(key_id="k", user="ada", team="red"),
        target=Target("p", "m"),
    )


BOUND = upper_bound(ask())
WORST = 3 * BOUND + 5 * LONGEST


class Dear:
    """A slow model that uses all that was reserved, to the last token, or the given share of it."""

    def __init__(self, share: float = 1.0) -> None:
        self._share = share

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.005)
        yield Delta(text="all ")
        await asyncio.sleep(0.005)
        used = int(BOUND * self._share)
        yield Delta(finish="stop", usage=Usage(input=used, cache_write=used, output=int(LONGEST * self._share)))


class Silent:
    """A model that never answers, so that its reservation is open whenever the process is killed."""

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(3600)
        yield Delta()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "loam.db", MIGRATIONS)
    yield database
    await database.close()


def road(inner: Any, allowances: Allowances, clock: Any) -> Budget:
    retry = Retry(inner, clock, lambda: 0.5, RetrySettings(attempts=3))
    return Budget(retry, allowances, PRICES, clock, BudgetSettings())


async def state_of(allowances: Allowances) -> Standing:
    (state,) = allowances.standing(allowances.all()[0].id)
    return state


@pytest.mark.parametrize("unit", ["money", "tokens"])
async def test_200_callers_at_the_edge_overspend_nothing_and_leave_less_than_one_call(
    database: Database, unit: str
) -> None:
    one = WORST if unit == "money" else BOUND + LONGEST
    limit = 37 * one + one - 1
    clock = SystemClock()
    allowances = await Allowances.open(database, clock)
    await allowances.create(NewAllowance(scope="user", subject="*", period="month", **{unit: limit}))
    model = road(Dear(), allowances, clock)
    heard = await asyncio.gather(*(hear(model, ask(number)) for number in range(200)))
    answered = [one for one in heard if one.failure is None]
    refused = [one.failure.kind for one in heard if one.failure is not None]
    assert len(answered) == 37
    assert refused == ["budget"] * 163
    state = await state_of(allowances)
    spent = state.spent if unit == "money" else state.spent_tokens
    assert spent == 37 * one <= limit < spent + one
    assert (state.reserved, state.reserved_tokens) == (0, 0)


async def test_a_crowd_that_comes_again_uses_what_the_first_did_not_need(database: Database) -> None:
    clock = SystemClock()
    allowances = await Allowances.open(database, clock)
    await allowances.create(NewAllowance(scope="all", period="month", money=40 * WORST))
    model = road(Dear(share=0.3), allowances, clock)
    for _ in range(12):
        await asyncio.gather(*(hear(model, ask(number)) for number in range(60)))
        state = await state_of(allowances)
        assert state.spent + state.reserved <= 40 * WORST
    assert state.spent > 39 * WORST


# Any way to end, in any order

ENDS = ("server", "rate_limit", "timeout", "connection", "truncated", "malformed", "bad_request")
usages = st.builds(
    lambda read, written, said: Delta(usage=Usage(input=read, cache_write=min(read, written), output=said)),
    st.integers(0, BOUND),
    st.integers(0, BOUND),
    st.integers(0, LONGEST),
)
scripts = st.lists(
    st.one_of(
        st.sampled_from(["a", "tree ", "and another one "]).map(lambda text: Delta(text=text)),
        usages,
        st.sampled_from(ENDS).map(failure),
    ),
    max_size=6,
)
deeds = st.one_of(
    st.tuples(st.just("start"), st.lists(scripts, min_size=1, max_size=3)),
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("pass"), st.floats(0, 100_000)),
    st.tuples(st.just("jump"), st.floats(-200_000, 200_000)),
)


class Interleaving:
    """Runs calls a step at a time, in the order it is told, and looks at every account after every step."""

    def __init__(self, allowances: Allowances, clock: StillClock) -> None:
        self._allowances = allowances
        self._clock = clock
        self._running: list[AsyncGenerator[Delta, None]] = []
        self.calls: list[Call] = []
        self.accounts: set[Account] = set()

    async def do(self, deed: str, value: Any) -> None:
        if deed == "start":
            self.start(value)
        elif deed == "pass":
            self._clock.pass_by(value)
        elif deed == "jump":
            self._clock.jump(value)
        elif self._running:
            await (self.step if deed == "step" else self.leave)(self._running[value % len(self._running)])
        self.check()

    def start(self, attempts: list[list[Step]]) -> None:
        call = ask(len(self.calls))
        self.calls.append(call)
        self._running.append(road(Scripted(*attempts), self._allowances, self._clock).answer(call))

    async def step(self, stream: AsyncGenerator[Delta, None]) -> None:
        try:
            await anext(stream)
        except (StopAsyncIteration, ModelFailure):
            self._running.remove(stream)

    async def leave(self, stream: AsyncGenerator[Delta, None]) -> None:
        await stream.aclose()
        self._running.remove(stream)

    async def end(self) -> None:
        for stream in list(self._running):
            await self.leave(stream)
        self.check()

    def check(self) -> None:
        self.accounts.update(self._allowances.applying(ask()))
        for account in self.accounts:
            limit = account.allowance
            assert account.held >= 0
            assert account.held_tokens >= 0
            assert limit.money is None or account.spent + account.held <= limit.money
            assert limit.tokens is None or account.spent_tokens + account.held_tokens <= limit.tokens


@settings(max_examples=150, deadline=None)
@given(st.lists(deeds, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_no_order_of_answers_failures_leavings_and_clocks_overspends(
    todo: list[tuple[str, Any]], money: int, tokens: int
) -> None:
    async def scenario(folder: Path) -> None:
        clock = StillClock()
        database = await Database.open(folder / "loam.db", MIGRATIONS)
        allowances = await Allowances.open(database, clock)
        await allowances.create(NewAllowance(scope="all", period="day", money=money * WORST))
        await allowances.create(
            NewAllowance(scope="user", subject="*", period="week", tokens=tokens * (BOUND + LONGEST))
        )
        interleaving = Interleaving(allowances, clock)
        for deed, value in todo:
            await interleaving.do(deed, value)
        await interleaving.end()
        for account in interleaving.accounts:
            assert (account.held, account.held_tokens) == (0, 0)
        by_day = [account for account in interleaving.accounts if account.allowance.scope == "all"]
        costs = sum(call.trace.cost or 0 for call in interleaving.calls)
        assert sum(account.spent for account in by_day) == costs
        assert costs == sum(attempt.cost or 0 for call in interleaving.calls for attempt in call.trace.attempts)
        await database.write(lambda connection: None)
        spent = await database.read(lambda c: c.execute("SELECT coalesce(sum(money), 0) FROM spending").fetchone()[0])
        assert spent == sum(account.spent for account in interleaving.accounts)
        assert (await Allowances.open(database, clock)).recovered == 0
        await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


# Kill -9

PROGRAM = """
import asyncio, sys
from pathlib import Path
from loam.core.clock import SystemClock
from loam.gateway.allowances import MIGRATIONS, Allowances
from loam.storage.database import Database
from tests.promises.test_p2_budget import Dear, Silent, ask, hear, road, state_of

async def main():
    clock = SystemClock()
    database = await Database.open(Path(sys.argv[1]), MIGRATIONS)
    allowances = await Allowances.open(database, clock)
    waiting = asyncio.ensure_future(hear(road(Silent(), allowances, clock), ask(99)))
    while not (await state_of(allowances)).reserved:
        await asyncio.sleep(0)
    await database.write(lambda connection: None)
    model = road(Dear(share=0.5), allowances, clock)

    async def caller(number):
        while True:
            call = ask(number)
            heard = await hear(model, call)
            if heard.failure is not None:
                return
            await database.write(lambda connection: None)  # as the ledger's row, which the client's last byte waits for
            print(call.trace.cost, flush=True)

    await asyncio.gather(*(caller(number) for number in range(32)))

asyncio.run(main())
"""


async def test_kill_9_under_load_forgets_no_spending(tmp_path: Path) -> None:
    path, clock = tmp_path / "loam.db", SystemClock()
    limit = 10**6 * WORST  # more than can be spent before the parent gets round to the kill
    database = await Database.open(path, MIGRATIONS)
    await (await Allowances.open(database, clock)).create(NewAllowance(scope="all", period="ever", money=limit))
    await database.close()
    told = 0
    for lines in (40, 90, 200):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        output = cast("Any", process.stdout)
        told += sum(int(output.readline()) for _ in range(lines))
        os.kill(process.pid, signal.SIGKILL)
        told += sum(int(line) for line in output.read().split("\n")[:-1])
        process.wait()
        output.close()
        database = await Database.open(path, MIGRATIONS)
        allowances = await Allowances.open(database, clock)
        assert allowances.recovered > 0, "the silent call's reservation was forgotten"
        state = await state_of(allowances)
        assert told <= state.spent <= limit
        assert state.reserved == 0
        await database.close()
