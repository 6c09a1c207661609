"""The technique stage: puts the techniques that a call wishes for around the rest of the road.

Knows every technique by its options; what one does, it knows itself. Invariants: a call that wishes for none, and whose
answer has no shape to keep to, goes on as it came; a wish that can't be read is refused before anything is asked.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from loam.core.answers import refused
from loam.core.calls import Call, Delta, Wish
from loam.core.errors import ModelFailure, refuse
from loam.core.ports import Model
from loam.prompting import chain_of_thought, few_shot, self_consistency, zero_shot
from loam.prompting.around import NOTHING, Around


class TechniqueSettings(Struct, frozen=True, forbid_unknown_fields=True):
    datasets: Annotated[
        dict[str, str],
        Meta(description="Sets of examples for few_shot: a name, and a file of JSON lines with `input` and `output`."),
    ] = {}


Build = Callable[[Model, Any, Around], Model]

TECHNIQUES: dict[str, tuple[Any, Build]] = {
    zero_shot.NAME: (zero_shot.Options, zero_shot.ZeroShot),
    few_shot.NAME: (few_shot.Options, few_shot.FewShot),
    chain_of_thought.NAME: (chain_of_thought.Options, chain_of_thought.ChainOfThought),
    self_consistency.NAME: (self_consistency.Options, self_consistency.SelfConsistency),
}
"""A row a technique: what it may be told, and how it is put around a model."""


class Techniques:
    """Stands inside the cache and before grounding, so that each inner call is grounded, routed and paid by itself."""

    def __init__(self, inner: Model, around: Around = NOTHING) -> None:
        self._inner = inner
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        wish = call.controls.technique
        if not wish:
            return self._inner.answer(call)
        try:
            model = self._built(wish, call)
        except ModelFailure as error:
            return refused(error)
        return model.answer(structs.replace(call, controls=structs.replace(call.controls, technique=None)))

    def _built(self, wish: Wish | list[Wish], call: Call) -> Model:
        if call.task == "count":
            return self._inner
        if call.task != "chat":
            raise refuse("unsupported", "a technique needs a chat call", param="loam.technique")
        model = self._inner
        for options in reversed(wishes(wish)):
            _, build = TECHNIQUES[options.__struct_config__.tag]
            model = build(model, options, self._around)
        return model


def wishes(wish: Wish | list[Wish]) -> list[Any]:
    """The options of each technique that is wished for, outermost first. Raises ModelFailure (bad_request)."""
    return [options_of(one) for one in (wish if isinstance(wish, list) else [wish])]


def options_of(wish: Wish) -> Any:
    fields = {"name": wish} if isinstance(wish, str) else wish
    name = fields.get("name")
    if not isinstance(name, str) or name not in TECHNIQUES:
        known = ", ".join(TECHNIQUES)
        raise refuse("bad_request", f"no technique is called {name!r}; there are: {known}", param="loam.technique.name")
    try:
        return msgspec.convert(fields, TECHNIQUES[name][0], strict=False)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        param = f"loam.technique{place.rstrip('`')}"
        raise refuse("bad_request", f"{param}: {message}", param=param) from error
