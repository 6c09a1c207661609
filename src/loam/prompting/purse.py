"""A cap on what one call's inner calls may use together, looked at before each of them.

Knows worst cases and what was really used; asks nobody. Invariant: what is spent and what is held for calls that are
under way never exceed the cap, so a call whose worst case does not fit is not made.
"""

from collections.abc import Callable
from decimal import Decimal

from msgspec import structs

from loam.core.calls import Call
from loam.core.errors import ModelFailure, refuse
from loam.core.money import MICRO, Money, dollars
from loam.core.tokens import upper_bound

LONGEST = 4096
"""Tokens of an answer whose call names no limit: without one its worst case would have no end."""


class Purse:
    """`cap` in micro-dollars and `tokens`; None does not limit."""

    def __init__(
        self, cap: Money | None, tokens: int | None, quote: Callable[[Call], Money | None] | None = None
    ) -> None:
        self._cap = cap
        self._tokens = tokens
        self._quote = quote
        self._money_held = self._tokens_held = 0

    @property
    def limited(self) -> bool:
        return self._cap is not None or self._tokens is not None

    def bounded(self, call: Call) -> Call:
        """The call with a longest answer, where something is capped."""
        sampling = call.sampling
        if not self.limited or sampling.max_tokens is not None:
            return call
        return structs.replace(call, sampling=structs.replace(sampling, max_tokens=LONGEST))

    def take(self, call: Call) -> "Hold | None":
        """Holds the worst case of a call; None where it does not fit. Raises ModelFailure where it has no price."""
        if not self.limited:
            return Hold(0, 0)
        answers = (call.sampling.max_tokens or LONGEST) * call.sampling.n
        hold = Hold(self._worst(call), upper_bound(call) * call.sampling.n + answers)
        return hold if self._fits(hold) else None

    def extend(self, call: Call, hold: "Hold") -> bool:
        """Makes room for one more attempt of a call that is under way."""
        more = self.take(call)
        if more is None:
            return False
        hold.money += more.money
        hold.tokens += more.tokens
        return True

    def settle(self, hold: "Hold", money: Money | None, tokens: int) -> None:
        """Puts what was used in the place of what was held. An unknown cost is taken to be all that was held."""
        self._money_held += (hold.money if money is None else money) - hold.money
        self._tokens_held += tokens - hold.tokens

    def _fits(self, hold: "Hold") -> bool:
        money, tokens = self._money_held + hold.money, self._tokens_held + hold.tokens
        if (self._cap is not None and money > self._cap) or (self._tokens is not None and tokens > self._tokens):
            return False
        self._money_held, self._tokens_held = money, tokens
        return True

    def _worst(self, call: Call) -> Money:
        if self._cap is None:
            return 0
        worst = None if self._quote is None else self._quote(call)
        if worst is None:
            raise unpriced(call.model)
        return worst


class Hold:
    """The worst case of one call under way."""

    __slots__ = ("money", "tokens")

    def __init__(self, money: Money, tokens: int) -> None:
        self.money = money
        self.tokens = tokens


def unpriced(model: str) -> ModelFailure:
    return refuse(
        "unsupported",
        f"no price is known for {model}, so a cap in money can't be kept; add a [[prices]] row for it to loam.toml, or "
        "leave max_cost_usd out",
        param="loam.technique.max_cost_usd",
        code="unknown_price",
    )


def spent_up(what: str, cap: Money | None, *, done: int) -> ModelFailure:
    """The verdict where the cap leaves no room for a call that is needed."""
    limit = "its tokens" if cap is None else f"its ${dollars(cap)}"
    return refuse(
        "budget", f"{what} may not go on within {limit} after {done} calls; allow it more", code="technique_cap"
    )


def micro(amount: float | None) -> Money | None:
    """Dollars of an option to micro-dollars, rounded down: a cap is never stretched."""
    return None if amount is None else int(Decimal(str(amount)) * MICRO)
