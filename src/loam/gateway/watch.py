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
    """Raises what `cut` makes once nothing came for `first` seconds, or, after `begun`, for `then` seconds.

    `deadline` is the moment on the clock's monotonic scale at which it ends in any case.

    ```python
    with Watch(clock, cut, first=120.0, then=30.0, deadline=None) as watch:
        async for delta in deltas:
            watch.pause()
            watch.begun()
            yield delta
            watch.resume()
    ```
    """

    __slots__ = (
        "_asked", "_clock", "_cut", "_deadline", "_interrupted", "_late", "_limit", "_loop", "_shortest", "_since",
        "_task", "_then", "_timer",
    )  # fmt: skip

    def __init__(self, clock: Clock, cut: Cut, *, first: float, then: float, deadline: float | None) -> None:
        self._clock = clock
        self._cut = cut
        self._limit = first
        self._then = then
        self._shortest = min(first, then)
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

    def begun(self) -> None:
        """From the next `resume` on, `then` seconds of silence are allowed."""
        self._limit = self._then

    def _due(self) -> float:
        due = self._since + self._limit
        return due if self._deadline is None or due < self._deadline else self._deadline

    def _arm(self, now: float) -> None:
        # It rings no later than the shorter limit may ask for, so that `begun` need not set it anew.
        self._timer = self._loop.call_later(max(min(self._due() - now, self._shortest), 0.0), self._ring)

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
