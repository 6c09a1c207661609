"""What people think of an answer: a thumb, a score, a comment or a better answer, on a call's id.

Knows its own table and who may see a call. Invariant: feedback belongs to a call that is on record, and the words of a
key that asks for redaction are redacted here as they are in its calls.
"""

from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from loam.core.calls import Principal
from loam.core.errors import refuse
from loam.gateway.redaction import Redaction, redact, strictest
from loam.storage.database import Database
from loam.storage.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "feedback-001",
        """
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    call_id TEXT NOT NULL,
    at INTEGER NOT NULL, -- microseconds since 1970 UTC
    key_id TEXT NOT NULL, -- who says so
    user TEXT NOT NULL,
    thumb TEXT NOT NULL, -- up, down or empty
    score REAL,
    score_name TEXT NOT NULL,
    comment TEXT NOT NULL,
    correction TEXT NOT NULL
);
CREATE INDEX feedback_by_call ON feedback (call_id);
""",
    ),
)

Thumb = Literal["", "up", "down"]
_Text = Annotated[str, Meta(max_length=100_000)]


class Opinion(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody gives; at least one of thumb, score, comment and correction. `correction` is the better answer."""

    thumb: Thumb = ""
    score: float | None = None
    score_name: Annotated[str, Meta(max_length=100)] = ""
    comment: _Text = ""
    correction: _Text = ""


class FeedbackRow(Struct, frozen=True):
    id: int
    call_id: str
    at: datetime
    key_id: str
    user: str
    thumb: Thumb
    score: float | None
    score_name: str
    comment: str
    correction: str


class Feedback:
    """Takes opinions and gives them back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, call_id: str, opinion: Opinion, *, by: Principal, now: float) -> FeedbackRow:
        """Keeps an opinion. Raises ModelFailure: not_found for a call `by` cannot see, bad_request for an empty one."""
        if opinion == Opinion(score_name=opinion.score_name):
            raise refuse("bad_request", "there is nothing in it: give a thumb, a score, a comment or a correction")
        seen: Redaction | None = await self._database.read(lambda connection: _seen(connection, call_id, by))
        if seen is None:
            raise refuse("not_found", f"no call {call_id!r} is on record for this key; the id is in x-loam-call-id")
        redaction = strictest(seen, by.redaction)
        row = FeedbackRow(
            0,
            call_id,
            datetime.fromtimestamp(now, UTC),
            by.key_id,
            by.user,
            opinion.thumb,
            opinion.score,
            opinion.score_name,
            _kept(opinion.comment, redaction),
            _kept(opinion.correction, redaction),
        )
        return await self._database.write(lambda connection: _insert(connection, row))

    async def of(self, call_id: str) -> list[FeedbackRow]:
        """Everything said about a call, in the order in which it came."""
        return await self._database.read(lambda connection: feedback_of(connection, call_id))


def feedback_of(connection: Connection, call_id: str) -> list[FeedbackRow]:
    rows = connection.execute("SELECT * FROM feedback WHERE call_id = ? ORDER BY id", (call_id,))
    return [_row(values) for values in rows]


def _seen(connection: Connection, call_id: str, by: Principal) -> Redaction | None:
    """The redaction of a call that `by` may judge: an administrator any, others those of their key, user or team."""
    found = connection.execute(
        "SELECT redaction FROM every_call WHERE id = ?1 AND (?2 OR (key_id = ?3 AND ?3 <> '') "
        "OR (user = ?4 AND ?4 <> '') OR (team = ?5 AND ?5 <> ''))",
        (call_id, by.admin, by.key_id, by.user, by.team),
    ).fetchone()
    return None if found is None else found[0]


def _insert(connection: Connection, row: FeedbackRow) -> FeedbackRow:
    values = msgspec.structs.astuple(row)
    at = round(row.at.timestamp() * 1_000_000)
    number = connection.execute(
        "INSERT INTO feedback (call_id, at, key_id, user, thumb, score, score_name, comment, correction) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (values[1], at, *values[3:]),
    ).lastrowid
    return msgspec.structs.replace(row, id=number)


def _row(values: tuple[Any, ...]) -> FeedbackRow:
    number, call_id, at, *rest = values
    return FeedbackRow(number, call_id, datetime.fromtimestamp(at / 1_000_000, UTC), *rest)


def _kept(text: str, redaction: Redaction) -> str:
    if redaction == "full":
        return f"[{len(text)} characters withheld]" if text else ""
    return redact(text) if redaction == "redacted" else text
