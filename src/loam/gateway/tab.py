"""What one call has run up at one target: the reservation behind it, its attempts, and the bill at the end.

Knows usage, prices and the trace; does no I/O but through `Allowances`. Invariant: a tab is settled exactly once, and
what it settles is what its attempts cost, whether they were answered, broke off or were left.

A failed attempt is charged its prompt where the provider may bill it: it was sent, and no error status came back.
What the provider may have written before a connection died without a single event is not charged, because providers
stop when their reader is gone. An attempt that was heard is charged its prompt and what was heard of it.
"""

from msgspec import structs

from loam.core.calls import Call, Delta, Usage, Words
from loam.core.errors import Kind
from loam.core.messages import Audio, Document, Image, Native
from loam.core.money import Money, dollars
from loam.core.ports import Price
from loam.core.tokens import estimate
from loam.core.trace import Attempt
from loam.gateway.accounts import Reservation
from loam.gateway.allowances import Allowances

_MAY_BE_BILLED: tuple[Kind, ...] = ("timeout", "connection", "truncated", "malformed", "internal")
_OFF_BY = 50  # tokens; a difference is told when it is more than this and more than a quarter
_UNCOUNTED = (Image, Audio, Document, Native)


class Tab:
    """Open from before a call's first attempt to after its last. `price` is None where none is known."""

    __slots__ = (
        "_allowances", "_call", "_done", "_next", "_now", "_pieces", "_price", "_reasoned", "_reservation", "_settled",
        "_spent", "_tier", "_tokens", "_trace", "usage",
    )  # fmt: skip

    def __init__(
        self, call: Call, price: Price | None, *, allowances: Allowances, reservation: Reservation | None, now: float
    ) -> None:
        self._call = call
        self._trace = call.trace
        self._price = price
        self._allowances = allowances
        self._reservation = reservation
        self._now = now
        self._tier = call.sampling.service_tier or ""
        self._next = len(call.trace.attempts)
        self._spent: Money = 0
        self._tokens = 0
        self._pieces: list[str] = []
        self._reasoned = False
        self._done = False
        self._settled = False
        self.usage: Usage | None = None

    def see(self, delta: Delta) -> None:
        """Takes note of what passes on its way to the client."""
        if delta.text:
            self._pieces.append(delta.text)
        if type(delta) is Words:
            return
        if delta.tool is not None:
            self._pieces += (delta.tool.name, delta.tool.arguments)
        if delta.thinking or delta.signature or delta.redacted:
            self._pieces.append(delta.thinking)
            self._reasoned = True
        if delta.refusal:
            self._pieces.append(delta.refusal)
        if delta.usage is not None:
            self.usage = delta.usage
        if delta.head is not None and delta.head.service_tier:
            self._tier = delta.head.service_tier

    def may_retry(self) -> bool:
        """Whether one more attempt can be paid for, on top of what the failed one is charged."""
        money, tokens = self._spent, self._tokens
        self._charge(self._trace.attempts[self._next :])
        money, tokens = self._spent - money, self._tokens - tokens
        if self._reservation is None or not (money or tokens):
            return True
        extended = self._allowances.extend(self._reservation, money, tokens, self._trace.pending)
        if not extended:
            self._trace.warn("not tried again: a budget has no room for one more attempt")
        return extended

    def finish(self) -> Usage:
        """The answer is whole: its usage, the provider's or else what Loam counted."""
        self._done = True
        if self.usage is None:
            self.usage = self._counted()
        return self.usage

    def settle(self) -> None:
        """Charges what is left to charge, gives the rest of the reservation back, and writes it all into the trace."""
        if self._settled:
            return
        self._settled = True
        trace, reservation = self._trace, self._reservation
        trace.may_retry = None
        self._charge_rest()
        money, tokens = self._spent, self._tokens
        if self._price is not None:
            trace.cost = (trace.cost or 0) + money
            trace.price_version = self._price.version
        if reservation is not None:
            trace.reserved = reservation.money
            if money > reservation.money or tokens > reservation.tokens:
                trace.warn(
                    f"took {tokens} tokens and ${dollars(money)}, more than was reserved as the worst case"
                    f" ({reservation.tokens} and ${dollars(reservation.money)})"
                )
            self._allowances.settle(reservation, money, tokens)

    def _charge_rest(self) -> None:
        """The attempts that are not charged yet; what was heard came from the last of them."""
        attempts = self._trace.attempts[self._next :]
        heard = self._done or bool(self._pieces) or self.usage is not None
        if not heard:
            self._charge(attempts)
            return
        self._charge(attempts[:-1])
        usage = self.usage if self._done and self.usage is not None else self._heard()
        self._trace.counted_output = estimate("".join(self._pieces))
        self._compare(usage)
        self._add(usage, attempts[-1] if attempts else None)

    def _charge(self, attempts: list[Attempt]) -> None:
        """Charges attempts of which nothing was heard: their prompt where the provider may bill it, or nothing."""
        for attempt in attempts:
            usage = Usage(input=self._trace.counted_input, estimated=True) if _may_be_billed(attempt) else None
            self._add(usage, attempt)
        self._next += len(attempts)

    def _add(self, usage: Usage | None, attempt: Attempt | None) -> None:
        cost = 0 if usage is None else self._cost(usage)
        if attempt is not None:
            attempt.cost = cost
            if usage is not None:
                attempt.input_tokens, attempt.output_tokens = usage.input, usage.output
        if usage is not None:
            self._tokens += usage.total
            self._spent += cost or 0

    def _cost(self, usage: Usage) -> Money | None:
        """The cost at the known price, else what the provider says it was, else None and a remark."""
        if self._price is not None:
            return self._price.cost(usage, tier=self._tier, now=self._now)
        trace, said = self._trace, usage.provider_cost
        if said is None:
            trace.warn(f"no price is known for {self._call.target or self._call.model}, so its cost is not in the sum")
            return None
        trace.cost = (trace.cost or 0) + said
        trace.price_version = "provider"
        return said

    def _counted(self) -> Usage:
        """What Loam counts where the provider did not."""
        output, longest = estimate("".join(self._pieces)), longest_answers(self._call)
        if longest < output <= 2 * longest:
            output = longest  # a little more than can have been said is the estimate's error, not the answer's
        return Usage(input=self._trace.counted_input, output=output, estimated=True)

    def _heard(self) -> Usage:
        """What an answer that broke off is taken to have used: the provider's figures so far, at least what came."""
        counted, said = self._counted(), self.usage
        if said is None:
            return counted
        return structs.replace(
            said, input=said.input or counted.input, output=max(said.output, counted.output), estimated=True
        )

    def _compare(self, usage: Usage) -> None:
        """Numbers are kept twice (P10): tells when the provider's and Loam's own are far apart."""
        if usage.estimated:
            return
        trace = self._trace
        if _apart(usage.input, trace.counted_input) and _countable(self._call):
            self._tell("prompt", usage.input, trace.counted_input)
        said = usage.output - usage.reasoning
        if _apart(said, trace.counted_output) and not self._reasoned:  # reasoning is billed whole, and shown in part
            self._tell("answer", said, trace.counted_output)

    def _tell(self, what: str, said: int, counted: int) -> None:
        self._trace.warn(f"the provider says the {what} has {said} tokens, and Loam counts about {counted}")


def _apart(said: int, counted: int) -> bool:
    off = abs(said - counted)
    return off > _OFF_BY and 4 * off > max(said, counted)


def longest_answers(call: Call) -> int:
    """Tokens that all answers to a call have at most; 0 where nothing bounds them or there are none."""
    if call.task == "embed" or call.sampling.max_tokens is None:
        return 0
    return call.sampling.max_tokens * draws(call) * max(len(call.inputs), 1)


def draws(call: Call) -> int:
    """How many answers are drawn and billed for each prompt; old text completions may draw more than they return."""
    best_of = call.extra.get("best_of") if call.extra else None
    return max(call.sampling.n, best_of) if isinstance(best_of, int) else call.sampling.n


def _countable(call: Call) -> bool:
    """Whether the prompt is text alone: how a provider counts pictures, or writes tools out, nobody else knows."""
    if call.tools or call.output is not None:
        return False
    return not any(isinstance(part, _UNCOUNTED) for message in call.messages for part in message.parts)


def _may_be_billed(attempt: Attempt) -> bool:
    if not attempt.sent:
        return False
    if attempt.outcome == "failed":
        refused = attempt.status is not None and attempt.status >= 400
        return attempt.failure in _MAY_BE_BILLED and not refused
    return True
