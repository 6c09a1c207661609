"""The table of faults that `loam.providers.faulty` can play, each chosen by the model's name.

Data only. Invariant: every fault is one row; how a row is played is written once, by its `play`.
"""

from typing import Any, Literal

from msgspec import Struct

Play = Literal["answer", "refuse", "raw", "close", "cut", "hang", "stall", "error", "garble", "end"]
"""answer: as asked. refuse: an error status. raw: `body` with status 200. close: closes before it answers. cut: closes
in the middle. hang: never answers. stall: goes silent in the middle. error: an error inside a 200. garble: an event
that is no JSON. end: ends a stream without saying so."""

Twist = Literal[
    "", "bytes", "comments", "crlf", "filtered", "no-done", "no-usage", "thinking", "tools", "vision", "whole"
]


class Fault(Struct, frozen=True, kw_only=True):
    """What happens to a call whose model has this name; `once`: only to the first with that name, then all is well.

    `after` is how much of a stream comes before: -1 nothing, 0 its opening, above that so many pieces of text; a fault
    that only streams have leaves whole answers alone (`streams`). `kind` is Anthropic's word for an error, `code`
    OpenAI's. `body` is sent `times` times. Pauses are in seconds.
    """

    name: str
    description: str
    play: Play = "answer"
    once: bool = False
    status: int = 200
    headers: dict[str, str] = {}
    kind: str = ""
    code: str = ""
    message: str = ""
    body: bytes = b""
    times: int = 1
    content_type: str = "application/json"
    after: int = -1
    streams: bool = False
    reset: bool = False
    first_pause: float = 0.0
    pause: float = 0.0
    twist: Twist = ""
    tokens: int = 12


def _pair(name: str, description: str, **rest: Any) -> tuple[Fault, Fault]:
    return (
        Fault(name=f"{name}-once", description=f"{description}, the first time only.", once=True, **rest),
        Fault(name=f"{name}-always", description=f"{description}, every time.", **rest),
    )


def _status(status: int, what: str, kind: str, code: str = "") -> tuple[Fault, Fault]:
    return _pair(str(status), f"Status {status}: {what}", play="refuse", status=status, kind=kind, code=code)


