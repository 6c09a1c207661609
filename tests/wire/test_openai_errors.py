"""Error bodies of many servers to verdicts, and verdicts to what OpenAI's clients read."""

import json
from email.utils import formatdate
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import Failure, Kind, fail, refuse
from loam.wire.openai_errors import decode_error, encode_error, error_inside

NOW = 1_700_000_000.0


def decode(status: int, body: Any, **headers: str) -> Failure:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode_error(status, names, body=data, provider="vendor", now=NOW).failure


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_an_openai_error(kind: Kind) -> None:
    error = json.loads(encode_error(fail(kind, "vendor", "What happened").failure, "call_1"))["error"]
    assert error["message"] == "What happened"
    assert error["call_id"] == "call_1"
    assert error["param"] is None
    assert error["type"] in (
        "invalid_request_error", "authentication_error", "permission_error", "insufficient_quota", "rate_limit_error",
        "server_error",
    )  # fmt: skip


def test_code_and_param_are_kept() -> None:
    failure = refuse("context_window", "Too long", param="messages", code="mine").failure
    assert json.loads(encode_error(failure, ""))["error"] == {
        "message": "Too long", "type": "invalid_request_error", "param": "messages", "code": "mine",
    }  # fmt: skip
    assert json.loads(encode_error(fail("quota", "v", "Empty").failure, ""))["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"), (401, "authentication"), (402, "quota"), (403, "permission"), (404, "not_found"),
        (408, "timeout"), (409, "conflict"), (413, "too_large"), (422, "bad_request"), (429, "rate_limit"),
        (498, "overloaded"), (500, "server"), (502, "server"), (503, "overloaded"), (504, "timeout"),
        (529, "overloaded"),
    ],
)  # fmt: skip
def test_the_status_says_the_kind(status: int, kind: Kind) -> None:
    failure = decode(status, {"error": {"message": "M", "type": "t", "param": "p", "code": "c"}})
    assert failure == Failure(kind=kind, message="M", status=status, provider="vendor", code="c", param="p", type="t")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", "context_window"),
        (413, "context_length_exceeded", "context_window"),
        (429, "insufficient_quota", "quota"),
        (400, "content_filter", "content_filter"),
        (400, "content_policy_violation", "content_filter"),
        (400, "model_not_found", "not_found"),
        (429, "rate_limit_exceeded", "rate_limit"),
        (413, "rate_limit_exceeded", "too_large"),
    ],
)
def test_a_finer_word_outranks_the_status(status: int, code: str, kind: Kind) -> None:
    assert decode(status, {"error": {"message": "M", "code": code}}).kind == kind
    assert decode(status, {"error": {"message": "M", "type": code, "code": None}}).kind == kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "M"}}, "M"),
        ({"error": "M"}, "M"),
        ({"message": "M", "type": "x"}, "M"),
        ([{"error": {"code": 400, "message": "M", "status": "INVALID_ARGUMENT"}}], "M"),
        ({"detail": "M"}, "M"),
        ({"detail": [{"loc": ["body", "messages", 0], "msg": "M", "type": "missing"}]}, "body.messages.0: M"),
        ({"object": "error", "message": "M", "code": 40303}, "M"),
        ({"error": {"message": "M", "metadata": {"raw": "inner", "provider_name": "p"}}}, "M: inner"),
        ({"error": {"message": "M", "metadata": {"raw": {"a": 1}}}}, 'M: {"a":1}'),
        ({"error": {"message": {"a": 1}}}, '{"a":1}'),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", "the provider gave no reason (status 502)"),
        (b"[" * 5000, ("[" * 2000)),
        ({}, "the provider gave no reason (status 502)"),
        ([], "the provider gave no reason (status 502)"),
        (7, "the provider gave no reason (status 502)"),
        (
            {"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}},
            "the provider gave no reason (status 502)",
        ),
    ],
)
def test_the_message_of_many_shapes(body: Any, message: str) -> None:
    assert decode(502, body).message == message


def test_a_message_is_bounded_and_holds_no_key() -> None:
    assert len(decode(500, {"error": {"message": "x" * 9000}}).message) == 2000
    for secret in ("sk-proj-abcdef123456", "gsk_abcdef123456", "Bearer abc.def-123456"):
        failure = decode(401, {"error": {"message": f"Incorrect key: {secret}, see the docs"}})
        assert failure.message == "Incorrect key: [key removed], see the docs"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9.0),
        ({"retry_after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry_after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
    ],
)
def test_when_to_try_again(headers: dict[str, str], seconds: float | None) -> None:
    assert decode(429, {}, **headers).retry_after == seconds


@pytest.mark.parametrize(("header", "verdict"), [("true", True), ("false", False), ("maybe", None)])
def test_whether_to_try_again(header: str, verdict: bool | None) -> None:
    assert decode(500, {}, x_should_retry=header).should_retry is verdict


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "M", "code": 503}, "overloaded", 503),
        ({"message": "M", "code": 200}, "server", None),
        ({"message": "M", "code": "rate_limit_exceeded"}, "rate_limit", None),
        ({"message": "M", "type": "invalid_request_error"}, "bad_request", None),
        ({"message": "M", "type": "overloaded_error"}, "overloaded", None),
        ("M", "server", None),
    ],
)
def test_an_error_inside_a_good_response(error: Any, kind: Kind, status: int | None) -> None:
    failure = error_inside(error, "vendor").failure
    assert (failure.kind, failure.status, failure.message) == (kind, status, "M")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "code", "type", "loc", "metadata", "raw", "param"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    status=st.integers(400, 599),
    body=anything | st.binary(),
    headers=st.dictionaries(st.sampled_from(["retry_after", "retry_after_ms"]), st.text()),
)
def test_any_body_is_a_verdict(status: int, body: Any, headers: dict[str, str]) -> None:
    failure = decode(status, body, **headers)
    assert failure.status == status
    assert 0 < len(failure.message) <= 2000
    assert json.loads(encode_error(failure, "call_1"))["error"]["message"] == failure.message
