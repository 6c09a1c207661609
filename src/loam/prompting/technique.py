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
from loam.prompting import chain_of_thought, few_shot, react, self_consistency, structured, zero_shot
from loam.prompting.around import NOTHING, Around
from loam.prompting.purse import capped


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
    structured.NAME: (structured.Options, structured.Structured),
    react.NAME: (react.Options, react.ReAct),
}
"""A row a technique: what it may be told, and how it is put around a model."""


class Techniques:
    """Stands inside the cache and before grounding, so that each inner call is grounded, routed and paid by itself."""

    def __init__(self, inner: Model, around: Around = NOTHING) -> None:
        self._inner = inner
        self._around = around

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        wish = call.controls.technique
        if not wish and call.output is None:
            return self._inner.answer(call)
        try:
            model = self._built(wish or [], call)
        except ModelFailure as error:
            return refused(error)
        return model.answer(structs.replace(call, controls=structs.replace(call.controls, technique=None)))

    def _built(self, wish: Wish | list[Wish], call: Call) -> Model:
        if call.task == "count":
            return self._inner
        if call.task != "chat":
            raise refuse("unsupported", "a technique needs a chat call", param="loam.technique")
        model = self._inner
        techniques = ordered(wishes(wish), formed=call.output is not None)
        for options in techniques:  # a cap counts every call that is really made, however deep
            model = _within(options, model, self._around)
        for options in reversed(techniques):
            _, build = TECHNIQUES[options.__struct_config__.tag]
            model = build(model, _uncapped(options), self._around)
        return model


_CAPS = ("max_cost_usd", "max_tokens")


def _within(options: Any, model: Model, around: Around) -> Model:
    money, tokens = (getattr(options, name, None) for name in _CAPS)
    return capped(model, money, tokens, around.quote)


def _uncapped(options: Any) -> Any:
    return structs.replace(options, **{name: None for name in _CAPS if getattr(options, name, None) is not None})


def ordered(options: list[Any], *, formed: bool) -> list[Any]:
    """The techniques of a call, outermost first.

    Where the answer has a form, it is checked innermost, so that each sample of a vote fits; and a chain of thought is
    then the first of two passes, since reasoning has no place in the form. ReAct stands inside all of them: a turn of
    it has a thought of its own, and the form is that of the answer in the turn.
    """
    act = [one for one in options if isinstance(one, react.Options)][:1]
    if act:
        options = [one for one in options if not isinstance(one, (react.Options, chain_of_thought.Options))]
    form = next((one for one in options if isinstance(one, structured.Options)), None)
    if form is None and not formed:
        return options + act
    form = form or structured.Options()
    if any(isinstance(one, chain_of_thought.Options) for one in options):
        form = structs.replace(form, two_pass=True)
    rest = [one for one in options if not isinstance(one, (structured.Options, chain_of_thought.Options))]
    return [*rest, form, *act]


def technique(model: Model, wish: Wish, around: Around = NOTHING) -> Model:
    """One technique around a model, for whoever holds one. Raises ModelFailure (bad_request) for options it lacks."""
    options = options_of(wish)
    _, build = TECHNIQUES[options.__struct_config__.tag]
    return build(model, options, around)


def wishes(wish: Wish | list[Wish]) -> list[Any]:
    """The options of each technique that is wished for, outermost first. Raises ModelFailure (bad_request).

    Each stands once: votes on votes would multiply calls without end.
    """
    found: list[Any] = []
    for one in wish if isinstance(wish, list) else [wish]:
        options = options_of(one)
        if any(type(options) is type(other) for other in found):
            name = options.__struct_config__.tag
            raise refuse("bad_request", f"{name} stands twice in the list; each technique once", param="loam.technique")
        found.append(options)
    return found


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
