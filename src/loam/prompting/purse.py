"""A cap on what one call's inner calls may use together, looked at before each of them.

Knows worst cases and what was really used; a price it is told. Invariant: what is spent and what is held for calls that
are under way never exceed the cap, so a call, or one more attempt of it, whose worst case does not fit is not made.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from decimal import Decimal

from msgspec import Struct, structs

from loam.core.calls import Call, Delta, Usage
from loam.core.errors import ModelFailure, refuse
from loam.core.money import MICRO, Money, dollars
from loam.core.ports import Model
from loam.core.tokens import upper_bound

CAP = "technique_cap"
"""The code of the refusal where a cap leaves no room."""

LONGEST = 4096
"""Tokens of an answer whose call names no limit: without one its worst case would have no end."""

SHORTEST = 64
"""Tokens of an answer below which it is not worth asking."""

Quote = Callable[[Call], Money | None]
"""The most that a call can cost; None where that can't be known."""


class Hold(Struct):
    """The worst case of one call under way."""

    money: Money
    tokens: int


class Purse:
    """`money` in micro-dollars and `tokens` that may be used in all; None does not limit."""

    def __init__(self, money: Money | None, tokens: int | None, quote: Quote | None) -> None:
        self._money = money
        self._tokens = tokens
        self._quote = quote
        self._held = Hold(0, 0)

    def bounded(self, call: Call) -> Call:
        """The call with a longest answer."""
        sampling = call.sampling
        if sampling.max_tokens is not None:
            return call
        room = LONGEST if self._tokens is None else self._tokens - self._held.tokens - upper_bound(call)
        return structs.replace(call, sampling=structs.replace(sampling, max_tokens=max(SHORTEST, min(LONGEST, room))))

    def take(self, call: Call) -> Hold | None:
        """Holds the worst case of a call; None where it does not fit. Raises ModelFailure where it has no price."""
        n = call.sampling.n
        hold = Hold(self._worst(call), (upper_bound(call) + (call.sampling.max_tokens or LONGEST)) * n)
        money, tokens = self._held.money + hold.money, self._held.tokens + hold.tokens
        if (self._money is not None and money > self._money) or (self._tokens is not None and tokens > self._tokens):
            return None
        self._held = Hold(money, tokens)
        return hold

    def extend(self, call: Call, hold: Hold) -> bool:
        """Makes room for one more attempt of a call that is under way."""
        more = self.take(call)
        if more is not None:
            hold.money += more.money
            hold.tokens += more.tokens
        return more is not None

    def settle(self, hold: Hold, money: Money | None, tokens: int | None) -> None:
        """Puts what was used in the place of what was held. What is not known is taken to be all of it."""
        self._held.money += (hold.money if money is None else money) - hold.money
        self._held.tokens += (hold.tokens if tokens is None else tokens) - hold.tokens

    def refusal(self) -> ModelFailure:
        money = [] if self._money is None else [f"${dollars(self._money)}"]
        limits = " and ".join([*money, *([] if self._tokens is None else [f"{self._tokens} tokens"])])
        spent = f"${dollars(self._held.money)} and {self._held.tokens} tokens are spent or held"
        message = f"the technique's cap of {limits} has no room for another call ({spent}); allow more, or a smaller n"
        return refuse("budget", f"{message} or max_tokens", code=CAP, param="loam.technique")

    def _worst(self, call: Call) -> Money:
        if self._money is None:
            return 0
        worst = None if self._quote is None else self._quote(call)
        if worst is None:
            raise refuse(
                "unsupported",
                f"no price is known for {call.model}, so a cap in money can't be kept; add a [[prices]] row for it to "
                "loam.toml, or leave max_cost_usd out",
                param="loam.technique.max_cost_usd",
                code="unknown_price",
            )
        return worst


class Capped:
    """A Model whose calls together keep to a purse; where one would not, it is refused and nobody is asked."""

    def __init__(self, inner: Model, purse: Purse) -> None:
        self._inner = inner
        self._purse = purse

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._run(self._purse.bounded(call))

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        purse, trace = self._purse, call.trace
        hold = purse.take(call)
        if hold is None:
            raise purse.refusal()
        usage: Usage | None = None
        cost, tried, outer = trace.cost, len(trace.attempts), trace.may_retry
        trace.may_retry = lambda: (outer is None or outer()) and purse.extend(call, hold)
        try:
            async with aclosing(self._inner.answer(call)) as deltas:
                async for delta in deltas:
                    usage = delta.usage or usage
                    yield delta
        finally:
            trace.may_retry = outer
            attempts = trace.attempts[tried:]
            counted = sum(attempt.input_tokens + attempt.output_tokens for attempt in attempts) if attempts else None
            purse.settle(
                hold,
                None if trace.cost is None else trace.cost - (cost or 0),
                counted if usage is None else max(usage.total, counted or 0),
            )


def capped(inner: Model, money: float | None, tokens: int | None, quote: Quote | None) -> Model:
    """The model within a cap of dollars and tokens, rounded down; itself where neither is given."""
    if money is None and tokens is None:
        return inner
    return Capped(inner, Purse(None if money is None else int(Decimal(str(money)) * MICRO), tokens, quote))
