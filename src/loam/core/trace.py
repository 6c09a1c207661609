"""What happened to one call on the road: written by the stages, read by the ledger and by the border's headers.

The one mutable record of a call. It outlives failure and cancellation: a stage's `finally` can still write here when
nothing can be yielded any more. Times are seconds on the clock's monotonic scale unless a name says otherwise.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct

from loam.core.money import Money

CacheState = Literal["", "hit", "miss", "shared", "bypass"]


class Attempt(Struct):
    """One request to one provider. `waited` is the pause before it; `cost` what it is taken to have cost.

    `sent` is False where the request surely never reached the provider (no connection), so that it cannot be charged.
    """

    number: int
    provider: str
    model: str
    started: float
    waited: float = 0.0
    first_token: float | None = None
    ended: float | None = None
    outcome: Literal["open", "done", "failed", "cancelled"] = "open"
    status: int | None = None
    failure: str = ""
    message: str = ""
    upstream_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Money | None = None
    sent: bool = True


class Trace(Struct):
    """The running account of a call. `cost` is the sum over attempts; `None` means that no price is known."""

    attempts: list[Attempt] = []
    route: list[str] = []
    cache: CacheState = ""
    model: str = ""
    cost: Money | None = None
    reserved: Money = 0
    price_version: str = ""
    counted_input: int = 0
    counted_output: int = 0
    warnings: list[str] = []
    pending: list[Awaitable[Any]] = []
    """Writes that must be durable before a request leaves for a provider: the intent row, the reservation."""
    may_retry: Callable[[], bool] | None = None
    """Whether one more attempt may be paid for; asked before each retry, where a stage that counts money set it."""

    def warn(self, text: str) -> None:
        """Keeps a remark for the ledger and the `loam` object of the answer, once."""
        if text not in self.warnings:
            self.warnings.append(text)
