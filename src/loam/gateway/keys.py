"""The keys stage: what a key may ask, and how much of it a minute.

Knows the principal of a call and its limits (`loam.gateway.limits`); who holds which secret the keyring knows.
Invariant: a call is admitted by every limit of its key or by none, and gives back what it did not use as soon as it
ends, however it ends.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.answers import refused
from loam.core.calls import RAG, Call, Delta, Principal, Usage
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model
from loam.core.tokens import counted_input
from loam.gateway.http import Header
from loam.gateway.limits import Limits

_SECOND = 1_000_000_000
_PLAIN = 16_384  # bytes; a smaller body holds no picture, and its size tells its tokens well enough to hold them back


class KeysSettings(Struct, frozen=True, forbid_unknown_fields=True):
    assumed_output: Annotated[
        int,
        Meta(
            description="Tokens of answer to expect of a call that sets no max_tokens, for a key's tokens per minute; "
            "never more than a quarter of the key's limit. What is not used goes back when the call ends.",
            ge=1,
        ),
    ] = 1024


class Keys:
    """Refuses what the caller's key does not allow, as `permission` or `rate_limit`, and asks `inner` for the rest."""

    def __init__(self, inner: Model, clock: Clock, settings: KeysSettings) -> None:
        self._inner = inner
        self._clock = clock
        self._settings = settings
        self._limits = Limits()

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        principal = call.principal
        if principal.models:
            denial = _denial(call)
            if denial is not None:
                return refused(denial)
        if (
            principal.requests_per_minute is None
            and principal.tokens_per_minute is None
            and principal.max_parallel is None
        ):
            return self._inner.answer(call)
        return self._run(call)

    def headers(self, principal: Principal) -> list[Header]:
        """The `x-ratelimit-*` headers of an answer to this principal."""
        return self._limits.headers(principal, self._now())

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        permit = self._limits.admit(call.principal, self._needed(call), self._now())
        usage: Usage | None = None
        try:
            async with aclosing(self._inner.answer(call)) as deltas:
                async for delta in deltas:
                    if delta.usage is not None:
                        usage = delta.usage
                    yield delta
        finally:
            permit.settle(_used(call, usage), self._now())

    def _needed(self, call: Call) -> int:
        """Tokens to hold back for a call: its prompt as it typically comes out, and the longest answer it may get."""
        limit = call.principal.tokens_per_minute
        if limit is None or call.task == "count":
            return 0
        output = 0
        if call.task != "embed":
            longest = call.sampling.max_tokens
            if longest is None:
                longest = min(self._settings.assumed_output, limit // 4)
            output = longest * call.sampling.n * max(len(call.inputs), 1)
        size = len(call.body)
        prompt = size // 4 if 0 < size <= _PLAIN else counted_input(call)
        return prompt + output

    def _now(self) -> int:
        return int(self._clock.monotonic() * _SECOND)


def _denial(call: Call) -> ModelFailure | None:
    principal, collection = call.principal, call.controls.collection
    # a collection is asked by either name, and neither opens what the other keeps shut
    collections = (RAG + collection,) if collection else ()
    for model in (call.model, *call.controls.fallbacks, *collections):
        if not principal.may_ask(model):
            return refuse(
                "permission",
                f"the key {principal.key_id} may not use the model {model!r}; it may use {', '.join(principal.models)}",
                param="model",
                code="model_not_allowed",
            )
    return None


def _used(call: Call, usage: Usage | None) -> int:
    """The tokens a call really took; one that was answered from memory or never left took none."""
    trace = call.trace
    if trace.cache in ("hit", "shared"):
        return 0
    if usage is not None:
        return usage.total
    return trace.counted_input + trace.counted_output if trace.attempts else 0
