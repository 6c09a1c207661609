"""One upstream run that several equal calls read together, each from its beginning and at its own pace.

Knows streams and tasks, nothing of keys or stores.
Invariant: the run lives exactly as long as somebody reads it, and nobody's leaving is felt by those who stay.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from loam.core.calls import Call, Delta
from loam.core.errors import ModelFailure, refuse


class LeaderRefused(Exception):
    """Loam refused the leader on its own account (its budget, its deadline); a follower has to ask for itself."""


class Flight:
    """The run of `call`, the leader's: its trace has the attempts and the cost.

    `landed` gets the deltas of a run that came to its end; `gone` is called when nobody may join any more.
    """

    def __init__(self, call: Call, landed: Callable[[list[Delta]], None], gone: Callable[[], None]) -> None:
        self.call = call
        self._landed = landed
        self._gone = gone
        self._deltas: list[Delta] = []
        self._readers = 0
        self._news = asyncio.Event()

    async def lead(self, stream: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        """Starts the run and reads it. A leader that leaves followers behind waits for the end its trace must tell."""
        self._task = asyncio.get_running_loop().create_task(self._run(stream))
        self._task.add_done_callback(self._over)
        try:
            async with aclosing(self._read(None)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            if not self._task.done():
                await asyncio.wait({self._task})
        self._task.result()

    async def follow(self, seconds: float | None) -> AsyncGenerator[Delta, None]:
        """Reads along for `seconds` at most. Raises ModelFailure as the leader's run does, or LeaderRefused."""
        until = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            async with aclosing(self._read(until)) as deltas:
                async for delta in deltas:
                    yield delta
        except TimeoutError as error:
            raise refuse("timeout", "the call's time was up while it shared another's answer") from error
        error = None if self._task.cancelled() else self._task.exception()
        if not self._deltas and (self._task.cancelled() or _by_loam(error)):
            raise LeaderRefused
        if isinstance(error, ModelFailure):
            raise ModelFailure(error.failure) from error
        self._task.result()

    async def _read(self, until: float | None) -> AsyncGenerator[Delta, None]:
        task, deltas, at = self._task, self._deltas, 0
        self._readers += 1
        try:
            while True:
                while at < len(deltas):
                    yield deltas[at]
                    at += 1
                if task.done():
                    return
                if until is None:
                    await self._news.wait()
                else:
                    async with asyncio.timeout_at(until):
                        await self._news.wait()
        finally:
            self._readers -= 1
            if not self._readers and not task.done():
                self._gone()
                task.cancel()

    async def _run(self, stream: AsyncGenerator[Delta, None]) -> None:
        try:
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    self._deltas.append(delta)
                    self._tell()
            self._landed(self._deltas)
        finally:
            self._gone()

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._tell()
        if not task.cancelled():
            task.exception()  # readers that are there raise it; where none is left, it has been seen

    def _tell(self) -> None:
        self._news.set()
        self._news.clear()


def _by_loam(error: BaseException | None) -> bool:
    return isinstance(error, ModelFailure) and not error.failure.provider
