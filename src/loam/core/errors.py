"""What can go wrong, as one page.

    LoamError                 anything Loam raises on purpose; its text says what happened and what to do next
    ├── ModelFailure          a call could not be answered; carries a `Failure`, the verdict that every stage reads
    ├── SettingsError         loam.toml or the environment says something Loam cannot do
    ├── StorageError          the data folder cannot be used (locked by another process, newer than this program, full)
    ├── DocumentError         a document could not be taken in
    ├── EncoderError          the encoder's weights are missing, not the right ones, or of a kind that Loam does not run
    └── EngineError           a checkpoint, tokenizer or adapter cannot be used by the engine; names file and remedy

Invariant: a `Failure` is made where the failure is seen, by a named constructor below; nobody reads its text to decide.
"""

from typing import Any, Literal

from msgspec import Struct

Kind = Literal[
    "bad_request",
    "authentication",
    "permission",
    "not_found",
    "conflict",
    "too_large",
    "unsupported",
    "context_window",
    "content_filter",
    "quota",
    "budget",
    "rate_limit",
    "overloaded",
    "server",
    "timeout",
    "connection",
    "truncated",
    "malformed",
    "unavailable",
    "internal",
]

STATUS: dict[Kind, int] = {
    "bad_request": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "unsupported": 400,
    "context_window": 400,
    "content_filter": 400,
    "quota": 429,
    "budget": 429,
    "rate_limit": 429,
    "overloaded": 529,
    "server": 500,
    "timeout": 504,
    "connection": 502,
    "truncated": 502,
    "malformed": 502,
    "unavailable": 503,
    "internal": 500,
}
"""The HTTP status of a kind where the upstream gave none."""

_RETRY: tuple[Kind, ...] = (
    "conflict",
    "rate_limit",
    "overloaded",
    "server",
    "timeout",
    "connection",
    "truncated",
    "malformed",
)
_ELSEWHERE: tuple[Kind, ...] = (*_RETRY, "authentication", "permission", "not_found", "quota", "unavailable")


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on a failed call or attempt.

    `status` is the upstream's own status where it gave one. `provider` is empty when Loam itself refused, and then
    neither a retry nor another provider can help. `retry_after` is in seconds. `should_retry` is the upstream's word
    (`x-should-retry`), which outranks the kind. `sent` is False where the request surely never reached the provider, so
    that nobody can bill it.
    """

    kind: Kind
    message: str
    status: int | None = None
    provider: str = ""
    retry_after: float | None = None
    should_retry: bool | None = None
    code: str = ""
    param: str = ""
    type: str = ""
    sent: bool = True
    details: dict[str, Any] | None = None
    """What a client may want to read by program: the tries that were made, and what they used."""

    @property
    def http_status(self) -> int:
        """The status that the client sees."""
        return self.status if self.status is not None and self.status >= 400 else STATUS[self.kind]

    @property
    def retryable(self) -> bool:
        """Whether the same call to the same provider may succeed."""
        if not self.provider:
            return False
        return self.kind in _RETRY if self.should_retry is None else self.should_retry

    @property
    def mendable(self) -> bool:
        """Whether another provider may answer the same call. A context window is mended by a larger one only."""
        return bool(self.provider) and self.kind in _ELSEWHERE


_BY_STATUS: dict[int, Kind] = {
    400: "bad_request",
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    405: "bad_request",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    422: "bad_request",
    424: "bad_request",
    429: "rate_limit",
    498: "overloaded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def kind_of_status(status: int) -> Kind:
    """The kind of an HTTP error status: unknown 4xx are the caller's fault, everything else the server's."""
    return _BY_STATUS.get(status) or ("bad_request" if 400 <= status < 500 else "server")


class LoamError(Exception):
    """Base of everything Loam raises on purpose."""


class SettingsError(LoamError):
    """The settings cannot be used as they are."""


class StorageError(LoamError):
    """The data folder cannot be used."""


class DocumentError(LoamError):
    """A document cannot be taken in."""


class EncoderError(LoamError):
    """The encoder or its heads cannot be used."""


class EngineError(LoamError):
    """A checkpoint, a tokenizer or an adapter cannot be used by the local engine."""


class ModelFailure(LoamError):
    """A call could not be answered; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(
    kind: Kind, message: str, *, param: str = "", code: str = "", retry_after: float | None = None
) -> ModelFailure:
    """Loam itself will not do this; `message` says what is wrong and what to do."""
    return ModelFailure(Failure(kind=kind, message=message, param=param, code=code, retry_after=retry_after))


def fail(kind: Kind, provider: str, message: str, *, status: int | None = None, sent: bool = True) -> ModelFailure:
    """A provider did not do its part; `message` says what was seen."""
    return ModelFailure(Failure(kind=kind, provider=provider, message=message, status=status, sent=sent))
