"""The ledger's tables and how a call gets into them: open when it begins, settled when it ends.

Knows the SQL of writing; reading back is `loam.gateway.history`. Invariants: `calls` and `bodies` only grow at the end
and are never changed, `open_calls` holds exactly the calls that have no outcome yet; so a call is in one of the two,
and a process that dies leaves its unanswered calls where the next one finds them.
"""

import asyncio
from functools import partial
from sqlite3 import Connection
from typing import Any, Literal

import msgspec
from msgspec import Struct

from loam.core.answers import Collector
from loam.core.calls import Answer, Call, Usage
from loam.core.errors import Failure
from loam.core.trace import Attempt, Trace
from loam.gateway.bodies import Bodies, Packed, as_json
from loam.gateway.redaction import Redaction, redact_message
from loam.storage.database import Database
from loam.storage.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "calls-001",
        """
CREATE TABLE calls (
    seq INTEGER PRIMARY KEY, -- rises in the order in which calls ended
    id TEXT NOT NULL UNIQUE,
    started_at INTEGER NOT NULL, -- microseconds since 1970 UTC
    family TEXT NOT NULL,
    task TEXT NOT NULL,
    stream INTEGER NOT NULL,
    model TEXT NOT NULL, -- as the client asked
    key_id TEXT NOT NULL,
    user TEXT NOT NULL, -- whose key it was
    end_user TEXT NOT NULL, -- for whom, as the client said
    team TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON object
    redaction TEXT NOT NULL,
    state TEXT NOT NULL, -- done, failed, cancelled, lost
    answered_model TEXT NOT NULL DEFAULT '',
    provider TEXT NOT NULL DEFAULT '',
    route TEXT NOT NULL DEFAULT '[]', -- JSON list
    cache TEXT NOT NULL DEFAULT '',
    attempts TEXT NOT NULL DEFAULT '[]', -- JSON list, see the view call_attempts
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    usage_estimated INTEGER NOT NULL DEFAULT 0,
    counted_input INTEGER NOT NULL DEFAULT 0, -- Loam's own count beside the provider's
    counted_output INTEGER NOT NULL DEFAULT 0,
    cost_micro INTEGER, -- millionths of a dollar; NULL: no price is known
    provider_cost_micro INTEGER,
    price_version TEXT NOT NULL DEFAULT '',
    reserved_micro INTEGER NOT NULL DEFAULT 0,
    ttft_us INTEGER, -- from the call's beginning to its first content
    latency_us INTEGER,
    finish TEXT NOT NULL DEFAULT '',
    failure_kind TEXT NOT NULL DEFAULT '',
    failure_status INTEGER,
    failure_message TEXT NOT NULL DEFAULT '',
    warnings TEXT NOT NULL DEFAULT '[]' -- JSON list
);
CREATE INDEX calls_by_time ON calls (started_at);
CREATE INDEX calls_by_key ON calls (key_id, id);
CREATE TABLE bodies (
    call INTEGER PRIMARY KEY, -- calls.seq
    request_codec TEXT,
    request BLOB,
    response_codec TEXT,
    response BLOB
);
CREATE TABLE open_calls (
    id TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL,
    family TEXT NOT NULL,
    task TEXT NOT NULL,
    stream INTEGER NOT NULL,
    model TEXT NOT NULL,
    key_id TEXT NOT NULL,
    user TEXT NOT NULL,
    end_user TEXT NOT NULL,
    team TEXT NOT NULL,
    tags TEXT NOT NULL,
    redaction TEXT NOT NULL,
    request_codec TEXT,
    request BLOB
) WITHOUT ROWID;
CREATE VIEW every_call AS
    SELECT * FROM calls UNION ALL
    SELECT 0, id, started_at, family, task, stream, model, key_id, user, end_user, team, tags, redaction, 'open',
        '', '', '[]', '', '[]', 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, '', 0, NULL, NULL, '', '', NULL, '', '[]'
    FROM open_calls;
CREATE VIEW call_attempts AS
    SELECT calls.id AS call_id, json_extract(value, '$.number') AS number,
        json_extract(value, '$.provider') AS provider, json_extract(value, '$.model') AS model,
        started_at + json_extract(value, '$.started_us') AS started_at,
        coalesce(json_extract(value, '$.waited_us'), 0) AS waited_us, json_extract(value, '$.ttft_us') AS ttft_us,
        json_extract(value, '$.latency_us') AS latency_us, json_extract(value, '$.outcome') AS outcome,
        json_extract(value, '$.status') AS status, coalesce(json_extract(value, '$.failure'), '') AS failure,
        coalesce(json_extract(value, '$.message'), '') AS message,
        coalesce(json_extract(value, '$.upstream_id'), '') AS upstream_id,
        coalesce(json_extract(value, '$.input_tokens'), 0) AS input_tokens,
        coalesce(json_extract(value, '$.output_tokens'), 0) AS output_tokens,
        json_extract(value, '$.cost_micro') AS cost_micro
    FROM calls, json_each(calls.attempts);
""",
    ),
)

