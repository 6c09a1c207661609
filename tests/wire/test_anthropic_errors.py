import json
from email.utils import formatdate
from typing import Any, get_args

import httpx2
import pytest
from anthropic import Anthropic, APIStatusError
from anthropic.types.shared.error_type import ErrorType
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import STATUS, Failure, Kind
from loam.wire.anthropic_errors import decode_error, encode_error, event_failure
from loam.wire.pauses import retry_after


def decode(status: int, body: Any, **headers: str) -> Failure:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode_error(status, said, body=data, provider="claude", now=1000.0).failure


def words(kind: str, message: str = "No.", code: str | None = None) -> dict[str, Any]:
    details = {} if code is None else {"details": {"error_code": code}}
    return {"type": "error", "error": {"type": kind, "message": message, **details}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, words("invalid_request_error"), "bad_request"),
        (400, words("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), "context_window"),
        (400, words("invalid_request_error", "Your credit balance is too low to access the API."), "quota"),
        (401, words("authentication_error"), "authentication"),
        (402, words("billing_error"), "quota"),
        (403, words("permission_error"), "permission"),
        (404, words("not_found_error"), "not_found"),
        (409, words("conflict_error"), "conflict"),
        (413, words("request_too_large"), "too_large"),
        (429, words("rate_limit_error"), "rate_limit"),
        (429, words("rate_limit_error", code="enforced_spend_limit_reached"), "quota"),
        (500, words("api_error"), "server"),
        (504, words("timeout_error"), "timeout"),
        (529, words("overloaded_error"), "overloaded"),
        (529, words("later_error"), "overloaded"),
        (503, b"<html>Bad gateway</html>", "overloaded"),
        (500, b"", "server"),
        (418, b'{"error": "a teapot"}', "bad_request"),
        (502, b"[" * 100_000, "server"),
    ],
)
def test_the_kind_of_an_error_response(status: int, body: Any, kind: Kind) -> None:
    failure = decode(status, body)
    assert (failure.kind, failure.status, failure.provider) == (kind, status, "claude")
    assert failure.http_status == status
    assert len(failure.message) < 600


def test_the_message_is_the_providers_own() -> None:
    assert decode(400, words("invalid_request_error", "max_tokens: too low")).message == "claude: max_tokens: too low"
    assert decode(503, b"<html>Bad gateway").message == "claude: status 503 with this body: <html>Bad gateway"
    assert decode(503, b"").message == "claude: status 503 with an empty body"


def test_a_key_in_the_message_is_taken_out() -> None:
    for body in (words("authentication_error", "bad key sk-ant-api03-abc_def."), b"bad key sk-ant-api03-abc_def."):
        assert decode(401, body).message.endswith("bad key [key removed].")
    said = json.dumps(words("api_error", "sk-ant-api03-abc")).encode()
    assert event_failure(said, "claude").failure.message == "claude: [key removed]"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(1030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(900, usegmt=True)}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_pause_that_is_asked_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 1000.0) == seconds


@given(st.text(max_size=40))
def test_a_header_of_any_text_is_a_pause_or_none(text: str) -> None:
    pause = retry_after({"retry-after": text, "retry-after-ms": text}, 1000.0)
    assert pause is None or 0 <= pause < float("inf")


def test_the_providers_word_on_repeating_outranks_the_kind() -> None:
    assert decode(500, words("api_error"), x_should_retry="false").retryable is False
    assert decode(400, words("invalid_request_error"), x_should_retry="true").retryable is True
    assert decode(500, words("api_error"), x_should_retry="perhaps").retryable is True


@given(st.integers(400, 599), st.binary(max_size=60))
def test_a_body_of_any_bytes_is_a_verdict(status: int, body: bytes) -> None:
    assert decode(status, body).status == status


def test_an_error_in_a_stream_has_its_own_kind() -> None:
    failure = event_failure(json.dumps(words("overloaded_error", "Overloaded")).encode(), "claude").failure
    assert (failure.kind, failure.http_status, failure.message) == ("overloaded", 529, "claude: Overloaded")
    assert failure.retryable
    assert event_failure(b"gone", "claude").failure.kind == "server"


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_sdk_understands_every_failure(kind: Kind) -> None:
    failure = Failure(kind=kind, message="No, because.", code="why")
    body = json.loads(encode_error(failure, "call_1"))
    assert body["error"]["type"] in (*get_args(ErrorType), "request_too_large")
    client = Anthropic(api_key="x", base_url="http://127.0.0.1:1")
    response = httpx2.Response(STATUS[kind], request=httpx2.Request("POST", "http://127.0.0.1:1"), json=body)
    error = client._make_status_error_from_response(response)
    assert isinstance(error, APIStatusError)
    assert (error.api_message, error.error_code) == ("No, because.", "why")
    assert body["request_id"] == "call_1"


@pytest.mark.parametrize("kind", ["rate_limit_error", "overloaded_error", "billing_error", "request_too_large"])
def test_a_providers_error_reaches_the_client_with_its_type(kind: str) -> None:
    failure = decode(499, words(kind, code="some_code"))
    assert json.loads(encode_error(failure, "c"))["error"] == {
        "type": kind,
        "message": "claude: No.",
        "details": {"error_code": "some_code"},
    }


def test_a_type_of_another_family_is_not_repeated() -> None:
    failure = Failure(kind="bad_request", message="No.", type="tokens_exceeded")
    assert json.loads(encode_error(failure, "c"))["error"]["type"] == "invalid_request_error"
