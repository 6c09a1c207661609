"""Conversations that a client refers back to by `previous_response_id`.

Invariant: a conversation is found only by the key that made it, and is stored before its answer's last byte is sent.
"""

import sqlite3

import msgspec

from loam.core.calls import Answer, Call
from loam.core.clock import Clock
from loam.core.errors import refuse
from loam.core.messages import Message
from loam.storage.database import Database
from loam.storage.migrations import Migration
from loam.wire.openai_responses_requests import continue_from, conversation_after

MIGRATIONS = (
    Migration(
        "conversations-001",
        """
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY, key_id TEXT NOT NULL, created_at INTEGER NOT NULL, messages BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX conversations_by_age ON conversations (created_at);
        """,
    ),
)
_decoder = msgspec.msgpack.Decoder(tuple[Message, ...])
_encoder = msgspec.msgpack.Encoder()


class Conversations:
    """Loads what came before a call, and keeps what it came to."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def recall(self, call: Call) -> Call:
        """The call with the earlier messages put first. Raises ModelFailure (not_found) for an unknown id."""
        previous = call.extra.get("previous_response_id")
        if previous is None:
            return call
        key = call.principal.key_id

        def find(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT messages FROM conversations WHERE id = ? AND key_id = ?"
            row = connection.execute(query, (previous, key)).fetchone()
            return None if row is None else row[0]

        found = await self._database.read(find)
        if found is None:
            raise refuse(
                "not_found",
                f"there is no stored response {previous!r} of this key; it was never stored, or is past retention",
                param="previous_response_id",
            )
        return continue_from(call, _decoder.decode(found))

    async def keep(self, call: Call, answer: Answer) -> None:
        """Stores the conversation with the answer added, unless the client said `store: false`."""
        if call.extra.get("store") is False:
            return
        messages = _encoder.encode(conversation_after(call, answer))
        row = (f"resp_{call.id}", call.principal.key_id, int(self._clock.now()), messages)
        statement = "INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)"
        await self._database.write(lambda connection: connection.execute(statement, row))
