"""Reading the ledger back: a page of calls, one call with all that belongs to it, sums, and what ended since.

Knows the columns that `loam.gateway.calls` writes; writes nothing. Invariant: every value goes to SQL as a parameter,
and what is read comes from connections that cannot write.
"""

from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from loam.core.errors import refuse
from loam.gateway.bodies import Bodies, Codec, Packed
from loam.gateway.calls import AttemptRow
from loam.gateway.feedback import FeedbackRow, feedback_of
from loam.gateway.redaction import Redaction
from loam.storage.database import Database

State = Literal["open", "done", "failed", "cancelled", "lost"]
_Limit = Annotated[int, Meta(ge=1, le=1000)]
_Time = Annotated[datetime, Meta(tz=True)]


class CallRow(Struct, frozen=True, kw_only=True):
    """A call as it is on record. `seq` rises in the order in which calls ended and is 0 while one is open.

    `user` is whose key it was, `end_user` for whom the client said it asked. Money is in millionths of a dollar, None
    where no price is known; times are in microseconds from the call's beginning.
    """

    seq: int
    id: str
    started_at: datetime
    family: str
    task: str
    stream: bool
    model: str
    key_id: str
    user: str
    end_user: str
    team: str
    tags: dict[str, str]
    redaction: Redaction
    state: State
    answered_model: str
    provider: str
    route: tuple[str, ...]
    cache: str
    attempts: tuple[AttemptRow, ...]
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    usage_estimated: bool
    counted_input: int
    counted_output: int
    cost_micro: int | None
    provider_cost_micro: int | None
    price_version: str
    reserved_micro: int
    ttft_us: int | None
    latency_us: int | None
    finish: str
    failure_kind: str
    failure_status: int | None
    failure_message: str
    warnings: tuple[str, ...]


class CallFilter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which calls; an empty field does not filter. `model` is what was asked or what answered, `failure` a part of the
    failure's kind or message, `before` the id to go on from, towards older calls.
    """

    user: str = ""
    end_user: str = ""
    team: str = ""
    key_id: str = ""
    model: str = ""
    provider: str = ""
    state: Literal["", "open", "done", "failed", "cancelled", "lost"] = ""
    since: _Time | None = None
    until: _Time | None = None
    failure: str = ""
    before: str = ""
    limit: _Limit = 50


class CallPage(Struct, frozen=True):
    """The newest first; `before` is what to ask for next, empty at the end."""

    calls: list[CallRow]
    before: str


class Body(Struct, frozen=True):
    """A kept body: its JSON, or (`kept` is digest) only its `bytes` and `sha256`."""

    kept: Literal["whole", "redacted", "digest"]
    content: Any


class CallRecord(Struct, frozen=True):
    """All that is on record of one call. A body is None where there was none, or retention has taken it."""

    call: CallRow
    request: Body | None
    response: Body | None
    feedback: list[FeedbackRow]


class CallStats(Struct, frozen=True):
    """Sums over the calls of one group. `unpriced` calls are those whose cost is unknown; the cost leaves them out."""

    name: str
    calls: int
    failed: int
    cancelled: int
    cache_hits: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro: int
    unpriced: int
    latency_us_p50: int | None
    latency_us_p95: int | None
    latency_us_p99: int | None
    ttft_us_p50: int | None
    ttft_us_p95: int | None


Grouping = Literal["all", "day", "model", "provider", "user", "end_user", "team", "key_id", "state"]

_COLUMNS = ", ".join(CallRow.__struct_fields__)
_JSON_COLUMNS = ("tags", "route", "attempts", "warnings")

_FILTERS = {
    "user": "user = ?",
    "end_user": "end_user = ?",
    "team": "team = ?",
    "key_id": "key_id = ?",
    "model": "? IN (model, answered_model)",
    "provider": "provider = ?",
    "state": "state = ?",
    "since": "started_at >= ?",
    "until": "started_at < ?",
    "failure": "instr(lower(failure_kind || ' ' || failure_message), lower(?)) > 0",
    "before": "id < ?",
}

_GROUPS: dict[Grouping, str] = {
    "all": "''",
    "day": "date(started_at / 1000000, 'unixepoch')",
    "model": "model",
    "provider": "provider",
    "user": "user",
    "end_user": "end_user",
    "team": "team",
    "key_id": "key_id",
    "state": "state",
}

_STATS = """
WITH chosen AS (
    SELECT {group} AS name, state, cache, input_tokens, output_tokens, cached_tokens, cost_micro, latency_us, ttft_us
    FROM calls WHERE {where}
), ranked AS (
    SELECT *, count(latency_us) OVER named AS latencies, count(ttft_us) OVER named AS firsts,
        row_number() OVER (PARTITION BY name ORDER BY latency_us NULLS LAST) AS latency_rank,
        row_number() OVER (PARTITION BY name ORDER BY ttft_us NULLS LAST) AS first_rank
    FROM chosen WINDOW named AS (PARTITION BY name)
)
SELECT name, count(*), sum(state = 'failed'), sum(state = 'cancelled'), sum(cache IN ('hit', 'shared')),
    sum(input_tokens), sum(output_tokens), sum(cached_tokens), coalesce(sum(cost_micro), 0), sum(cost_micro IS NULL),
    max(CASE WHEN latency_rank = (latencies * 50 + 99) / 100 THEN latency_us END),
    max(CASE WHEN latency_rank = (latencies * 95 + 99) / 100 THEN latency_us END),
    max(CASE WHEN latency_rank = (latencies * 99 + 99) / 100 THEN latency_us END),
    max(CASE WHEN first_rank = (firsts * 50 + 99) / 100 THEN ttft_us END),
    max(CASE WHEN first_rank = (firsts * 95 + 99) / 100 THEN ttft_us END)
