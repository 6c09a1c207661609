"""What a client-side wire format can do, the same for each: a request to a Call, an answer or its deltas to bytes."""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from loam.core.calls import Answer, Call, Delta, Step
from loam.core.errors import Failure


class StreamEncoder(Protocol):
    """Turns one answer's deltas into server-sent events. Every method returns the bytes to send, perhaps none."""

    def delta(self, delta: Delta) -> bytes: ...

    def step(self, step: Step) -> bytes:
        """An event on how the answer is made, for clients that asked for Loam's own words; others pass it over."""
        ...

    def end(self, loam: dict[str, Any] | None) -> bytes:
        """The closing events; `loam` is the object to show there, where the client asked for it."""
        ...

    def error(self, failure: Failure) -> bytes:
        """The event that tells a client that the answer broke off; nothing may follow it."""
        ...


class Border(Struct, frozen=True):
    """One endpoint's format. `decode` raises ModelFailure (kind bad_request, with `param`) for what it cannot read.

    `whole` gets the call, the answer, the wall time in seconds and the `loam` object or None. `failure` gets the
    verdict and the call's id and gives the body of an error response.
    """

    decode: Callable[[bytes, str], Call]
    whole: Callable[[Call, Answer, float, dict[str, Any] | None], bytes]
    stream: Callable[[Call, float], StreamEncoder]
    failure: Callable[[Failure, str], bytes]
