"""The route stage: a model's name becomes the chain of targets that may answer.

Knows names: routes, providers, their models and the prefixes they own. Asks nobody whether a target is well.
Invariant: the same name resolves to the same chain for as long as the table lives.
"""

import difflib
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.answers import refused
from loam.core.calls import Call, Delta, Target
from loam.core.clock import Clock
from loam.core.errors import ModelFailure, SettingsError, refuse
from loam.core.ports import Model

_REMEMBERED = 4_096  # clients name models, so the memory of resolved names is bounded


class RouteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    chain: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1, description="Who may answer, in this order: provider/model, or a model that a provider lists."
        ),
    ]
    deadline: Annotated[
        float | None,
        Meta(description="Seconds a call on this route may take in all, where that is less than http.deadline."),
    ] = None


class Resolved(Struct, frozen=True):
    """What a name stands for: where the call may go, how long it may take, and what the client should know of it."""

    chain: tuple[Target, ...]
    names: tuple[str, ...]
    deadline: float | None = None
    remark: str = ""


class RouteTable:
    """All names and what they stand for.

    `providers` maps each configured provider to the models it lists, `owns` to the prefixes of the model names that
    are its own. A provider in `closed` has no other models than those it lists; one in `aside` answers to its own name
    only and never to a name that nothing claims. `default` is the route or target of such names. Raises SettingsError
    for a chain that names nothing.
    """

    def __init__(
        self,
        routes: Mapping[str, RouteSettings],
        *,
        providers: Mapping[str, tuple[str, ...]],
        owns: Mapping[str, tuple[str, ...]],
        closed: tuple[str, ...] = (),
        aside: tuple[str, ...] = (),
        default: str = "",
    ) -> None:
        self._providers = providers
        self._named = tuple(provider for provider in providers if provider not in closed)
        self._open = tuple(provider for provider in self._named if provider not in aside)
        self._listed = {model: provider for provider in reversed(tuple(providers)) for model in providers[provider]}
        self._prefixes = sorted(
            ((prefix, provider) for provider in providers for prefix in owns.get(provider, ())),
            key=lambda owned: -len(owned[0]),
        )
        self._routes = {
            name: _resolved(self._chain(f"routes.{name}", route.chain), route.deadline)
            for name, route in routes.items()
        }
        self._default = self._claimed(default) if default else None
        if default and self._default is None:
            raise SettingsError(f"default_route names {default!r}, which no route and no provider answers to")
        self._known: dict[str, Resolved] = {}

    def resolve(self, model: str) -> Resolved:
        """What `model` stands for. Raises ModelFailure (not_found) with the names that come near."""
        known = self._known.get(model)
        if known is None:
            known = self._claimed(model) or self._rest(model)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[model] = known
        return known

    def names(self) -> tuple[str, ...]:
        """Every name worth showing: routes, then listed models, by provider where the bare name is another's."""
        listed = (
            model if self._listed[model] == provider else f"{provider}/{model}"
            for provider, models in self._providers.items()
            for model in models
        )
        return tuple(dict.fromkeys([*self._routes, *listed]))

    def target(self, name: str) -> Target | None:
        """The one target that a name other than a route's stands for."""
        provider, slash, model = name.partition("/")
        if slash and model and (provider in self._named or model in self._providers.get(provider, ())):
            return Target(provider, model)
        owner = self._listed.get(name) or next((who for prefix, who in self._prefixes if name.startswith(prefix)), None)
        return Target(owner, name) if owner else None

    def chains(self, place: str, chains: Mapping[str, tuple[str, ...]]) -> dict[Target, tuple[Target, ...]]:
        """Resolves a table of targets and their substitutes, for `place` in the settings. Raises SettingsError."""
        return {self._target(place, name): self._chain(f"{place}.{name}", chain) for name, chain in chains.items()}

    def _chain(self, place: str, entries: tuple[str, ...]) -> tuple[Target, ...]:
        return tuple(dict.fromkeys(self._target(place, entry) for entry in entries))

    def _target(self, place: str, entry: str) -> Target:
        target = self.target(entry) or self._only(entry)
        if target is None:
            known = ", ".join(self._providers) or "none is configured"
            raise SettingsError(f"[{place}] names {entry!r}; write provider/model (providers: {known})")
        return target

    def _claimed(self, model: str) -> Resolved | None:
        route = self._routes.get(model)
        if route is not None:
            return route
        target = self.target(model)
        return None if target is None else _resolved([target])

    def _only(self, model: str) -> Target | None:
        return Target(self._open[0], model) if model and len(self._open) == 1 else None

    def _rest(self, model: str) -> Resolved:
        if self._default is not None:
            remark = f"nothing here is called {model!r}; the default route answered" if model else ""
            return structs.replace(self._default, remark=remark)
        only = self._only(model)
        if only is not None:
            return _resolved([only])
        raise refuse("not_found", self._unknown(model), param="model", code="model_not_found")

    def _unknown(self, model: str) -> str:
        names = self.names()
        if not self._open:
            there = f" (without one there are: {', '.join(names)})" if names else ""
            return f"no provider is configured; set a provider's API key in the environment, or [providers]{there}"
        near = difflib.get_close_matches(model, names, 3)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"there are: {', '.join(names[:20]) or 'no listed models'}"
        )
        return (
            f"no model is called {model!r}; {hint} (or write provider/model; providers: {', '.join(self._providers)})"
        )


def _resolved(chain: Iterable[Target], deadline: float | None = None) -> Resolved:
    targets = tuple(chain)
    return Resolved(targets, tuple(map(str, targets)), deadline)


class Route:
    """Gives each call its chain: the model's own, then the fallbacks that the client named."""

    def __init__(self, inner: Model, table: RouteTable, clock: Clock) -> None:
        self._inner = inner
        self._table = table
        self._clock = clock

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        try:
            resolved = self._table.resolve(call.model)
            if call.controls.fallbacks:
                resolved = self._with(resolved, call.controls.fallbacks)
        except ModelFailure as error:
            return refused(error)
        trace = call.trace
        trace.route = [*resolved.names]
        trace.model = resolved.names[0]
        if resolved.remark:
            trace.warn(resolved.remark)
        deadline = call.deadline
        if resolved.deadline is not None:
            until = self._clock.monotonic() + resolved.deadline
            deadline = until if deadline is None else min(deadline, until)
        chain = resolved.chain
        return self._inner.answer(structs.replace(call, chain=chain, target=chain[0], deadline=deadline))

    def _with(self, resolved: Resolved, fallbacks: tuple[str, ...]) -> Resolved:
        more = (target for name in fallbacks for target in self._table.resolve(name).chain)
        whole = _resolved(dict.fromkeys((*resolved.chain, *more)))
        return structs.replace(resolved, chain=whole.chain, names=whole.names)
