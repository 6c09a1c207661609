"""How often a key may call: requests and tokens a minute, and calls at the same time.

Pure: integers and the time it is told, in nanoseconds of a clock that never goes back. Knows no call.
Invariant: over any stretch of t minutes a bucket gives out at most limit * (1 + t), to the unit, because a level is
counted in things times nanoseconds and nothing is ever rounded; asked again after exactly `retry_after`, it gives.
"""

from msgspec import Struct

from loam.core.calls import Principal
from loam.core.errors import ModelFailure, refuse
from loam.gateway.http import Header

_MINUTE = 60_000_000_000
_SECOND = 1_000_000_000
_SWEEP = 10_000  # keys remembered before those that are back at rest are forgotten
_BUSY_WAIT = 1.0  # seconds to wait when calls at the same time are the limit: nobody knows when one of them ends


class Bucket:
    """Holds at most `limit` things and gains `limit` a minute; one thing weighs a minute of nanoseconds."""

    __slots__ = ("_at", "_level", "limit")

    def __init__(self, limit: int, now: int) -> None:
        self.limit = limit
        self._level = limit * _MINUTE
        self._at = now

    def refill(self, now: int) -> None:
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self.limit, self.limit * _MINUTE)
            self._at = now

    def wait(self, amount: int) -> int:
        """Nanoseconds after the last `refill` until `amount` can be taken."""
        return max(-(-(amount * _MINUTE - self._level) // self.limit), 0)

    def take(self, amount: int) -> None:
        """Takes, also what is not there: a call that used more than it asked for makes the next one wait."""
        self._level -= amount * _MINUTE

    def give(self, amount: int) -> None:
        self._level = min(self._level + amount * _MINUTE, self.limit * _MINUTE)

    @property
    def remaining(self) -> int:
        return max(self._level // _MINUTE, 0)

    @property
    def until_full(self) -> int:
        return self.wait(self.limit)


class _Meter:
    """What one key has used, by the limits it has now."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self, principal: Principal, now: int) -> None:
        self.running = 0
        self.requests = _bucket(None, principal.requests_per_minute, now)
        self.tokens = _bucket(None, principal.tokens_per_minute, now)

    def refill(self, principal: Principal, now: int) -> None:
        self.requests = _bucket(self.requests, principal.requests_per_minute, now)
        self.tokens = _bucket(self.tokens, principal.tokens_per_minute, now)

    @property
    def at_rest(self) -> bool:
        return not self.running and not any(b and b.until_full for b in (self.requests, self.tokens))


class Permit(Struct, frozen=True):
    """What one admitted call holds of its key's limits, until it is settled."""

    meter: _Meter
    tokens: int

    def settle(self, used: int, now: int) -> None:
        """Ends the call; the tokens it did not use go back."""
        self.meter.running -= 1
        bucket = self.meter.tokens
        if bucket is not None:
            bucket.refill(now)
            bucket.give(self.tokens - used)


class Limits:
    """The meters of all keys."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}

    def admit(self, principal: Principal, tokens: int, now: int) -> Permit:
        """Takes one request and `tokens`, of every limit or of none. Raises ModelFailure (rate_limit)."""
        meter = self._meter(principal, now)
        parallel, requests, bucket = principal.max_parallel, meter.requests, meter.tokens
        if parallel is not None and meter.running >= parallel:
            raise _refuse(principal, f"{parallel} calls at the same time, and so many are running", _BUSY_WAIT)
        if requests is not None and (wait := requests.wait(1)):
            raise _refuse(principal, f"{requests.limit} requests a minute, which are used up", wait / _SECOND)
        if bucket is not None and (wait := bucket.wait(tokens)):
            limit = f"{bucket.limit} tokens a minute"
            if tokens > bucket.limit:
                never = (
                    f"{limit}, and this call may use {tokens}; ask for a smaller max_tokens or send a shorter prompt"
                )
                raise _refuse(principal, never, None)
            left = f"{limit}; {bucket.remaining} are left and this call may use {tokens}"
            raise _refuse(principal, left, wait / _SECOND)
        if requests is not None:
            requests.take(1)
        if bucket is not None:
            bucket.take(tokens)
        meter.running += 1
        return Permit(meter, tokens)

    def headers(self, principal: Principal, now: int) -> list[Header]:
        """What is left, in the words that OpenAI's clients read; nothing for a key without such limits."""
        if principal.requests_per_minute is None and principal.tokens_per_minute is None:
            return []
        meter = self._meter(principal, now)
        return [*_describe(b"requests", meter.requests), *_describe(b"tokens", meter.tokens)]

    def _meter(self, principal: Principal, now: int) -> _Meter:
        meter = self._meters.get(principal.key_id)
        if meter is not None:
            meter.refill(principal, now)
            return meter
        if len(self._meters) >= _SWEEP:
            self._meters = {key: kept for key, kept in self._meters.items() if not _rested(kept, now)}
        meter = self._meters[principal.key_id] = _Meter(principal, now)
        return meter


def _bucket(old: Bucket | None, limit: int | None, now: int) -> Bucket | None:
    """The bucket brought up to now, or a full one where the key's limit is another than it was."""
    if limit is None:
        return None
    if old is None or old.limit != limit:
        return Bucket(limit, now)
    old.refill(now)
    return old


def _rested(meter: _Meter, now: int) -> bool:
    for bucket in (meter.requests, meter.tokens):
        if bucket is not None:
            bucket.refill(now)
    return meter.at_rest


def _refuse(principal: Principal, limit: str, wait: float | None) -> ModelFailure:
    again = "" if wait is None else f"; try again in {wait:.3f} s"
    message = f"the key {principal.key_id} is allowed {limit}{again}"
    return refuse("rate_limit", message, code="rate_limit_exceeded", retry_after=wait)


def _describe(name: bytes, bucket: Bucket | None) -> list[Header]:
    if bucket is None:
        return []
    return [
        (b"x-ratelimit-limit-" + name, b"%d" % bucket.limit),
        (b"x-ratelimit-remaining-" + name, b"%d" % bucket.remaining),
        (b"x-ratelimit-reset-" + name, _duration(bucket.until_full)),
    ]


def _duration(nanoseconds: int) -> bytes:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s; rounded up to a millisecond."""
    milliseconds = -(-nanoseconds // 1_000_000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}".encode() if minutes else seconds.encode()
