"""Cuts a stream that has been silent for too long, at the price of one timer an attempt and none a delta.

Knows tasks and timers, nothing of models. Invariant: it interrupts only a task that waits for the stream, never
one that is busy with what the stream gave; a cancellation that came from elsewhere goes on as one.
"""

import asyncio
from types import TracebackType
from typing import Protocol

from loam.core.clock import Clock


class Cut(Protocol):
    """Makes the exception for a cut stream: after how many seconds of silence, or `late`: because its time was up."""

    def __call__(self, seconds: float, *, late: bool) -> Exception: ...


class Watch:
    """Raises what `cut` makes once nothing came for `limit` seconds, or at `deadline` (on the clock's monotonic scale).

    ```python
    with Watch(clock, cut, limit=30.0, deadline=None) as watch:
        async for delta in deltas:
            watch.pause()
            yield delta
            watch.resume()
    ```
    """

    __slots__ = (
        "_asked",
        "_clock",
        "_cut",
        "_deadline",
        "_interrupted",
        "_late",
        "_limit",
        "_loop",
        "_since",
        "_task",
        "_timer",
    )

    def __init__(self, clock: Clock, cut: Cut, *, limit: float, deadline: float | None) -> None:
        self._clock = clock
        self._cut = cut
        self._limit = limit
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._interrupted: asyncio.Task[object] | None = None
        self._asked = 0
        self._late = False

    def __enter__(self) -> "Watch":
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._interrupted is not None and self._interrupted.uncancel() <= self._asked:  # more: others cancelled too
            raise self._cut(self._limit, late=self._late) from error

    def pause(self) -> None:
        """The stream gave something; until `resume` the time is its reader's."""
        self._task = None

    def resume(self) -> None:
        self._task = asyncio.current_task(self._loop)
        self._since = self._clock.monotonic()
        if self._timer is None:
            self._arm(self._since)

    def expect(self, limit: float) -> None:
        """From the next `resume` on, `limit` seconds of silence are allowed."""
        if limit < self._limit and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limit = limit

    def _due(self) -> float:
        due = self._since + self._limit
        return due if self._deadline is None or due < self._deadline else self._deadline

    def _arm(self, now: float) -> None:
        self._timer = self._loop.call_later(max(self._due() - now, 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the reader has the word; `resume` arms again
        now = self._clock.monotonic()
        if now < self._due():
            self._arm(now)
            return
        self._late = self._deadline is not None and now >= self._deadline
        self._interrupted = self._task
        self._asked = self._task.cancelling()
        self._task.cancel()
