"""A process to be killed: 64 calls at a time through the ledger; says each call's id once its answer was whole.

python -m tests.gateway.burst FILE
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path

from loam.core.calls import Call, Delta
from loam.core.clock import SystemClock
from loam.gateway.bodies import Bodies
from loam.gateway.calls import CallLog
from loam.gateway.ledger import Ledger, LedgerSettings
from loam.storage.database import Database
from tests.gateway.records import MIGRATIONS


class Echo:
    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        for write in call.trace.pending:
            await write
        await asyncio.sleep(0)
        for _ in range(5):
            yield Delta(text=f"{call.id} ")
        yield Delta(finish="stop")


async def main(path: Path) -> None:
    log = CallLog(await Database.open(path, MIGRATIONS), Bodies(1024 * 1024))
    ledger = Ledger(Echo(), log, SystemClock(), LedgerSettings())
    numbers = count()

    async def client() -> None:
        for number in numbers:
            call = Call(id=f"call_{number:08}", model="m", body=b'{"n": %d}' % number)
            async for _ in ledger.answer(call):
                pass
            os.write(1, f"{call.id}\n".encode())

    await asyncio.gather(*(client() for _ in range(64)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
