"""The retry stage: the same call to the same target again, as long as nobody can notice.

Knows one target and one verdict; which other target might do, `loam.gateway.fallback` knows.
Invariants (P3): nothing is handed on before the first content, and from then on an attempt is never made again; each
request that left is one row in the call's trace, ended as done, failed or cancelled. No request leaves, the first or a
later one, before the writes that it waits for (`trace.pending`) are durable.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType

from msgspec import structs

from loam.core.calls import Call, Delta
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, fail, refuse
from loam.core.ports import Model
from loam.core.trace import Attempt, Trace
from loam.gateway.backoff import RetrySettings, next_wait
from loam.gateway.watch import Watch

__all__ = ["Retry", "RetrySettings"]


class Retry:
    """Answers by asking `inner` up to `settings.attempts` times; `random` draws evenly from 0 to 1.

    A retryable failure that leaves here says `should_retry=False`: everything that may be tried has been.
    """

    def __init__(self, inner: Model, clock: Clock, random: Callable[[], float], settings: RetrySettings) -> None:
        self._inner = inner
        self._clock = clock
        self._random = random
        self._settings = settings

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        tried = 0
        waited = 0.0
        while True:
            if call.trace.pending:
                await _settle(call.trace)
            attempt = self._begin(call, waited)
            tried += 1
            try:
                async with aclosing(self._attempt(call, attempt)) as deltas:
                    async for delta in deltas:
                        yield delta
            except ModelFailure as error:
                wait = self._wait(call, attempt, error, tried)
                if wait is None and error.failure.retryable:
                    raise ModelFailure(structs.replace(error.failure, should_retry=False)) from error
                if wait is None:
                    raise
                waited = wait
            else:
                return
            await self._clock.sleep(waited)

    def _begin(self, call: Call, waited: float) -> Attempt:
        now = self._clock.monotonic()
        if call.deadline is not None and now >= call.deadline:
            raise refuse(
                "timeout", f"the call's time was up before {call.target} was asked; allow it a longer deadline"
            )
        target = call.target
        provider, model = ("", call.model) if target is None else (target.provider, target.model)
        attempts = call.trace.attempts
        attempt = Attempt(len(attempts) + 1, provider, model, now, waited)
        attempts.append(attempt)
        return attempt

    def _wait(self, call: Call, attempt: Attempt, error: ModelFailure, tried: int) -> float | None:
        """How long to pause before the next attempt; None: the failure stands."""
        may_retry = call.trace.may_retry
        if attempt.first_token is not None or (may_retry is not None and not may_retry()):
            return None
        room = None if call.deadline is None else call.deadline - self._clock.monotonic()
        return next_wait(error.failure, self._settings, tried=tried, chance=self._random(), room=room)

    async def _attempt(self, call: Call, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """One attempt: says nothing before its first content, then everything as it comes."""
        settings = self._settings
        held: list[Delta] | None = []
        with (
            _Ended(attempt, self._clock),
            Watch(
                self._clock,
                _Cut(attempt),
                first=settings.first_token,
                then=settings.between_tokens,
                deadline=call.deadline,
            ) as watch,
        ):
            async with aclosing(self._inner.answer(call)) as deltas:
                async for delta in deltas:
                    if held is None:
                        watch.pause()
                        yield delta
                        watch.resume()
                        continue
                    held.append(delta)
                    if delta.has_content:
                        attempt.first_token = self._clock.monotonic()
                        watch.pause()
                        watch.begun()
                        for early in held:
                            yield early
                        held = None
                        watch.resume()
            if held is not None and call.task != "count":
                raise fail("truncated", attempt.provider, f"{_name(attempt)} ended its answer before it began one")
            watch.pause()
            for delta in held or ():
                yield delta


class _Ended:
    """Ends an attempt's row in the trace, however the attempt ends."""

    def __init__(self, attempt: Attempt, clock: Clock) -> None:
        self._attempt = attempt
        self._clock = clock

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        attempt = self._attempt
        attempt.ended = self._clock.monotonic()
        if error is None:
            attempt.outcome = "done"
        elif isinstance(error, ModelFailure):
            failure = error.failure
            attempt.outcome, attempt.failure, attempt.message = "failed", failure.kind, failure.message
            attempt.sent = failure.sent
            attempt.status = failure.status if failure.status is not None else attempt.status
        elif isinstance(error, Exception):
            attempt.outcome, attempt.failure, attempt.message = "failed", "internal", type(error).__name__
        else:
            attempt.outcome = "cancelled"


class _Cut:
    """Makes the verdict on an attempt that the watch cut: the deadline is the call's matter, silence the provider's."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __call__(self, seconds: float, *, late: bool) -> ModelFailure:
        name = _name(self._attempt)
        if late:
            return refuse("timeout", f"the call's time was up while {name} answered; allow it more time")
        what = "did not begin to answer" if self._attempt.first_token is None else "stopped in the middle of its answer"
        return fail("timeout", self._attempt.provider, f"{name} {what}: nothing came for {seconds:g} s")


def _name(attempt: Attempt) -> str:
    return f"{attempt.provider}/{attempt.model}"


async def _settle(trace: Trace) -> None:
    """Waits until what must be on record before a request leaves is durable. Raises ModelFailure (unavailable)."""
    pending, trace.pending = trace.pending, []
    for write in pending:
        try:
            await write
        except ModelFailure:
            raise
        except Exception as error:
            message = f"the call could not be put on record ({error}), so it was not sent; is the disk full?"
            raise refuse("unavailable", message) from error
