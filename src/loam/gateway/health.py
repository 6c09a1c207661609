"""Which targets are sick, so that a call need not find out again. Pure: the time is handed in.

A target that failed a few times in a row is left alone for a while (open), then asked once (half-open), and trusted
again when that one call is answered (closed).
Invariant: of a half-open target one probe at a time is out, and it is given back however the probe ends.
"""

from typing import Literal

from msgspec import Struct

from loam.core.calls import Target
from loam.core.errors import Failure

State = Literal["closed", "open", "half-open"]

_REMEMBERED = 1_000  # clients name models, so the memory of failing ones is bounded


class _Record(Struct):
    failures: int = 0
    failed_at: float = 0.0
    until: float | None = None
    probe: str = ""


class Health:
    """`failures` in a row open a target for `cooldown` seconds, a Retry-After for as long as it says, to `longest`."""

    def __init__(self, *, failures: int, cooldown: float, longest: float) -> None:
        self._failures = failures
        self._cooldown = cooldown
        self._longest = longest
        self._records: dict[Target, _Record] = {}

    def admit(self, target: Target, now: float, call_id: str) -> bool:
        """Whether the call may ask `target` now. Yes for a sick one means: as its probe, until `release`."""
        record = self._records.get(target)
        if record is None or record.until is None:
            return True
        if now < record.until or record.probe:
            return False
        record.probe = call_id
        return True

    def succeeded(self, target: Target) -> None:
        self._records.pop(target, None)

    def failed(self, target: Target, failure: Failure, now: float) -> None:
        """Takes a verdict: only what another provider could mend is a sign of sickness."""
        if not failure.provider:
            return  # Loam refused by itself; that says nothing of the target
        if not failure.mendable:
            self.succeeded(target)  # it is well enough to judge the call
            return
        record = self._records.setdefault(target, _Record())
        record.failures += 1
        record.failed_at = now
        if failure.kind == "rate_limit" and failure.retry_after is not None:
            record.until = now + min(failure.retry_after, self._longest)
        elif record.failures >= self._failures:
            record.until = now + self._cooldown
        if len(self._records) > _REMEMBERED:
            del self._records[next(iter(self._records))]

    def release(self, target: Target, call_id: str) -> None:
        """Gives the probe back if the call had it."""
        record = self._records.get(target)
        if record is not None and record.probe == call_id:
            record.probe = ""

    def least_recently_failed(self, targets: tuple[Target, ...]) -> Target:
        return min(targets, key=lambda target: self._records.get(target, _Record()).failed_at)

    def state(self, target: Target, now: float) -> State:
        record = self._records.get(target)
        if record is None or record.until is None:
            return "closed"
        return "open" if now < record.until else "half-open"
