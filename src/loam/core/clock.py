"""Time and identity, passed in wherever they are needed so that tests can hold them still."""

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """`now` is wall time in seconds since 1970 UTC; `monotonic` never goes back and is what durations use."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts like the number, no look-alikes
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_HALF = 2**60 - 1


def new_id(prefix: str, now: float) -> str:
    """An id that sorts by time: prefix, 48 bits of milliseconds, 72 random bits. `new_id("call", 1.0)`.

    A name, not a secret: who has seen many could tell the next.
    """
    number = (int(now * 1000) & 0xFFFF_FFFF_FFFF) << 72 | random.getrandbits(72)
    return f"{prefix}_{_digits(number >> 60)}{_digits(number & _HALF)}"


def _digits(number: int) -> str:
    """Sixty bits as twelve digits, written out because every call has an id."""
    pairs = _PAIRS
    return (
        pairs[number >> 50]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )
