"""The ledger stage: writes every call down before it goes out and before its answer is whole.

Knows the road's words and the call log; knows no SQL. Invariant (P1): the generator ends only after the outcome is
durable, and fails where it cannot be made so. Whoever sends an answer on must hold back its last byte (`[DONE]`,
`message_stop`, the closing brace) until this generator has ended: a finish or usage delta alone is not the end.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal

from msgspec import Meta, Struct

from loam.core.answers import Collector
from loam.core.calls import Call, Delta
from loam.core.clock import Clock
from loam.core.errors import Failure, ModelFailure, refuse
from loam.core.ports import Model
from loam.gateway.calls import CallLog, Ending, Entry
from loam.gateway.redaction import strictest

Written = asyncio.Future[None]


class LedgerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    redaction: Annotated[
        Literal["none", "redacted", "full"],
        Meta(
            description="What is taken out of bodies before they are kept; a key may ask for more. none: nothing. "
            "redacted: addresses, numbers and secrets become marks like [email]. full: all but length and SHA-256."
        ),
    ] = "none"
    largest_body: Annotated[
        int, Meta(ge=0, description="Bytes; of a larger request or answer only length and SHA-256 are kept.")
    ] = 1024 * 1024


class Ledger:
    """Passes `inner` on unchanged and on record. Raises ModelFailure (unavailable) where it can't be recorded.

    `observe` hears of each call that ended, and when on the monotonic clock it began.
    """

    def __init__(
        self,
        inner: Model,
        log: CallLog,
        clock: Clock,
        settings: LedgerSettings,
        *,
        observe: Callable[[Call, Ending, float], None] | None = None,
    ) -> None:
        self._inner = inner
        self._log = log
        self._observe = observe
        self._clock = clock
        self._settings = settings

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        clock = self._clock
        redaction = strictest(self._settings.redaction, call.principal.redaction)
        entry = Entry(call, clock.now(), clock.monotonic(), redaction)
        intent = self._log.open(entry)
        call.trace.pending.append(intent)
        said = Collector()
        first: float | None = None
        state: Literal["done", "failed", "cancelled"] = "cancelled"
        failure: Failure | None = None
        try:
            async with aclosing(self._inner.answer(call)) as deltas:
                async for delta in deltas:
                    said.add(delta)
                    if first is None and delta.has_content:
                        first = clock.monotonic()
                    yield delta
            state = "done"
        except Exception as error:
            state, failure = "failed", _verdict(error)
            raise
        finally:
            ending = Ending(state, clock.monotonic(), first, said, failure)
            outcome = self._log.settle(entry, ending)
            if self._observe is not None:
                self._observe(call, ending, entry.began)
            if state == "cancelled":  # nobody waits for this answer any more; the write goes on without us
                outcome.add_done_callback(partial(_report, intent))
            else:
                await _durable(intent, outcome)


def _verdict(error: Exception) -> Failure:
    if isinstance(error, ModelFailure):
        return error.failure
    return Failure(kind="internal", message=f"the gateway failed inside ({type(error).__name__})")


async def _durable(intent: Written, outcome: Written) -> None:
    try:
        await outcome
    except Exception as error:
        message = f"the answer is there but could not be put on record ({error}), so it is withheld; is the disk full?"
        raise refuse("unavailable", message) from error
    finally:
        _error_of(intent)


def _report(intent: Written, outcome: Written) -> None:
    _error_of(intent)
    error = _error_of(outcome)
    if error is not None:
        logging.getLogger(__name__).error("the outcome of a cancelled call could not be put on record: %s", error)


def _error_of(written: Written) -> BaseException | None:
    """Looks at a write's error; an intent's is the retry stage's to act on, since the outcome stands without it."""
    return written.exception() if written.done() and not written.cancelled() else None
