"""Server-sent events: bytes of a stream to events, and an event to bytes.

Knows the event-stream format of the HTML standard. Does not know what an event means, and ignores `id` and `retry`,
which no model provider uses. Invariant: where the stream is cut into reads never changes the events.
"""

from msgspec import Struct

_BOM = b"\xef\xbb\xbf"


class Event(Struct, frozen=True):
    """One event: its name, empty where the stream gave none, and its data lines joined by newlines."""

    event: str
    data: bytes


def encode_event(data: bytes, event: str = "") -> bytes:
    """One event as bytes. `data` may hold newlines but no carriage return, as is so for any JSON."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"data: %b\n\n" % data


class EventParser:
    r"""Takes a stream in pieces of any size; no record (what stands between two empty lines) may exceed `limit` bytes.

    ```python
    parser = EventParser(limit=1 << 20)
    parser.feed(b'data: {"a":')  # []
    parser.feed(b"1}\n\n")  # [Event(event="", data=b'{"a":1}')]
    ```
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._begun = False
        self._after_return = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Raises ValueError for a record over the limit."""
        if self._after_return or b"\r" in chunk:
            chunk = self._with_newlines(chunk)
        if not self._pending and chunk.endswith(b"\n\n"):
            return self._events(chunk)
        pending = self._pending
        searched = max(0, len(pending) - 1)
        pending += chunk
        end = pending.rfind(b"\n\n", searched)
        unfinished = len(pending) - (end + 2 if end >= 0 else 1)
        if unfinished > self._limit:
            raise ValueError(f"an event of the stream is larger than {self._limit} bytes")
        if end < 0:
            return []
        complete = bytes(pending[:end])
        del pending[: end + 2]
        return self._events(complete)

    def _with_newlines(self, chunk: bytes) -> bytes:
        """Turns every line end into a newline; a return at a chunk's end takes a newline at the next one's start."""
        if not chunk:
            return chunk
        if self._after_return:
            chunk = chunk.removeprefix(b"\n")
        self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _events(self, block: bytes) -> list[Event]:
        if not self._begun:
            self._begun = True
            block = block.removeprefix(_BOM)
        if block.startswith(b"data: ") and block.find(b"\n") == len(block) - 2 <= self._limit:
            return [Event("", block[6:-2])]  # most reads are one event; a single character after the line is no field
        events: list[Event] = []
        for record in block.split(b"\n\n"):
            if len(record) > self._limit:
                raise ValueError(f"an event of the stream is larger than {self._limit} bytes")
            if record.startswith(b"data: ") and b"\n" not in record:
                events.append(Event("", record[6:]))
            elif record and (event := _event(record)) is not None:
                events.append(event)
        return events


def _event(record: bytes) -> Event | None:
    """A record line by line; a record without data is no event, as the standard says."""
    name = b""
    lines: list[bytes] = []
    for line in record.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return Event(name.decode("utf-8", "replace"), b"\n".join(lines)) if lines else None