_INTENT = "id, started_at, family, task, stream, model, key_id, user, end_user, team, tags, redaction"
_OUTCOME = (
    "state, answered_model, provider, route, cache, attempts, input_tokens, output_tokens, cached_tokens, "
    "cache_write_tokens, reasoning_tokens, usage_estimated, counted_input, counted_output, cost_micro, "
    "provider_cost_micro, price_version, reserved_micro, ttft_us, latency_us, finish, failure_kind, failure_status, "
    "failure_message, warnings"
)
_LARGE = 32 * 1024  # bytes; to pack more than this takes long enough to be felt by the streams beside it


def _insert(table: str, columns: str) -> str:
    marks = ", ".join("?" for _ in columns.split(","))
    return " ".join(("INSERT INTO", table, "(", columns, ") VALUES (", marks, ")"))


_OPEN = _insert("open_calls", f"{_INTENT}, request_codec, request")
_SETTLE = _insert("calls", f"{_INTENT}, {_OUTCOME}")
_KEEP = _insert("bodies", "call, request_codec, request, response_codec, response")
_CLOSE = "DELETE FROM open_calls WHERE id = ?"
_LOSE = (
    " ".join(("INSERT INTO calls (", _INTENT, ", state) SELECT", _INTENT, ", 'lost' FROM open_calls ORDER BY id")),
    "INSERT INTO bodies SELECT seq, request_codec, request, NULL, NULL FROM open_calls JOIN calls USING (id)",
    "DELETE FROM open_calls",
)


class AttemptRow(Struct, frozen=True, omit_defaults=True):
    """One request to a provider; `started_us` counts from the beginning of its call."""

    number: int
    provider: str
    model: str
    started_us: int
    outcome: Literal["open", "done", "failed", "cancelled"]
    waited_us: int = 0
    ttft_us: int | None = None
    latency_us: int | None = None
    status: int | None = None
    failure: str = ""
    message: str = ""
    upstream_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro: int | None = None


class Entry(Struct):
    """A call on its way into the ledger; it began `at` by the wall clock, at `began` by the monotonic one."""

    call: Call
    at: float
    began: float
    redaction: Redaction
    request: Packed | None = None
    intent: tuple[str | int, ...] = ()


class Ending(Struct, frozen=True):
    """How a call ended, as far as the road saw it; times on the clock's monotonic scale."""

    state: Literal["done", "failed", "cancelled"]
    ended: float
    first_content: float | None
    said: Collector
    failure: Failure | None = None


