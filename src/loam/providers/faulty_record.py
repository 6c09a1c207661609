"""What came to the faulty upstream, and which faults that happen once have happened.

Invariant: every request is on record, with how it ended; the oldest are forgotten when there are too many.
"""

import time
from typing import Literal

from msgspec import Struct

from loam.providers.faults import BY_NAME, Fault, fault_of
from loam.providers.faulty_answers import Json

_REMEMBERED = 10_000

Ending = Literal["open", "answered", "refused", "broken", "left"]


class Visit(Struct):
    """A request: when it came and ended (wall time), and how. left: the client closed first."""

    number: int
    path: str
    model: str
    fault: str
    session: str
    at: float
    body: Json
    headers: dict[str, str]
    ended: float | None = None
    ending: Ending = "open"


class Record:
    """The requests so far, in `visits`."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self._seen: set[tuple[str, str]] = set()
        self._number = 0

    def of(self, model: str) -> list[Visit]:
        """What came for one model."""
        return [visit for visit in self.visits if visit.model == model]

    def forget(self) -> None:
        self.visits.clear()
        self._seen.clear()

    def receive(self, path: str, model: str, body: Json, headers: dict[str, str]) -> tuple[Visit, Fault]:
        """Writes a request down, and says what happens to it."""
        fault = fault_of(model)
        session = headers.get("x-fault-session") or headers.get("authorization") or headers.get("x-api-key", "")
        if fault.once and (model, session) in self._seen:
            fault = BY_NAME["ok"]
        self._seen.add((model, session))
        self._number += 1
        visit = Visit(self._number, path, model, fault.name, session, time.time(), body, headers)
        self.visits.append(visit)
        del self.visits[:-_REMEMBERED]
        return visit, fault
