"""What the ledger costs a call: 64 calls at a time through the stage alone, on a real file.

    python -m bench.ledger [CALLS]

Prints CPU per call over both threads, the loop's share and the writer's, and bytes on disk. The model behind the stage
is scripted and waits for the intent as the retry stage does; its own cost is measured alone and taken off.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import uvloop

from loam.core.calls import Call, Controls, Delta, Head, Principal, Usage
from loam.core.clock import SystemClock, new_id
from loam.core.ports import Model
from loam.core.trace import Attempt
from loam.gateway.bodies import Bodies
from loam.gateway.calls import MIGRATIONS, CallLog
from loam.gateway.ledger import Ledger, LedgerSettings
from loam.storage.database import Database

CONCURRENT = 64
ROUNDS = 40  # short ones, the fastest counts: whatever else the machine does only ever adds
PAGES = sorted(Path(__file__).parents[1].glob("src/loam/grounding/handbook/pages/**/*.md"))
TEXTS = [page.read_text("utf-8")[:900] for page in PAGES]


class Scripted:
    """One attempt that says its text in one piece, as an answer that is not streamed."""

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        for write in call.trace.pending:
            await write
        now = time.monotonic()
        call.trace.attempts.append(
            Attempt(1, "openai", "gpt-4o-mini", now, 0.0, now, now, "done", 200, "", "", "chatcmpl-1", 230, 210, 150)
        )
        trace = call.trace
        trace.route, trace.model, trace.cost = ["default", "openai/gpt-4o-mini"], "gpt-4o-mini", 150
        trace.price_version, trace.reserved, trace.counted_input, trace.counted_output = "2026-01-01", 900, 228, 211
        yield Delta(head=Head(id="chatcmpl-1", model="gpt-4o-mini", created=1764000000, family="openai"))
        yield Delta(text=TEXTS[len(call.body) % len(TEXTS)], finish="stop")
        yield Delta(usage=Usage(230, 210))


def call_number(number: int) -> Call:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": TEXTS[number % len(TEXTS)]},
    ]
    return Call(
        id=new_id("call", time.time()),
        model="gpt-4o-mini",
        body=msgspec.json.encode({"model": "gpt-4o-mini", "messages": messages}),
        principal=Principal(f"key_{number % 50}", f"user{number % 50}", "research"),
        controls=Controls(user=f"customer-{number % 999}"),
    )


async def drive(road: Model, calls: list[Call]) -> None:
    waiting = iter(calls)

    async def worker() -> None:
        for call in waiting:
            async for _ in road.answer(call):
                pass

    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))


async def measured(road: Model, count: int) -> tuple[float, float]:
    """CPU seconds of the process and of this thread."""
    calls = [call_number(number) for number in range(count)]
    process, thread = time.process_time(), time.thread_time()
    await drive(road, calls)
    return time.process_time() - process, time.thread_time() - thread


async def main(count: int) -> None:
    clock = SystemClock()
    best_process = best_loop = bare = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loam.db"
        database = await Database.open(path, MIGRATIONS)
        log = CallLog(database, Bodies(1024 * 1024))
        ledger = Ledger(Scripted(), log, clock, LedgerSettings())
        for _ in range(ROUNDS):
            bare = min(bare, (await measured(Scripted(), count))[0])
            process, loop = await measured(ledger, count)
            best_process, best_loop = min(best_process, process), min(best_loop, loop)
        await database.close()
        size = path.stat().st_size / ROUNDS / count

    def micro(seconds: float) -> str:
        return f"{seconds / count * 1e6:6.1f} µs"

    print(f"ledger, both threads   {micro(best_process - bare)}")
    print(f"  of it on the loop    {micro(best_loop - bare)}")
    print(f"  on the writer        {micro(best_process - best_loop)}")
    print(f"on disk                {size:6.0f} bytes a call")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 640))
