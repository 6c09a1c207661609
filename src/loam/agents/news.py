"""Tells those who follow a run that something happened to it.

Knows ids of runs and who waits. Invariant: nothing that happens while somebody listens is missed: a bell that rang
before it was waited for has rung, and rings once however often it was told.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress


class News:
    """Belongs to one event loop.

    ```python
    with news.of(run_id) as bell:
        while not (found := await look()):
            await bell.wait(5.0)
    ```
    """

    def __init__(self) -> None:
        self._bells: dict[str, set[Bell]] = {}

    def tell(self, run_id: str) -> None:
        for bell in self._bells.get(run_id, ()):
            bell.ring()

    @contextmanager
    def of(self, run_id: str) -> "Generator[Bell, None, None]":
        """A bell that rings for a run as long as the `with` lasts."""
        bell = Bell()
        self._bells.setdefault(run_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[run_id]
            bells.discard(bell)
            if not bells:
                del self._bells[run_id]

    @property
    def listeners(self) -> int:
        return sum(map(len, self._bells.values()))


class Bell:
    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Until it rings, or rang since the last time, for so many seconds at most; whether it did."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        rung = self._rung.is_set()
        self._rung.clear()
        return rung