class CallLog:
    """Writes calls down. What takes long (redaction, bodies of size) happens on the database's thread."""

    def __init__(self, database: Database, bodies: Bodies) -> None:
        self._database = database
        self._bodies = bodies

    def open(self, entry: Entry) -> "asyncio.Future[None]":
        """Queues the intent; the future is done when it is durable."""
        return self._database.submit(partial(self._open, entry), large=_is_large(entry))

    def settle(self, entry: Entry, ending: Ending) -> "asyncio.Future[None]":
        """Queues the outcome, which needs no intent to stand; the future is done when it is durable."""
        large = _is_large(entry) or ending.said.text_length > _LARGE
        return self._database.submit(partial(self._settle, entry, ending), large=large)

    async def mark_lost(self) -> int:
        """Settles the calls that a dead process left open as `lost`, and returns how many; to be done at the start."""

        def lose(connection: Connection) -> int:
            found = 0
            for statement in _LOSE:
                found = connection.execute(statement).rowcount
            return found

        return await self._database.write(lose)

    def _open(self, entry: Entry, connection: Connection) -> None:
        request = self._request(entry)
        connection.execute(_OPEN, (*_intent(entry), request.codec, request.data))

    def _settle(self, entry: Entry, ending: Ending, connection: Connection) -> None:
        answer = ending.said.answer()
        seq = connection.execute(_SETTLE, _intent(entry) + _outcome(entry, ending, answer)).lastrowid
        request = self._request(entry)
        response = self._response(entry, answer)
        said = (response.codec, response.data) if response else (None, None)
        connection.execute(_KEEP, (seq, request.codec, request.data, *said))
        connection.execute(_CLOSE, (entry.call.id,))

    def _request(self, entry: Entry) -> Packed:
        if entry.request is None:
            entry.request = self._bodies.pack(entry.call.body or _asked(entry.call), entry.redaction)
        return entry.request

    def _response(self, entry: Entry, answer: Answer) -> Packed | None:
        """What was said; vectors are not kept, because they are large and can be made again."""
        if not answer.choices or entry.call.task == "embed":
            return None
        return self._bodies.pack(as_json(answer), entry.redaction)


def _is_large(entry: Entry) -> bool:
    return entry.redaction == "redacted" or len(entry.call.body) > _LARGE


def _intent(entry: Entry) -> tuple[str | int, ...]:
    """The values of `_INTENT`; the same when the call ends as when it began."""
    if not entry.intent:
        call = entry.call
        who, said = call.principal, call.controls
        entry.intent = (
            *(call.id, int(entry.at * 1_000_000), call.family, call.task, call.stream, call.model),
            *(who.key_id, who.user, said.user, who.team, _json(said.tags) if said.tags else "{}", entry.redaction),
        )
    return entry.intent


def _outcome(entry: Entry, ending: Ending, answer: Answer) -> tuple[Any, ...]:
    """The values of `_OUTCOME`."""
    trace, failure = entry.call.trace, ending.failure
    usage = _usage(ending, trace)
    last = trace.attempts[-1] if trace.attempts else None
    spent = 0 if last is None else None  # a call that was sent nowhere cost nothing, whatever its price
    first = None if ending.first_content is None else _micros(ending.first_content - entry.began)
    return (
        ending.state,
        trace.model or (last.model if last else ""),
        last.provider if last else "",
        _json(trace.route) if trace.route else "[]",
        trace.cache,
        _json([_attempt(attempt, entry) for attempt in trace.attempts]) if last else "[]",
        *(usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning),
        usage.estimated,
        trace.counted_input,
        trace.counted_output,
        spent if trace.cost is None else trace.cost,
        usage.provider_cost,
        trace.price_version,
        trace.reserved,
        first,
        _micros(ending.ended - entry.began),
        (answer.choices[0].finish or "") if answer.choices else "",
        failure.kind if failure else "",
        failure.status if failure else None,
        _kept_message(failure.message, entry) if failure else "",
        _json(trace.warnings) if trace.warnings else "[]",
    )


def _usage(ending: Ending, trace: Trace) -> Usage:
    """What the answer says it used, or else what Loam counted of what was really said."""
    if ending.said.usage is not None:
        return ending.said.usage
    said = trace.counted_output or -(-ending.said.text_length // 4)
    if ending.state == "failed" and not said:
        return Usage()
    return Usage(input=trace.counted_input, output=said, estimated=True)


def _attempt(attempt: Attempt, entry: Entry) -> AttemptRow:
    return AttemptRow(
        attempt.number,
        attempt.provider,
        attempt.model,
        _micros(attempt.started - entry.began),
        attempt.outcome,
        _micros(attempt.waited),
        None if attempt.first_token is None else _micros(attempt.first_token - attempt.started),
        None if attempt.ended is None else _micros(attempt.ended - attempt.started),
        attempt.status,
        attempt.failure,
        _kept_message(attempt.message, entry) if attempt.message else "",
        attempt.upstream_id,
        attempt.input_tokens,
        attempt.output_tokens,
        attempt.cost,
    )


def _kept_message(message: str, entry: Entry) -> str:
    return redact_message(message, entry.redaction).encode("utf-8", "replace").decode()


def _asked(call: Call) -> bytes:
    """The request of a call that came from Python, so without a body."""
    return as_json({"model": call.model, "messages": call.messages, "inputs": call.inputs})


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
