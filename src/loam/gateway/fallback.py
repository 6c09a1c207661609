"""The fallback stage: the next target of the chain, when another provider can mend what went wrong with this one.

Knows the chain and who is sick; how often one target is asked, `loam.gateway.retry` knows.
Invariant: after the first content there is no other target, and no switch is silent: each stands in the call's trace.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.calls import Call, Delta, Target
from loam.core.clock import Clock
from loam.core.errors import Failure, ModelFailure
from loam.core.ports import Model
from loam.gateway.health import Health


class FallbackSettings(Struct, frozen=True, forbid_unknown_fields=True):
    failures: Annotated[int, Meta(ge=1, description="Failures in a row after which a target is left alone.")] = 3
    cooldown: Annotated[float, Meta(gt=0, description="Seconds until a target that was left alone is tried again.")] = (
        30.0
    )
    longest_cooldown: Annotated[
        float,
        Meta(gt=0, description="A provider's Retry-After keeps its target out for no longer than this, in seconds."),
    ] = 600.0
    on_budget: Annotated[
        bool, Meta(description="Whether a call that its budget cannot pay at one target goes on to the next.")
    ] = False
    context_fallbacks: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="Targets for a prompt that is too long, by the target it is too long for."),
    ] = {}


class Fallback:
    """Asks the targets of `call.chain` in turn; what `health` knows to be sick is skipped while others are well.

    `window` gives a target's context window where it is known; `wider` the targets for a prompt that was too long.
    """

    def __init__(
        self,
        inner: Model,
        health: Health,
        clock: Clock,
        settings: FallbackSettings,
        *,
        window: Callable[[Target], int | None],
        wider: Mapping[Target, tuple[Target, ...]],
    ) -> None:
        self._inner = inner
        self._health = health
        self._clock = clock
        self._settings = settings
        self._window = window
        self._wider = wider

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if len(call.chain) < 2 and (not call.chain or call.chain[0] not in self._wider):
            return self._inner.answer(call)
        return self._run(call)

    async def _run(self, call: Call) -> AsyncGenerator[Delta, None]:
        health = self._health
        story: dict[Target, Failure] = {}
        target = self._first(call)
        while True:
            turn = structs.replace(call, target=target)
            call.trace.model = str(target)
            begun = False
            try:
                async with aclosing(self._inner.answer(turn)) as deltas:
                    async for delta in deltas:
                        if not begun:
                            begun = True
                            health.succeeded(target)
                        yield delta
            except ModelFailure as error:
                story[target] = error.failure
                health.failed(target, error.failure, self._clock.monotonic())
                following = None if begun else self._next(call, target, story)
                if following is None:
                    raise _told(error, story) from error.__cause__
                call.trace.warn(f"fell back from {target} to {following}: {error.failure.kind}")
            else:
                return
            finally:
                health.release(target, call.id)
            target = following

    def _first(self, call: Call) -> Target:
        return self._well(call, call.chain) or self._health.least_recently_failed(call.chain)

    def _next(self, call: Call, target: Target, story: Mapping[Target, Failure]) -> Target | None:
        """Who is asked after `target` failed so; None: the failure stands."""
        failure = story[target]
        rest: Sequence[Target] = call.chain[call.chain.index(target) + 1 :] if target in call.chain else ()
        if failure.kind == "context_window":
            rest = self._roomier(target, rest)
        elif not (failure.mendable or (failure.kind == "budget" and self._settings.on_budget)):
            return None
        return self._well(call, [other for other in rest if other not in story])

    def _roomier(self, target: Target, rest: Sequence[Target]) -> list[Target]:
        window = self._window(target) or 0
        larger = [other for other in rest if window and (self._window(other) or 0) > window]
        return [*larger, *self._wider.get(target, ())]

    def _well(self, call: Call, targets: Sequence[Target]) -> Target | None:
        now = self._clock.monotonic()
        for target in targets:
            if self._health.admit(target, now, call.id):
                return target
            call.trace.warn(f"left {target} out: it is cooling down")
        return None


def _told(error: ModelFailure, story: Mapping[Target, Failure]) -> ModelFailure:
    """The last failure, with what happened to the others before it."""
    if len(story) < 2:
        return error
    *before, _ = story.items()
    tale = "; ".join(f"{target}: {failure.kind} ({failure.http_status})" for target, failure in before)
    return ModelFailure(structs.replace(error.failure, message=f"{error.failure.message} (before it, {tale})"))
