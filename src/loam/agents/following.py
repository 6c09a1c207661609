"""Reads a run's events as they happen, for somebody who may leave or read slowly.

Knows the log and its news. Invariant: a follower holds a handful of events, however far it is behind; it asks for the
next ones only when it has taken these.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from loam.agents.events import Entry, EventLog
from loam.agents.views import RunView

Followed = Entry | RunView | None
"""An event; the run as it stands at the end of the stream; or None: nothing happened for a while."""

_BATCH = 32


async def next_events(
    log: EventLog, run_id: str, after: int, *, driven: Callable[[str], bool], wait: float
) -> list[Entry]:
    """The events after one; where there is none and the run is driven, waits for it so many seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    with log.news.of(run_id) as bell:
        while True:
            entries = await log.events(run_id, after)
            left = until - loop.time()
            if entries or left <= 0 or not driven(run_id):
                return entries
            await bell.wait(left)


async def follow(
    log: EventLog,
    run_id: str,
    after: int,
    *,
    driven: Callable[[str], bool],
    look: Callable[[], Awaitable[RunView]],
    pulse: float,
) -> AsyncGenerator[Followed, None]:
    """The events after one; then, once nobody drives the run, how it stands, and the end."""
    with log.news.of(run_id) as bell:
        while True:
            at_work = driven(run_id)  # before the look: what happened until it was over is then seen
            entries = await log.events(run_id, after, _BATCH)
            for entry in entries:
                after = entry.seq
                yield entry
            if entries:
                continue
            if not at_work and (standing := await look()).status != "running":
                yield standing
                return
            if at_work and not await bell.wait(pulse):
                yield None
