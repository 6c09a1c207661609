"""What one model costs: its terms over time, by service tier and by the size of the prompt.

Knows arithmetic; where terms come from `loam.planners.prices` knows. Pure.
Invariant: rates are integers in nano-dollars per million tokens, so every price of the list is exact and only the sum
is rounded, up to a micro-dollar. A kind of token without a price of its own costs what the kind it belongs to costs.
"""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from msgspec import Struct

from loam.core.calls import Usage
from loam.core.money import Money

Rate = Decimal | tuple[tuple[int, Decimal], ...]
"""Dollars per million tokens; or steps: above so many prompt tokens, all tokens of the call cost so much."""

_NANO = 1_000_000_000
_THOUSAND = 1000  # searches and requests are priced by the thousand: one counts like a thousand tokens
_EPOCH = date(1970, 1, 1)
_UNSET = -1


class Terms(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a price list. Without `tier` it is a standard price, of which the last that applies counts; with it,
    it replaces single rates for calls of that tier, and the first that applies counts. It applies from `since` on,
    or daily between two `minutes` of the UTC day.
    """

    input: Rate | None = None
    output: Rate | None = None
    cached: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    audio_input: Rate | None = None
    audio_output: Rate | None = None
    reasoning: Rate | None = None
    searches: Rate | None = None
    requests: Rate | None = None
    tier: str = ""
    since: date | None = None
    minutes: tuple[int, int] | None = None

    def applies(self, minute: int) -> bool:
        """Whether these terms hold in a minute, counted from 1970 UTC."""
        if self.since is not None:
            return minute // 1440 >= (self.since - _EPOCH).days
        if self.minutes is None:
            return True
        begin, end = self.minutes
        of_day = minute % 1440
        return begin <= of_day < end if begin <= end else of_day >= begin or of_day < end


_KINDS = Terms.__struct_fields__[:10]


class Rates(Struct, frozen=True):
    """Nano-dollars per million, for prompts of more than `above` tokens; `read` and `said` are the dearest kinds."""

    above: int
    read: int
    said: int
    input: int
    output: int
    cached: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_output: int
    reasoning: int
    searches: int
    requests: int

    def cost(self, usage: Usage) -> Money:
        plain = usage.input - usage.cached - usage.cache_write - usage.audio_input
        said = usage.output - usage.reasoning - usage.audio_output
        total = (
            max(plain, 0) * self.input
            + max(said, 0) * self.output
            + usage.cached * self.cached
            + usage.reasoning * self.reasoning
            + _THOUSAND * (self.requests + usage.searches * self.searches)
        )
        if usage.cache_write:
            brief = max(usage.cache_write - usage.cache_write_1h, 0)
            total += brief * self.cache_write + usage.cache_write_1h * self.cache_write_1h
        if usage.audio_input or usage.audio_output:
            total += usage.audio_input * self.audio_input + usage.audio_output * self.audio_output
        return -(-total // _NANO)

    def worst(self, input: int, output: int) -> Money:
        return -(-(input * self.read + output * self.said + _THOUSAND * self.requests) // _NANO)


class Tariff:
    """The price of one model: a `loam.core.ports.Price`. `version` names the list it was read from."""

    def __init__(self, terms: Sequence[Terms], version: str) -> None:
        self.version = version
        self._terms = terms
        self._tiers = {row.tier for row in terms}
        self._changes = any(row.since is not None or row.minutes is not None for row in terms)
        self._minute = _UNSET
        self._known: dict[str, tuple[Rates, ...]] = {}

    def cost(self, usage: Usage, *, tier: str = "", now: float) -> Money:
        """The cost of `usage`, rounded up to a micro-dollar; a tier without terms of its own costs the standard."""
        steps = self._steps(tier, now)
        chosen = steps[0]
        if len(steps) > 1:
            for step in steps:
                if usage.input > step.above:
                    chosen = step
        return chosen.cost(usage)

    def worst(self, input: int, output: int, *, tier: str = "", now: float) -> Money:
        """The most that a call of at most so many tokens can cost, whichever step and kind of token it comes to."""
        steps = self._steps(tier, now)
        if len(steps) == 1:
            return steps[0].worst(input, output)
        return max(step.worst(input, output) for step in steps if step.above <= input)

    def _steps(self, tier: str, now: float) -> tuple[Rates, ...]:
        minute = int(now // 60) if self._changes else 0
        if minute != self._minute:
            self._minute = minute
            self._known = {}
        name = tier if tier in self._tiers else ""
        steps = self._known.get(name)
        if steps is None:
            steps = self._known[name] = _resolve(self._terms, name, minute)
        return steps


def _resolve(terms: Sequence[Terms], tier: str, minute: int) -> tuple[Rates, ...]:
    """The rates in force for a tier in a minute, one for each step of the prompt's size."""
    standard = [row for row in terms if not row.tier]
    chosen = next((row for row in reversed(standard) if row.applies(minute)), standard[0])
    replacing = [row for row in terms if tier and row.tier == tier and row.applies(minute)]
    in_force: dict[str, Rate] = {}
    for row in (*replacing, chosen):
        for kind in _KINDS:
            rate: Rate | None = getattr(row, kind)
            if rate is not None:
                in_force.setdefault(kind, rate)
    starts = {0} | {start for rate in in_force.values() if isinstance(rate, tuple) for start, _ in rate}
    return tuple(_rates(in_force, start) for start in sorted(starts))


def _rates(in_force: dict[str, Rate], above: int) -> Rates:
    def nano(kind: str, otherwise: int) -> int:
        rate = in_force.get(kind)
        if rate is None:
            return otherwise
        if isinstance(rate, tuple):
            rate = next(price for start, price in reversed(rate) if start <= above)
        return int(rate * _NANO)

    input, output = nano("input", 0), nano("output", 0)
    cached, write = nano("cached", input), nano("cache_write", input)
    write_1h, heard = nano("cache_write_1h", write), nano("audio_input", input)
    reasoning, spoken = nano("reasoning", output), nano("audio_output", output)
    return Rates(
        above,
        read=max(input, cached, write, write_1h, heard),
        said=max(output, reasoning, spoken),
        input=input,
        output=output,
        cached=cached,
        cache_write=write,
        cache_write_1h=write_1h,
        audio_input=heard,
        audio_output=spoken,
        reasoning=reasoning,
        searches=nano("searches", 0),
        requests=nano("requests", 0),
    )
