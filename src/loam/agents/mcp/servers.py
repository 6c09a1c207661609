"""A server of tools while the gateway runs: begun when it is first needed, and again when it has died, then ended.

Knows lives, time and patience; what a connection is, the way to it says. Invariants: a server has one life at a time,
whoever asks; a life that is over is over before the next begins; one that keeps failing is tried ever more seldom, and
whoever asks in between is told at once.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from loam.agents.mcp.listed import Listed
from loam.agents.outcome import Outcome
from loam.core.clock import Clock
from loam.core.errors import LoamError, ModelFailure, refuse

_LISTING = 10.0  # seconds for a server to say which tools it has
_LEAVING = 10.0
_LONGEST_WAIT = 30.0


class Session(Protocol):
    """An open connection; `ended` is set when it is over, and to make it so."""

    ended: asyncio.Event

    async def list(self) -> Sequence[Listed]:
        """Raises ModelFailure."""
        ...

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome: ...


class Way(Protocol):
    """How a server is reached; `words` are the last it said when it failed."""

    @property
    def words(self) -> str: ...

    def open(self) -> AbstractAsyncContextManager[Session]: ...


class Server:
    def __init__(self, name: str, way: Way, clock: Clock, patience: float) -> None:
        self.name = name
        self._way = way
        self._clock = clock
        self._patience = patience
        self._lock = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._calls = 0
        self._failures = 0
        self._why = ""
        self._not_before = 0.0

    async def list(self) -> Sequence[Listed]:
        """The server's tools, asked for now. Raises ModelFailure (unavailable)."""
        session = await self._open()
        try:
            return await self._ask(session)
        except ModelFailure:
            if not session.ended.is_set():
                raise
        return await self._ask(await self._open())  # it had died since it was last asked

    async def _ask(self, session: Session) -> Sequence[Listed]:
        try:
            async with asyncio.timeout(_LISTING):
                return await session.list()
        except TimeoutError:
            if not self._calls:  # at a call it may be busy; without one it hangs
                session.ended.set()
            raise self._down(f"it did not say within {_LISTING:g} seconds which tools it has") from None
        except ModelFailure as error:
            raise self._down(error.failure.message) from error

    async def call(self, tool: str, arguments: dict[str, Any], seconds: float) -> Outcome:
        """Never raises of its own. In doubt where the call went out and the server did not say what became of it."""
        try:
            session = await self._open()
        except ModelFailure as error:
            return Outcome(error.failure.message, is_error=True)
        self._calls += 1
        try:
            async with asyncio.timeout(seconds):
                outcome = await session.call(tool, arguments)
        except TimeoutError:
            said = f"the server {self.name} took longer than {seconds:g} seconds, and may be at it still"
            return Outcome(said, is_error=True, doubt=True)
        finally:
            self._calls -= 1
        if not outcome.doubt:
            self._failures = 0
        elif not self._calls:
            session.ended.set()
        return outcome

    async def close(self) -> None:
        async with self._lock:
            await self._leave()

    async def _open(self) -> Session:
        async with self._lock:
            session = self._session
            if session is not None and self._life is not None and not self._life.done() and not session.ended.is_set():
                return session
            if self._life is not None:
                self._failed(await self._leave() or "its connection ended")
            wait = self._not_before - self._clock.monotonic()
            if wait > 0:
                raise self._down(f"{self._why}; it is tried again in {wait:.1f} seconds")
            self._session = await self._begin()
            return self._session

    async def _begin(self) -> Session:
        opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._life = life = asyncio.ensure_future(self._live(opened))
        try:
            await asyncio.wait({life, opened}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not opened.done():
                life.cancel()
        if opened.done():
            return opened.result()
        late = not life.done()
        await asyncio.wait({life}, timeout=_LEAVING)
        error = None if late or life.cancelled() else life.exception()
        self._life = None
        why = f"it was not ready within {self._patience:g} seconds" if error is None else _said(error)
        self._failed(why)
        raise self._down(self._why)

    async def _live(self, opened: "asyncio.Future[Session]") -> None:
        """One life, in a task of its own, because what it opens must be closed where it was opened."""
        async with self._way.open() as session:
            opened.set_result(session)
            await session.ended.wait()

    async def _leave(self) -> str:
        """Ends a life; says what it died of, where it died of something."""
        life, session = self._life, self._session
        self._life = self._session = None
        if life is None:
            return ""
        if session is not None:
            session.ended.set()
        _, late = await asyncio.wait({life}, timeout=_LEAVING)
        if late:
            life.cancel()
            await asyncio.wait({life}, timeout=_LEAVING)
        if life.done() and not life.cancelled() and (error := life.exception()) is not None:
            return _said(error)
        return ""

    def _failed(self, why: str) -> None:
        words = self._way.words.strip()
        self._why = f"{why}: {words}" if words else why
        self._failures += 1
        delay = 0.0 if self._failures == 1 else min(_LONGEST_WAIT, 0.25 * 2**self._failures)
        self._not_before = self._clock.monotonic() + delay

    def _down(self, why: str) -> ModelFailure:
        return refuse("unavailable", f"the server {self.name} can't be used: {why}")


def _said(error: BaseException) -> str:
    """The first thing that went wrong, of however many that came with it."""
    if isinstance(error, BaseExceptionGroup):
        return _said(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return str(error) if isinstance(error, LoamError | OSError) else f"{type(error).__name__}: {error}"
