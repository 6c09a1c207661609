"""OpenAI's error bodies: a verdict to the body a client sees, and a provider's error response to a verdict.

Knows the many shapes in which OpenAI-compatible servers say that something is wrong. Does not decide what happens next.
Invariant: the kind comes from the status and from typed code words, never from the text; no text is longer than
`_LONGEST` characters or holds a key.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from loam.core.errors import Failure, Kind, ModelFailure, kind_of_status
from loam.wire.pauses import retry_after

_LONGEST = 2000
_SECRET = re.compile(r"\b(?:sk|gsk|rk|xai|tgp)[-_][\w*.-]{6,}|\bbearer\s+[\w*.~+/=-]{6,}", re.IGNORECASE)

_CLIENT_TYPES: dict[Kind, str] = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "quota": "insufficient_quota",
    "budget": "insufficient_quota",
    "rate_limit": "rate_limit_error",
    "overloaded": "server_error",
    "server": "server_error",
    "timeout": "server_error",
    "connection": "server_error",
    "truncated": "server_error",
    "malformed": "server_error",
    "unavailable": "server_error",
    "internal": "server_error",
}
"""What the client reads as `type`; every other kind is an `invalid_request_error`."""

_CLIENT_CODES: dict[Kind, str] = {
    "authentication": "invalid_api_key",
    "not_found": "model_not_found",
    "context_window": "context_length_exceeded",
    "content_filter": "content_filter",
    "quota": "insufficient_quota",
    "budget": "budget_exceeded",
    "rate_limit": "rate_limit_exceeded",
    "unsupported": "unsupported",
}
"""What the client reads as `code` where the failure has none of its own."""

_FINER: dict[str, Kind] = {
    "context_length_exceeded": "context_window",
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "insufficient_balance": "quota",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "model_not_found": "not_found",
}
"""Words that say more than the status beside them."""

_WORDS: dict[str, Kind] = {
    "invalid_request_error": "bad_request",
    "authentication_error": "authentication",
    "invalid_api_key": "authentication",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "service_unavailable": "overloaded",
    "timeout": "timeout",
    "timeout_error": "timeout",
}
"""Words that stand for a status where there is none: an error inside a 200 body or a stream."""


def encode_error(failure: Failure, call_id: str) -> bytes:
    """The body of an error response, or the data of a stream's error event."""
    kind = failure.kind
    error: dict[str, Any] = {
        "message": failure.message,
        "type": _CLIENT_TYPES.get(kind, "invalid_request_error"),
        "param": failure.param or None,
        "code": failure.code or _CLIENT_CODES.get(kind),
    }
    if failure.details:
        error["details"] = failure.details
    if call_id:
        error["call_id"] = call_id
    return msgspec.json.encode({"error": error})


def decode_error(status: int, headers: Mapping[str, str], *, body: bytes, provider: str, now: float) -> ModelFailure:
    """What a provider's error response means. `headers` have lower-case names; `now` is wall time for Retry-After."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = body[: 4 * _LONGEST].decode("utf-8", "replace").strip()
    told = headers.get("x-should-retry")
    return _failure(
        _problem(value),
        provider,
        status=status,
        retry_after=retry_after(headers, now),
        should_retry=None if told not in ("true", "false") else told == "true",
    )


def error_inside(value: Any, provider: str) -> ModelFailure:
    """What an error inside a successful response means; its `code` may be an HTTP status."""
    problem = _problem(value)
    code = _word(problem.get("code"))
    number = int(code) if len(code) == 3 and code.isdecimal() else 0
    return _failure(problem, provider, status=number if 400 <= number < 600 else None)


def _failure(
    problem: dict[str, Any],
    provider: str,
    *,
    status: int | None,
    retry_after: float | None = None,
    should_retry: bool | None = None,
) -> ModelFailure:
    code, type_ = _word(problem.get("code")), _word(problem.get("type"))
    kind = _FINER.get(code) or _FINER.get(type_)
    if kind is None:
        named = _WORDS.get(code) or _WORDS.get(type_) or "server"
        kind = named if status is None else kind_of_status(status)
    message = _message(problem) or f"the provider gave no reason (status {status})"
    failure = Failure(
        kind=kind,
        message=_SECRET.sub("[key removed]", message)[:_LONGEST],
        status=status,
        provider=provider,
        retry_after=retry_after,
        should_retry=should_retry,
        code=code,
        param=_word(problem.get("param")),
        type=type_,
    )
    return ModelFailure(failure)


def _problem(value: Any) -> dict[str, Any]:
    """The object that holds the message: under `error` or `detail`, in a list, or the body itself."""
    for _ in range(5):
        if isinstance(value, list):
            value = cast("list[Any]", value)[0] if value else None
        if not isinstance(value, dict):
            break
        fields = cast("dict[str, Any]", value)
        inner = fields.get("error") or fields.get("errors") or fields.get("detail")
        if not inner:
            return fields
        value = inner
    return {"message": value} if isinstance(value, str) else {}


def _message(problem: dict[str, Any]) -> str:
    """The text, with the field that it is about and the words of a provider behind the provider."""
    message = problem.get("message") or problem.get("msg")
    text = message if isinstance(message, str) else _json(message)
    place = problem.get("loc")
    if isinstance(place, list):
        text = f"{'.'.join(map(str, cast('list[Any]', place)))}: {text}"
    metadata = problem.get("metadata")
    raw = cast("dict[str, Any]", metadata).get("raw") if isinstance(metadata, dict) else None
    return f"{text}: {raw if isinstance(raw, str) else _json(raw)}" if raw else text


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode() if value else ""


def _word(value: Any) -> str:
    return str(value)[:200] if isinstance(value, (str, int)) else ""
