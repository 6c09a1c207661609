"""A ledger to test with: its file, its desks, and a clock that stands still until it is moved."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from loam.core.calls import Call, Controls, Delta, Head, Principal, Usage
from loam.core.ports import Model
from loam.core.trace import Attempt
from loam.gateway import calls, feedback
from loam.gateway.bodies import Bodies
from loam.gateway.calls import CallLog
from loam.gateway.feedback import Feedback
from loam.gateway.history import CallHistory
from loam.gateway.ledger import Ledger, LedgerSettings
from loam.storage.database import Database

MIGRATIONS = (*calls.MIGRATIONS, *feedback.MIGRATIONS)
START = 1_800_000_000.0
ANN = Principal("key_ann", "ann", "research")
BOB = Principal("key_bob", "bob", "sales")


class StillClock:
    """Moves only when told: `clock.at`, the wall; `clock.ticks`, the monotonic time."""

    def __init__(self) -> None:
        self.at = START
        self.ticks = 50.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.ticks

    def move(self, seconds: float) -> None:
        self.at += seconds
        self.ticks += seconds

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)


class Answering:
    """Behaves like the rest of the road: waits for what must be durable, then makes one attempt and does the steps.

    A step is a delta to give, an exception to raise, or something to call.
    """

    def __init__(
        self, clock: StillClock, *steps: Delta | BaseException | Callable[[], Any], price: int | None = 120
    ) -> None:
        self._clock = clock
        self._steps = steps
        self._price = price
        self.seconds = 0.5  # before each step

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        for write in call.trace.pending:
            await write
        trace = call.trace
        attempt = Attempt(len(trace.attempts) + 1, "acme", "large-1", self._clock.monotonic())
        trace.attempts.append(attempt)
        trace.model, trace.counted_input, trace.price_version, trace.reserved = "large", 11, "v7", 900
        attempt.outcome = "cancelled"
        try:
            for step in self._steps:
                self._clock.move(self.seconds)
                if isinstance(step, BaseException):
                    attempt.outcome, attempt.message = "failed", str(step)
                    raise step
                if isinstance(step, Delta):
                    trace.counted_output += len(step.text) // 4
                    yield step
                else:
                    step()
            attempt.outcome = "done"
        finally:
            attempt.ended, trace.cost = self._clock.monotonic(), self._price


class Shelf(Struct, frozen=True):
    """An open file and everything that reads or writes it."""

    path: Path
    database: Database
    clock: StillClock
    log: CallLog
    history: CallHistory
    feedback: Feedback

    def ledger(self, inner: Model, settings: LedgerSettings | None = None) -> Ledger:
        return Ledger(inner, self.log, self.clock, settings or LedgerSettings())

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """What another process would find in the file at this moment."""
        other = sqlite3.connect(self.path)
        try:
            return other.execute(statement, values).fetchall()
        finally:
            other.close()

    async def made(self, call: Call, *steps: Delta | BaseException, price: int | None = 120) -> None:
        """Takes a call through the ledger to its end."""
        async for _ in self.ledger(Answering(self.clock, *(steps or ANSWER), price=price)).answer(call):
            pass


@asynccontextmanager
async def shelf(path: Path, *, largest: int = 1024 * 1024) -> AsyncGenerator[Shelf, None]:
    database = await Database.open(path, MIGRATIONS)
    bodies = Bodies(largest)
    desks = CallLog(database, bodies), CallHistory(database, bodies), Feedback(database)
    yield Shelf(path, database, StillClock(), *desks)
    await database.close()


ANSWER = (
    Delta(head=Head(id="up-1", model="large-1-2027", family="openai")),
    Delta(text="Good "),
    Delta(text="morning."),
    Delta(finish="stop"),
    Delta(usage=Usage(input=10, output=4, cached=6, provider_cost=118)),
)


def asked(number: int = 1, **fields: Any) -> Call:
    """A call from Ann's key on a customer's behalf."""
    defaults: dict[str, Any] = {
        "id": f"call_{number:04}",
        "model": "fast",
        "family": "openai",
        "body": b'{"model":"fast","messages":[{"role":"user","content":"How are you?"}]}',
        "principal": ANN,
        "controls": Controls(user="customer-7", tags={"env": "test"}),
    }
    return Call(**{**defaults, **fields})


async def drain(stream: AsyncGenerator[Delta, None]) -> Iterable[Delta]:
    return [delta async for delta in stream]
