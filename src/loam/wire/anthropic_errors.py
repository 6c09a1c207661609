"""Anthropic's errors: a Failure as a body that its SDKs understand, and a provider's error as a Failure.

Knows the error types and the headers that come with them. Invariants: decoding never raises, whatever body was sent,
and keeps the upstream's own status; no text that it passes on holds a key.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from loam.core.errors import Failure, Kind, ModelFailure, kind_of_status
from loam.wire.pauses import retry_after

_KIND: dict[str, Kind] = {
    "invalid_request_error": "bad_request",
    "authentication_error": "authentication",
    "billing_error": "quota",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "conflict_error": "conflict",
    "rate_limit_error": "rate_limit",
    "timeout_error": "timeout",
    "api_error": "server",
    "overloaded_error": "overloaded",
}
_TYPE: dict[Kind, str] = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "conflict": "conflict_error",
    "too_large": "request_too_large",
    "quota": "billing_error",
    "budget": "billing_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "server": "api_error",
    "connection": "api_error",
    "truncated": "api_error",
    "malformed": "api_error",
    "unavailable": "api_error",
    "internal": "api_error",
}
_TOO_LONG = ("prompt is too long", "exceed context limit", "context window")
_SHOULD_RETRY = {"true": True, "false": False}
_SECRET = re.compile(r"\bsk-[\w-]{6,}")
_LONGEST = 500  # characters of an upstream's text that are worth repeating


class _Details(Struct):
    error_code: str | None = None


class _Said(Struct):
    type: str = ""
    message: str = ""
    details: _Details | None = None


class _Body(Struct):
    error: _Said


_body = Decoder(_Body)


def encode_error(failure: Failure, call_id: str) -> bytes:
    """The body of an error response, and the data of an `error` event."""
    kind = failure.type if failure.type in _KIND else _TYPE.get(failure.kind, "invalid_request_error")
    error: dict[str, Any] = {"type": kind, "message": failure.message}
    if failure.code or failure.details:
        error["details"] = {"error_code": failure.code, **(failure.details or {})}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": call_id})


def decode_error(status: int, headers: Mapping[str, str], *, body: bytes, provider: str, now: float) -> ModelFailure:
    """The verdict on an error response; `now` is the wall time, for a date in `retry-after`."""
    said = _read(body)
    if not said.message:
        text = body[:_LONGEST].decode("utf-8", "replace").strip()
        said.message = f"status {status} with " + (f"this body: {text}" if text else "an empty body")
    return ModelFailure(
        Failure(
            kind=_kind(said) or kind_of_status(status),
            message=f"{provider}: {_SECRET.sub('[key removed]', said.message)}",
            status=status,
            provider=provider,
            retry_after=retry_after(headers, now),
            should_retry=_SHOULD_RETRY.get(headers.get("x-should-retry", "")),
            code=_code(said),
            type=said.type,
        )
    )


def event_failure(data: bytes, provider: str) -> ModelFailure:
    """The verdict on an error that came inside a stream, or in place of a whole answer."""
    said = _read(data)
    message = _SECRET.sub("[key removed]", said.message) or "an error without a message"
    kind = _kind(said) or "server"
    return ModelFailure(
        Failure(kind=kind, message=f"{provider}: {message}", provider=provider, code=_code(said), type=said.type)
    )


def _read(body: bytes) -> _Said:
    try:
        return _body.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Said()


def _code(said: _Said) -> str:
    return (said.details and said.details.error_code) or ""


def _kind(said: _Said) -> Kind | None:
    """One type stands for every bad request: only its text tells a full context window or an empty purse."""
    if _code(said).endswith("spend_limit_reached"):
        return "quota"
    kind = _KIND.get(said.type)
    if kind == "bad_request":
        text = said.message.lower()
        if any(phrase in text for phrase in _TOO_LONG):
            return "context_window"
        if "credit balance" in text:
            return "quota"
    return kind