FROM ranked GROUP BY name ORDER BY {order}
"""


class CallHistory:
    """Asks the ledger. Each method reads on a thread of its own and holds nothing up."""

    def __init__(self, database: Database, bodies: Bodies) -> None:
        self._database = database
        self._bodies = bodies

    async def page(self, wanted: CallFilter) -> CallPage:
        """The newest calls that `wanted` describes, open ones too."""
        where, values = _where(wanted)
        sql = _select("every_call", where, "id DESC")
        calls = await self._database.read(lambda connection: _rows(connection, sql, [*values, wanted.limit]))
        return CallPage(calls, calls[-1].id if len(calls) == wanted.limit else "")

    async def show(self, call_id: str, *, key_id: str = "") -> CallRecord:
        """One call with its bodies and what people said of it; `key_id` hides the calls of other keys.

        Raises ModelFailure (not_found).
        """
        record = await self._database.read(lambda connection: self._record(connection, call_id))
        if record is None or (key_id and record.call.key_id != key_id):
            raise refuse("not_found", f"no call {call_id!r} is on record; loam calls list shows the latest")
        return record

    async def stats(self, by: Grouping, wanted: CallFilter) -> list[CallStats]:
        """Sums and latencies of settled calls, a row a group: days in order, others the dearest first."""
        where, values = _where(wanted)
        order = "name" if by == "day" else "9 DESC, 2 DESC, name"
        sql = _STATS.format(group=_GROUPS[by], where=where, order=order)
        rows = await self._database.read(lambda connection: connection.execute(sql, values).fetchall())
        return [CallStats(*row) for row in rows]

    async def tail(self, after: int | None = None, *, limit: int = 100) -> list[CallRow]:
        """The calls that ended after the one with `seq` `after`, oldest first; without it, the last ones."""
        if after is None:
            sql, values = _select("calls", "1", "seq DESC"), [limit]
            return (await self._database.read(lambda connection: _rows(connection, sql, values)))[::-1]
        sql, values = _select("calls", "seq > ?", "seq"), [after, limit]
        return await self._database.read(lambda connection: _rows(connection, sql, values))

    def _record(self, connection: Connection, call_id: str) -> CallRecord | None:
        found = _rows(connection, _select("every_call", "id = ?", "id"), [call_id, 1])
        if not found:
            return None
        call = found[0]
        columns = connection.execute(
            "SELECT request_codec, request, response_codec, response FROM bodies WHERE call = ?1 UNION ALL "
            "SELECT request_codec, request, NULL, NULL FROM open_calls WHERE id = ?2",
            (call.seq, call_id),
        ).fetchone() or (None, None, None, None)
        request, response = self._body(call, *columns[:2]), self._body(call, *columns[2:])
        return CallRecord(call, request, response, feedback_of(connection, call_id))

    def _body(self, call: CallRow, codec: Codec | None, data: bytes | None) -> Body | None:
        if codec is None or data is None:
            return None
        body = self._bodies.unpack(Packed(codec, data))
        kept = "digest" if codec == "digest" else "redacted" if call.redaction == "redacted" else "whole"
        return Body(kept, _content(body))


def _where(wanted: CallFilter) -> tuple[str, list[Any]]:
    given = [(sql, getattr(wanted, name)) for name, sql in _FILTERS.items() if getattr(wanted, name)]
    values = [round(value.timestamp() * 1_000_000) if isinstance(value, datetime) else value for _, value in given]
    return " AND ".join(["1", *(sql for sql, _ in given)]), values


def _select(table: str, where: str, order: str) -> str:
    return " ".join(("SELECT", _COLUMNS, "FROM", table, "WHERE", where, "ORDER BY", order, "LIMIT ?"))


def _rows(connection: Connection, sql: str, values: list[Any]) -> list[CallRow]:
    return [_row(row) for row in connection.execute(sql, values)]


def _row(values: tuple[Any, ...]) -> CallRow:
    row = dict(zip(CallRow.__struct_fields__, values, strict=True))
    row["started_at"] = datetime.fromtimestamp(row["started_at"] / 1_000_000, UTC)
    for name in _JSON_COLUMNS:
        row[name] = msgspec.json.decode(row[name])
    return msgspec.convert(row, CallRow, strict=False)


def _content(body: bytes) -> Any:
    """The JSON of a body, or its text where a client sent something else."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