FAULTS: tuple[Fault, ...] = (
    Fault(name="ok", description="Answers with the words of the question, over and over."),
    Fault(name="long", description="Answers with 400 words.", tokens=400),
    Fault(name="slow-tokens", description="50 ms before each word.", pause=0.05),
    Fault(name="slow-first-token", description="One second before the first word.", first_pause=1.0),
    Fault(name="tools", description="Asks for the first tool of the request.", twist="tools"),
    Fault(name="thinking", description="Thinks before it answers.", twist="thinking"),
    Fault(name="vision-echo", description="Answers with the type and size of each picture it got.", twist="vision"),
    Fault(name="content-filter", description="Breaks off because of a content filter.", twist="filtered"),
    Fault(name="usage-missing", description="Does not say how many tokens it used.", twist="no-usage"),
    *_status(400, "the request is wrong", "invalid_request_error"),
    *_status(401, "the key is wrong", "authentication_error", "invalid_api_key"),
    *_status(402, "nothing is paid", "billing_error", "insufficient_quota"),
    *_status(403, "the key may not do this", "permission_error"),
    *_status(404, "there is no such model", "not_found_error", "model_not_found"),
    *_status(408, "the request took too long", "timeout_error"),
    *_status(409, "a conflict", "conflict_error"),
    *_status(413, "the request is too large", "request_too_large"),
    *_status(422, "the request makes no sense", "invalid_request_error"),
    *_status(429, "too many requests", "rate_limit_error", "rate_limit_exceeded"),
    *_status(498, "no capacity", "overloaded_error", "capacity_exceeded"),
    *_status(500, "an internal error", "api_error"),
    *_status(502, "a bad gateway", "api_error"),
    *_status(503, "unavailable", "overloaded_error"),
    *_status(504, "a gateway's timeout", "timeout_error"),
    *_status(529, "overloaded", "overloaded_error"),
    Fault(
        name="429-retry-after",
        description="Status 429 with Retry-After: 2, the first time only.",
        play="refuse",
        once=True,
        status=429,
        kind="rate_limit_error",
        headers={"retry-after": "2"},
    ),
    Fault(
        name="429-retry-after-ms",
        description="Status 429 with retry-after-ms: 300, the first time only.",
        play="refuse",
        once=True,
        status=429,
        kind="rate_limit_error",
        headers={"retry-after-ms": "300"},
    ),
    Fault(
        name="429-quota",
        description="Status 429 because the account has no credit: no retry can help.",
        play="refuse",
        status=429,
        kind="billing_error",
        code="insufficient_quota",
    ),
    Fault(
        name="500-do-not-retry",
        description="Status 500 with x-should-retry: false.",
        play="refuse",
        status=500,
        kind="api_error",
        headers={"x-should-retry": "false"},
    ),
    Fault(
        name="context-length",
        description="Status 400 because the prompt is longer than the context window.",
        play="refuse",
        status=400,
        kind="invalid_request_error",
        code="context_length_exceeded",
        message="prompt is too long: 200001 tokens > 200000 maximum",
    ),
    Fault(
        name="redirect",
        description="Status 307 to another host.",
        play="refuse",
        status=307,
        headers={"location": "http://127.0.0.1:9/v1/elsewhere"},
    ),
    *_pair("closed-before-answer", "Closes the connection instead of answering", play="close"),
    *_pair("reset-before-answer", "Resets the connection instead of answering", play="close", reset=True),
    *_pair("cut-mid-body", "Closes the connection in the middle of the answer", play="cut", after=2),
    *_pair("bad-json", "Status 200 with JSON that breaks off", play="raw", body=b'{"id": "x", "choices": [{"ind'),
    *_pair("error-200", "Status 200 with an error object inside", play="error", kind="api_error"),
    Fault(
        name="html-200",
        description="Status 200 with a web page.",
        play="raw",
        body=b"<!doctype html><title>Sign in</title>",
        content_type="text/html",
    ),
    Fault(name="empty-200", description="Status 200 with nothing.", play="raw"),
    Fault(name="huge-body", description="Status 200 with 80 MiB.", play="raw", body=b"x" * 65536, times=1280),
    Fault(name="huge-head", description="A head of 200 KiB.", headers={f"x-{n}": "x" * 2000 for n in range(100)}),
    Fault(name="hang", description="Never answers.", play="hang"),
    Fault(name="hang-mid-body", description="Goes silent in the middle of the answer.", play="stall", after=5),
    Fault(
        name="hang-mid-stream", description="A stream goes silent after 5 words.", play="stall", streams=True, after=5
    ),
    Fault(name="stream-hang-first", description="A stream goes silent after its head.", play="stall", streams=True),
    *_pair("stream-cut-first", "A stream is cut before its first event", play="cut", streams=True),
    Fault(name="stream-cut-after-5", description="A stream is cut after 5 words.", play="cut", streams=True, after=5),
    *_pair("stream-error-first", "A stream's first event is an error", play="error", streams=True, kind="api_error"),
    Fault(
        name="stream-error-after-5",
        description="A stream's sixth word is an error.",
        play="error",
        kind="overloaded_error",
        streams=True,
        after=5,
    ),
    Fault(
        name="stream-bad-json-after-5",
        description="A stream's sixth word is no JSON.",
        play="garble",
        streams=True,
        after=5,
    ),
    Fault(
        name="stream-no-done",
        description="A stream ends cleanly after 5 words, unfinished.",
        play="end",
        streams=True,
        after=5,
    ),
    Fault(name="stream-finish-no-done", description="A stream finishes, but without [DONE].", twist="no-done"),
    Fault(name="stream-whole", description="Asked for a stream, answers whole.", twist="whole"),
    Fault(name="stream-comments", description="Comments between the events of a stream.", twist="comments"),
    Fault(name="stream-crlf", description="A stream whose lines end with CR LF.", twist="crlf"),
    Fault(name="stream-bytes", description="A stream that comes byte by byte.", twist="bytes"),
)

BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}


def fault_of(model: str) -> Fault:
    """The fault that a model's name chooses: `429-once#mine` is `429-once`, `503` is `503-always`, others are `ok`."""
    name = model.partition("#")[0]
    return BY_NAME.get(name) or BY_NAME.get(f"{name}-always") or BY_NAME["ok"]
