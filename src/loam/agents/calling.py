"""How an agent's model is asked for tools: by its own means, or in text by ReAct for one that has none.

Knows the technique and what a step holds for it; asks nobody. Pure. Invariant: what a step in text may use, all tries
together, is capped by what the step holds, wherever the run has a limit.
"""

from typing import Any, Literal

from msgspec import structs

from loam.agents.events import Asked
from loam.agents.settings import LimitSettings
from loam.core.calls import Call
from loam.core.errors import ModelFailure
from loam.core.money import MICRO, Money
from loam.prompting import react
from loam.prompting.actions import Actions
from loam.prompting.schemas import Schemas

Calling = Literal["native", "text", "auto"]
"""native: by the model's own means. text: by ReAct. auto: by its own means, and by ReAct where it has none."""

Calls = Literal["yes", "no", "template"]
"""Whether a model calls tools by itself; "template": as the chat template of a checkpoint here has it."""

_TRIES = 2
"""Worst cases that a step in text holds: a try really takes far less than its worst, and leaves room for another."""


def longest(call: Call, calling: Calling, schemas: Schemas) -> Call:
    """The call as long as it may get in one try."""
    if calling == "native" or not call.tools:
        return call
    try:
        return react.asked_in_text(call, Actions(call, schemas))
    except ModelFailure:  # a tool whose schema is none: asking says so
        return call


def held(worst: Asked, spent: Asked, calling: Calling, limits: LimitSettings) -> Asked:
    """What a step holds: its worst case; in text that of a few tries, as far as the limits go."""
    if calling == "native":
        return worst
    money, tokens = _TRIES * worst.money, _TRIES * worst.tokens
    if limits.max_cost_usd is not None:
        money = max(worst.money, min(money, int(limits.max_cost_usd * MICRO) - spent.money))
    if limits.tokens is not None:
        tokens = max(worst.tokens, min(tokens, limits.tokens - spent.tokens))
    return Asked(money, tokens)


def asked_as(call: Call, calling: Calling, holds: Asked, limits: LimitSettings) -> Call:
    """The call with the wish for ReAct where the agent needs it, within what the step holds."""
    if calling == "native" or not call.tools:
        return call
    wish: dict[str, Any] = {"name": react.NAME, "calling": calling}
    if limits.max_cost_usd is not None and holds.money:
        wish["max_cost_usd"] = _dollars(holds.money)
    if limits.tokens is not None:
        wish["max_tokens"] = holds.tokens
    return structs.replace(call, controls=structs.replace(call.controls, technique=wish))


def _dollars(money: Money) -> float:
    return money / MICRO


def chosen(wish: Calling, knows: Calls) -> Calling:
    """How an agent calls tools, by its settings and by what is known of its model; a template says so when asked."""
    if wish != "auto":
        return wish
    return "native" if knows == "yes" else "text" if knows == "no" else "auto"
