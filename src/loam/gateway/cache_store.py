"""Where cached answers are kept: in memory, the least recently used leave first.

Knows bytes and when they were stored; knows nothing of calls.
Invariant: what is kept never weighs more than `max_bytes`.
"""

from collections import OrderedDict

from msgspec import Struct

_OVERHEAD = 300  # bytes that an entry costs beside its value: its key, its record, its place in the dictionary


class Entry(Struct, frozen=True):
    value: bytes
    stored: float
    ttl: float


class MemoryStore:
    """`now` is the caller's clock; an entry is found while it is younger than its own and the reader's `max_age`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float, *, max_age: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = now - entry.stored
        if age >= entry.ttl:
            self._drop(key)
        if age >= min(entry.ttl, max_age):
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: bytes, value: bytes, now: float, *, ttl: float) -> None:
        """Keeps `value` if it fits at all, in place of what `key` held before."""
        self._drop(key)
        weight = len(value) + _OVERHEAD
        if weight > self._max_bytes:
            return
        self._entries[key] = Entry(value, now, ttl)
        self.size += weight
        while self.size > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= len(entry.value) + _OVERHEAD
