"""The budget stage: what a call may cost is reserved before it leaves, and what it did cost is settled after.

Knows the call's target and so its price; what an account holds `loam.gateway.accounts` knows, what a call has run up
`loam.gateway.tab`. Stands between fallback, which chose the target, and retry, which asks before each further attempt.
Invariant (P2): nothing is sent under a budget before the most it can cost is held; it is settled as soon as the call
ends, by an answer, a failure or a client that left.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from loam.core.calls import Call, Delta, Tool
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model, Price, Prices
from loam.core.tokens import Bounds, counted_input, upper_bound
from loam.gateway.accounts import Account, Reservation
from loam.gateway.allowances import Allowances
from loam.gateway.tab import Tab, draws, longest_answers


class BudgetSettings(Struct, frozen=True, forbid_unknown_fields=True):
    max_tokens: Annotated[
        int, Meta(description="Longest answer, in tokens, of a budgeted call that sets no max_tokens itself.", ge=1)
    ] = 4096
    unknown_price: Annotated[
        Literal["warn", "refuse"],
        Meta(
            description="What to do with a call whose model has no known price: let it pass with a warning and no "
            "cost, or refuse it. Under a budget in money it is always refused."
        ),
    ] = "warn"
    server_tools: Annotated[
        Literal["refuse", "allow"],
        Meta(
            description="Tools that the provider runs itself (web search, code execution) add tokens and fees that "
            "nobody can bound before. Under a budget such calls are refused, or allowed to exceed what was reserved."
        ),
    ] = "refuse"
    image_tokens: Annotated[int, Meta(description="Most tokens that a picture is taken for.", ge=0)] = Bounds().image
    file_tokens: Annotated[int, Meta(description="Most tokens that a file is taken for.", ge=0)] = Bounds().file


class Budget:
    """Holds the worst case of a call against every budget that applies to it; without one it only counts the cost."""

    def __init__(
        self, inner: Model, allowances: Allowances, prices: Prices, clock: Clock, settings: BudgetSettings
    ) -> None:
        self._inner = inner
        self._allowances = allowances
        self._prices = prices
        self._clock = clock
        self._settings = settings
        self._bounds = Bounds(settings.image_tokens, settings.file_tokens)

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if call.task == "count":
            return self._inner.answer(call)
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        trace = call.trace
        trace.counted_input = counted_input(call)
        now = self._clock.now()
        price = self._price(call)
        reservation = None
        accounts = self._allowances.applying(call)
        if accounts:
            call = self._bounded(call)
            reservation = self._reserve(call, price, accounts, now)
            trace.reserved = reservation.money
        tab = Tab(call, price, allowances=self._allowances, reservation=reservation, now=now)
        before = trace.may_retry
        if reservation is not None:
            trace.may_retry = _both(tab.may_retry, before)
        try:
            async with aclosing(self._inner.answer(call)) as deltas:
                async for delta in deltas:
                    tab.see(delta)
                    yield delta
            told = tab.usage is not None
            usage = tab.finish()
            tab.settle()
            if not told:
                yield Delta(usage=usage)
        finally:
            tab.settle()
            trace.may_retry = before

    def _price(self, call: Call) -> Price | None:
        target = call.target
        price = None if target is None else self._prices.find(target.provider, target.model)
        if price is None and self._settings.unknown_price == "refuse":
            raise _unpriced(call, "the setting budget.unknown_price refuses such calls")
        return price

    def _bounded(self, call: Call) -> Call:
        """The call with a longest answer, so that its worst case is real."""
        if call.sampling.max_tokens is not None or call.task == "embed":
            return call
        # a provider refuses a call whose reasoning alone may fill the answer
        longest = self._settings.max_tokens + (call.sampling.thinking_budget or 0)
        return structs.replace(call, sampling=structs.replace(call.sampling, max_tokens=longest))

    def _reserve(self, call: Call, price: Price | None, accounts: tuple[Account, ...], now: float) -> Reservation:
        if self._settings.server_tools == "refuse":
            _refuse_server_tools(call)
        prompt, answers = upper_bound(call, self._bounds) * draws(call), longest_answers(call)
        if price is not None:
            money = price.worst(prompt, answers, tier=call.sampling.service_tier or "", now=now)
        elif any(account.allowance.money is not None for account in accounts):
            raise _unpriced(call, "a budget in money applies to this call")
        else:
            money = 0
        return self._allowances.reserve(accounts, money, prompt + answers, call.trace.pending)


def _both(one: Callable[[], bool], other: Callable[[], bool] | None) -> Callable[[], bool]:
    """A technique that keeps a cap of its own is asked too."""
    return one if other is None else lambda: one() and other()


def _unpriced(call: Call, why: str) -> ModelFailure:
    return refuse(
        "unsupported",
        f"no price is known for {call.target or call.model}, and {why}; add a [[prices]] row for it to loam.toml, "
        "or use a model with a known price",
        param="model",
        code="unknown_price",
    )


class _Kind(Struct):
    type: Any = ""


_KIND = msgspec.json.Decoder(_Kind)
_CLIENT_RUN = ("computer", "bash", "text_editor", "memory", "local_shell", "apply_patch", "custom", "function")
_UNBOUNDED_FIELDS = ("web_search_options", "mcp_servers", "plugins")


def _refuse_server_tools(call: Call) -> None:
    """Raises ModelFailure (unsupported) for a call that lets the provider fetch and bill what it likes."""
    found = [_server_tool(tool) for tool in call.tools if not tool.name]
    if call.extra:
        found += [name for name in _UNBOUNDED_FIELDS if name in call.extra]
    name = next(filter(None, found), None)
    if name is not None:
        raise refuse(
            "unsupported",
            f"{name} lets the provider add tokens and fees that nobody can bound, and a budget applies to this call; "
            "leave it out, or set budget.server_tools to allow",
            param="tools",
            code="unbounded_cost",
        )


def _server_tool(tool: Tool) -> str:
    """The kind of a tool that the provider runs itself; empty for one that the client runs."""
    kind = _KIND.decode(bytes(tool.wire)).type if tool.wire is not None else ""
    if not isinstance(kind, str) or not kind:
        return "a tool without a name"
    return "" if kind.startswith(_CLIENT_RUN) else kind
