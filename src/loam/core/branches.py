"""Calls that one call makes on its way: each has a trace of its own, and all of them are on the call's bill.

Knows the words of a call and of its trace; asks nobody. Invariant (P1, P2): what a branch cost and how it went stands
in the call's trace and usage once `settle` was called, whatever became of the answer, and never mixes with the attempts
of another branch while that is open.
"""

from msgspec import structs

from loam.core.calls import Call, Usage
from loam.core.money import Money
from loam.core.trace import Trace


class Branches:
    """The branches of one call. `usage` is the sum of what they told of; `cost` of what they are known to have cost."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._traces: list[Trace] = []
        self.usage = Usage()

    def branch(self, asked: Call) -> Call:
        """The call as it may be asked now: under a trace of its own, after the writes that its call waits for."""
        trace = Trace(pending=list(self._call.trace.pending))
        self._traces.append(trace)
        return structs.replace(asked, trace=trace)

    def spend(self, usage: Usage | None) -> None:
        """Takes note of what an answer used."""
        self.usage = added(self.usage, usage)

    @property
    def cost(self) -> Money | None:
        """What the branches cost so far; None where no price is known for any of them."""
        costs = [trace.cost for trace in self._traces if trace.cost is not None]
        return sum(costs) if costs else None

    def settle(self) -> None:
        """Writes the branches into the call's trace; to be done when the answer is over."""
        trace = self._call.trace
        for branch in self._traces:
            for attempt in branch.attempts:
                attempt.number = len(trace.attempts) + 1
                trace.attempts = [*trace.attempts, attempt]
            if branch.cost is not None:
                trace.cost = (trace.cost or 0) + branch.cost
            for warning in branch.warnings:
                trace.warn(warning)
        self._traces = []

    def name(self) -> None:
        """The call takes its model, route and price list from the first branch that has them: that one answers."""
        trace = self._call.trace
        for branch in self._traces:
            trace.model = trace.model or branch.model
            trace.route = trace.route or branch.route
            trace.price_version = trace.price_version or branch.price_version


def added(usage: Usage, more: Usage | None) -> Usage:
    """The sum of two usages; an unknown cost of either makes the cost unknown."""
    if more is None or more == Usage():
        return usage
    if usage == Usage():
        return more
    costs = (usage.provider_cost, more.provider_cost)
    return Usage(
        **{name: getattr(usage, name) + getattr(more, name) for name in _COUNTS},
        estimated=usage.estimated or more.estimated,
        provider_cost=None if None in costs else sum(cost or 0 for cost in costs),
    )


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("estimated", "provider_cost"))
