"""Names and what they stand for."""

import pytest

from loam.core.calls import Call, Controls, Target
from loam.core.errors import ModelFailure, SettingsError
from loam.gateway.route import Route, RouteSettings, RouteTable
from tests.gateway.virtual import LoopClock, Scripted, call, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio

PROVIDERS = {"alpha": ("alpha-large", "shared"), "beta": ("beta-1", "shared"), "gamma": ()}
OWNS = {"alpha": ("al",), "gamma": ("alp-special", "gam-")}
ROUTES = {
    "fast": RouteSettings(chain=("alpha/small", "beta-1", "alpha/small")),
    "timed": RouteSettings(chain=("beta-1",), deadline=5.0),
}


def table(default: str = "") -> RouteTable:
    return RouteTable(ROUTES, providers=PROVIDERS, owns=OWNS, default=default)


@pytest.mark.parametrize(
    ("model", "chain"),
    [
        ("fast", ("alpha/small", "beta/beta-1")),
        ("alpha/anything", ("alpha/anything",)),
        ("beta/org/model:tag", ("beta/org/model:tag",)),
        ("beta-1", ("beta/beta-1",)),
        ("shared", ("alpha/shared",)),
        ("alpaca", ("alpha/alpaca",)),
        ("alp-special-7", ("gamma/alp-special-7",)),
        ("gam-2", ("gamma/gam-2",)),
    ],
    ids=["route", "provider/model", "slashes", "listed", "listed twice", "prefix", "longest prefix", "other prefix"],
)
def test_a_name_stands_for_a_chain(model: str, chain: tuple[str, ...]) -> None:
    resolved = table().resolve(model)
    assert tuple(map(str, resolved.chain)) == resolved.names == chain


def test_the_same_name_is_looked_up_once() -> None:
    made = table()
    assert made.resolve("alpha/x") is made.resolve("alpha/x")


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    made = table()
    kept = made.resolve("fast").chain
    for number in range(10_000):
        made.resolve(f"alpha/{number}")
    assert made.resolve("fast").chain == kept
    assert len(made._known) <= 4_096


@pytest.mark.parametrize("model", ["fats", "beta-2", "beta/", "/x", "delta/x", ""])
def test_an_unknown_name_is_refused(model: str) -> None:
    with pytest.raises(ModelFailure) as refusal:
        table().resolve(model)
    assert refusal.value.failure.kind == "not_found"
    assert (refusal.value.failure.param, refusal.value.failure.code) == ("model", "model_not_found")


def test_the_refusal_names_what_comes_near() -> None:
    with pytest.raises(ModelFailure, match=r"no model is called 'fats'; did you mean 'fast'\?"):
        table().resolve("fats")
    with pytest.raises(ModelFailure, match=r"there are: fast, timed, alpha-large.*providers: alpha, beta, gamma"):
        table().resolve("zzzzzz")


def test_a_default_takes_what_nothing_claims_and_says_so() -> None:
    resolved = table(default="fast").resolve("zzzzzz")
    assert resolved.names == ("alpha/small", "beta/beta-1")
    assert "'zzzzzz'" in resolved.remark
    assert table(default="fast").resolve("").remark == ""
    assert table(default="gamma/x").resolve("zzzzzz").names == ("gamma/x",)


def test_the_only_provider_takes_every_name() -> None:
    only = RouteTable({}, providers={"local": ()}, owns={})
    assert only.resolve("llama3:8b").chain == (Target("local", "llama3:8b"),)
    assert only.resolve("org/llama").chain == (Target("local", "org/llama"),)
    with pytest.raises(ModelFailure):
        only.resolve("")


def test_a_closed_provider_has_what_it_lists_and_nothing_else() -> None:
    made = RouteTable({}, providers={"local": (), "house": ("reader",)}, owns={}, closed=("house",))
    assert made.resolve("house/reader").chain == made.resolve("reader").chain == (Target("house", "reader"),)
    assert made.resolve("anything").chain == (Target("local", "anything"),)
    alone = RouteTable({}, providers={"house": ("reader",)}, owns={}, closed=("house",))
    for model in ("house/other", "other"):
        with pytest.raises(ModelFailure, match=r"no provider is configured.*there are: reader"):
            alone.resolve(model)


def test_without_a_provider_the_refusal_says_what_to_do() -> None:
    with pytest.raises(ModelFailure, match="no provider is configured; set a provider's API key"):
        RouteTable({}, providers={}, owns={}).resolve("anything")


def test_settings_that_name_nothing_are_refused_at_once() -> None:
    with pytest.raises(SettingsError, match=r"\[routes.bad\] names 'nowhere'"):
        RouteTable({"bad": RouteSettings(chain=("nowhere",))}, providers=PROVIDERS, owns={})
    with pytest.raises(SettingsError, match="default_route names 'nowhere'"):
        table(default="nowhere")
    with pytest.raises(SettingsError, match=r"\[fallback.context_fallbacks.beta-1\] names 'nowhere'"):
        table().chains("fallback.context_fallbacks", {"beta-1": ("nowhere",)})


def test_a_table_of_substitutes_is_resolved() -> None:
    chains = table().chains("fallback.context_fallbacks", {"beta-1": ("alpha/long", "gam-long")})
    assert chains == {Target("beta", "beta-1"): (Target("alpha", "long"), Target("gamma", "gam-long"))}


def test_every_name_is_shown_once() -> None:
    assert table().names() == ("fast", "timed", "alpha-large", "shared", "beta-1", "beta/shared")


async def routed(**fields: object) -> Call:
    model = Scripted(text("Hello"))
    heard = await hear(Route(model, table(default="fast"), LoopClock()), call(target=None, **fields))
    assert heard.text == "Hello"
    return model.calls[0]


async def test_a_call_gets_its_chain_and_the_trace_is_told() -> None:
    asked = await routed(model="fast")
    assert asked.chain == (Target("alpha", "small"), Target("beta", "beta-1"))
    assert asked.target == Target("alpha", "small")
    assert asked.trace.route == ["alpha/small", "beta/beta-1"]
    assert asked.trace.model == "alpha/small"
    assert asked.model == "fast"


async def test_a_client_names_its_own_fallbacks() -> None:
    asked = await routed(model="beta-1", controls=Controls(fallbacks=("gamma/x", "fast")))
    assert [str(target) for target in asked.chain] == ["beta/beta-1", "gamma/x", "alpha/small"]


async def test_the_default_route_is_remarked_on() -> None:
    asked = await routed(model="zzzzzz", controls=Controls(fallbacks=("gamma/x",)))
    assert asked.trace.warnings == ["nothing here is called 'zzzzzz'; the default route answered"]


@pytest.mark.parametrize(
    ("model", "deadline", "expected"),
    [("timed", None, 5.0), ("timed", 3.0, 3.0), ("timed", 60.0, 5.0), ("fast", 60.0, 60.0)],
)
async def test_a_routes_deadline_only_shortens(model: str, deadline: float | None, expected: float) -> None:
    now = LoopClock().monotonic()
    asked = await routed(model=model, deadline=None if deadline is None else now + deadline)
    assert asked.deadline == now + expected


async def test_an_unknown_name_fails_when_the_stream_is_read() -> None:
    route = Route(Scripted(text("Hello")), table(), LoopClock())
    stream = route.answer(call(model="zzzzzz"))
    with pytest.raises(ModelFailure, match="no model is called"):
        await anext(stream)
