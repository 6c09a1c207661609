"""The budget stage: what is held, what is charged for each way a call can end, and what the trace then says."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Delta, Head, Sampling, Target, Tool, ToolDelta, Usage
from loam.core.errors import Failure
from loam.core.messages import Image, Message, say
from loam.core.ports import Model
from loam.core.tokens import upper_bound
from loam.gateway.allowances import MIGRATIONS, Allowances, NewAllowance, Standing
from loam.gateway.backoff import RetrySettings
from loam.gateway.budget import Budget, BudgetSettings
from loam.gateway.retry import Retry
from loam.planners.prices import PriceBook, PriceOverride
from loam.storage.database import Database
from tests.gateway.still import StillClock
from tests.gateway.virtual import Scripted, Step, failure, hear

pytestmark = pytest.mark.anyio

PRICES = PriceBook.load(
    (PriceOverride(model="m", input=Decimal(1), output=Decimal(2), cache_write=Decimal("1.25")),), free={"scripted"}
)
MUCH = NewAllowance(scope="all", period="month", money=1_000_000_000, tokens=1_000_000_000)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def allowances(tmp_path: Path, clock: StillClock) -> AsyncIterator[Allowances]:
    database = await Database.open(tmp_path / "loam.db", MIGRATIONS)
    yield await Allowances.open(database, clock)
    await database.close()


def stage(inner: Model, allowances: Allowances, **settings: Any) -> Budget:
    return Budget(inner, allowances, PRICES, StillClock(), BudgetSettings(**settings))


def retried(allowances: Allowances, *scripts: list[Step], attempts: int = 3) -> Budget:
    retry = Retry(Scripted(*scripts), StillClock(), lambda: 0.5, RetrySettings(attempts=attempts))
    return stage(retry, allowances)


def ask(**fields: Any) -> Call:
    given = {"id": "c", "model": "m", "messages": (say("user", "Hello there"),), "target": Target("p", "m")}
    return Call(**{**given, "sampling": Sampling(max_tokens=100), **fields})


async def standing(allowances: Allowances) -> Standing:
    (state,) = allowances.standing(allowances.all()[0].id)
    return state


TOLD = [Delta(text="Hi"), Delta(finish="stop"), Delta(usage=Usage(input=40, output=30))]


async def test_without_a_budget_the_cost_is_counted_and_nothing_else_changes(allowances: Allowances) -> None:
    inner = Scripted(TOLD)
    call = ask(sampling=Sampling())
    heard = await hear(stage(inner, allowances), call)
    assert heard.deltas == TOLD
    assert inner.calls == [call]
    assert call.trace.cost == 40 + 60
    assert call.trace.price_version == "loam.toml"
    assert call.trace.reserved == 0
    assert call.trace.pending == []
    assert call.trace.may_retry is None


async def test_a_call_holds_its_worst_case_and_is_settled_at_what_it_cost(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    stream = stage(Scripted(TOLD), allowances).answer(call)
    await anext(stream)
    bound = upper_bound(call)
    held = await standing(allowances)
    assert held.reserved == call.trace.reserved == -(-bound * 5 // 4) + 200
    assert held.reserved_tokens == bound + 100
    async for _ in stream:
        pass
    done = await standing(allowances)
    assert (done.reserved, done.reserved_tokens, done.spent, done.spent_tokens) == (0, 0, 100, 70)


async def test_the_reservation_is_on_its_way_to_disk_before_anybody_is_asked(allowances: Allowances) -> None:
    await allowances.create(MUCH)

    class Asked:
        pending = 0

        async def answer(self, call: Call) -> Any:
            self.pending = len(call.trace.pending)
            yield Delta(text="x")

    inner = Asked()
    await collect(stage(inner, allowances).answer(ask()))
    assert inner.pending == 1


@pytest.mark.parametrize(
    ("sampling", "task", "sent"),
    [
        (Sampling(), "chat", 4096),
        (Sampling(thinking_budget=10_000), "chat", 14_096),
        (Sampling(max_tokens=7), "chat", 7),
        (Sampling(), "embed", None),
    ],
)
async def test_under_a_budget_every_answer_has_a_longest_length(
    allowances: Allowances, sampling: Sampling, task: Any, sent: int | None
) -> None:
    await allowances.create(MUCH)
    inner = Scripted(TOLD)
    await collect(stage(inner, allowances).answer(ask(sampling=sampling, task=task)))
    assert inner.calls[0].sampling.max_tokens == sent


@pytest.mark.parametrize(
    ("fields", "times", "answers"),
    [
        ({"sampling": Sampling(max_tokens=10, n=3)}, 3, 30),
        ({"sampling": Sampling(max_tokens=10), "extra": {"best_of": 4}, "task": "complete"}, 4, 40),
        ({"sampling": Sampling(max_tokens=10), "inputs": ("a", "b"), "task": "complete"}, 1, 20),
        ({"inputs": ("a", "b"), "task": "embed"}, 1, 0),
    ],
)
async def test_every_answer_that_may_be_drawn_is_held(
    allowances: Allowances, fields: dict[str, Any], times: int, answers: int
) -> None:
    await allowances.create(MUCH)
    call = ask(**fields)
    stream = stage(Scripted(TOLD), allowances).answer(call)
    await anext(stream)
    assert (await standing(allowances)).reserved_tokens == upper_bound(call) * times + answers
    await stream.aclose()


async def test_a_full_budget_refuses_before_anybody_is_asked(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="all", period="day", money=100))
    inner = Scripted(TOLD)
    heard = await hear(stage(inner, allowances), ask())
    assert heard.failure is not None
    assert heard.failure.kind == "budget"
    assert inner.calls == []


async def test_counting_tokens_costs_nothing(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="all", period="day", money=0))
    assert (await hear(stage(Scripted(TOLD), allowances), ask(task="count"))).failure is None


# Prices


async def test_an_unknown_price_is_a_warning_and_no_cost(allowances: Allowances) -> None:
    call = ask(target=Target("p", "nameless"))
    await hear(stage(Scripted(TOLD), allowances), call)
    assert call.trace.cost is None
    assert "p/nameless" in call.trace.warnings[0]


async def test_what_the_provider_says_it_cost_stands_in_for_an_unknown_price(allowances: Allowances) -> None:
    call = ask(target=Target("p", "nameless"))
    await hear(stage(Scripted([Delta(text="x"), Delta(usage=Usage(input=1, provider_cost=77))]), allowances), call)
    assert call.trace.cost == 77
    assert call.trace.price_version == "provider"


async def test_an_unknown_price_is_refused_where_a_setting_or_a_budget_needs_it(allowances: Allowances) -> None:
    call = ask(target=Target("p", "nameless"))
    for settings, budget in (({"unknown_price": "refuse"}, None), ({}, MUCH)):
        if budget is not None:
            await allowances.create(budget)
        heard = await hear(stage(Scripted(TOLD), allowances, **settings), call)
        assert heard.failure is not None
        assert heard.failure.code == "unknown_price"
        assert heard.failure.http_status == 400
        assert "[[prices]]" in heard.failure.message


async def test_a_budget_in_tokens_needs_no_price(allowances: Allowances) -> None:
    await allowances.create(NewAllowance(scope="all", period="day", tokens=10_000))
    heard = await hear(stage(Scripted(TOLD), allowances), ask(target=Target("p", "nameless")))
    assert heard.failure is None
    assert (await standing(allowances)).spent_tokens == 70


async def test_a_free_provider_costs_nothing_and_says_so(allowances: Allowances) -> None:
    call = ask(target=Target("scripted", "any"))
    await hear(stage(Scripted(TOLD), allowances), call)
    assert (call.trace.cost, call.trace.price_version) == (0, "free")


# Usage


async def test_an_answer_without_usage_is_counted_and_told_as_an_estimate(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    heard = await hear(stage(Scripted([Delta(text="one two three "), Delta(finish="stop")]), allowances), call)
    usage = heard.deltas[-1].usage
    assert usage is not None
    assert usage.estimated
    assert usage.input == call.trace.counted_input > 0
    assert usage.output == call.trace.counted_output > 0
    assert call.trace.cost == usage.input + 2 * usage.output
    assert (await standing(allowances)).spent == call.trace.cost


async def test_everything_a_model_says_is_counted(allowances: Allowances) -> None:
    call = ask()
    said = [
        Delta(thinking="I think that I am"),
        Delta(tool=ToolDelta(0, "id", "look_up", '{"what": "a thing"}')),
        Delta(refusal="I would rather not"),
        Delta(text="Hello"),
    ]
    for delta in said:
        alone = ask()
        await hear(stage(Scripted([delta]), allowances), alone)
        assert alone.trace.counted_output > 0
    await hear(stage(Scripted(said), allowances), call)
    assert call.trace.counted_output > 15


async def test_the_tier_that_the_provider_names_sets_the_price(allowances: Allowances) -> None:
    budget = Budget(
        Scripted([Delta(head=Head(service_tier="priority")), *TOLD]), allowances, PRICES, StillClock(), BudgetSettings()
    )
    call = ask(target=Target("openai", "gpt-4.1"))
    await hear(budget, call)
    price = PRICES.find("openai", "gpt-4.1")
    assert price is not None
    assert call.trace.cost == price.cost(Usage(input=40, output=30), tier="priority", now=StillClock().now())


async def test_figures_that_are_far_apart_are_told(allowances: Allowances) -> None:
    call = ask()
    await hear(stage(Scripted([Delta(text="Hi"), Delta(usage=Usage(input=500, output=600))]), allowances), call)
    assert len(call.trace.warnings) == 2
    assert "500" in call.trace.warnings[0]
    assert "600" in call.trace.warnings[1]


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        ({}, Usage(input=40, output=30)),
        ({"messages": (Message("user", (Image(url="u"),)),)}, Usage(input=500, output=2)),
        ({"tools": (Tool("t"),)}, Usage(input=500, output=2)),
        ({}, Usage(input=20, output=602, reasoning=600)),
    ],
)
async def test_figures_that_cannot_be_compared_are_not(
    allowances: Allowances, fields: dict[str, Any], usage: Usage
) -> None:
    call = ask(**fields)
    await hear(stage(Scripted([Delta(text="Hi"), Delta(usage=usage)]), allowances), call)
    assert call.trace.warnings == []


async def test_a_cost_above_the_reservation_is_recorded_truly_and_told(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    await hear(stage(Scripted([Delta(text="Hi"), Delta(usage=Usage(input=20, output=90_000))]), allowances), call)
    assert (await standing(allowances)).spent == call.trace.cost == 20 + 180_000
    assert any("more than was reserved" in warning for warning in call.trace.warnings)


# Ends other than a whole answer


async def test_a_client_that_leaves_is_charged_what_was_sent_at_once(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    inner = Scripted([Delta(text="one two three four "), Delta(text="never heard")])
    stream = stage(inner, allowances).answer(call)
    await anext(stream)
    await stream.aclose()
    assert inner.closed == 1
    assert call.trace.counted_output == 4
    state = await standing(allowances)
    assert state.reserved == 0
    assert state.spent == call.trace.cost == call.trace.counted_input + 2 * 4


async def test_a_client_that_leaves_is_charged_the_prompt_that_the_provider_told(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    stream = stage(
        Scripted([Delta(usage=Usage(input=33, output=1)), Delta(text="one two three four ")]), allowances
    ).answer(call)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert call.trace.cost == 33 + 2 * 4


@pytest.mark.parametrize("kind", ["rate_limit", "server", "bad_request", "overloaded"])
async def test_a_refusal_of_the_provider_costs_nothing(allowances: Allowances, kind: Any) -> None:
    await allowances.create(MUCH)
    call = ask()
    heard = await hear(retried(allowances, [failure(kind, status=500)]), call)
    assert heard.failure is not None
    state = await standing(allowances)
    assert (state.spent, state.reserved) == (0, 0)
    assert call.trace.cost == 0
    assert all(attempt.cost == 0 for attempt in call.trace.attempts)


@pytest.mark.parametrize("kind", ["timeout", "connection", "truncated", "malformed"])
async def test_an_attempt_that_may_be_billed_is_charged_its_prompt(allowances: Allowances, kind: Any) -> None:
    await allowances.create(MUCH)
    call = ask()
    heard = await hear(retried(allowances, [failure(kind)], TOLD), call)
    assert heard.failure is None
    prompt = call.trace.counted_input
    assert [attempt.cost for attempt in call.trace.attempts] == [prompt, 100]
    assert [attempt.input_tokens for attempt in call.trace.attempts] == [prompt, 40]
    assert (await standing(allowances)).spent == call.trace.cost == prompt + 100


async def test_an_error_status_is_not_billed_whatever_its_kind(allowances: Allowances) -> None:
    call = ask()
    await hear(retried(allowances, [failure("timeout", status=504)], attempts=1), call)
    assert call.trace.cost == 0


async def test_a_request_that_never_left_is_not_billed(allowances: Allowances) -> None:
    call = ask()
    await hear(retried(allowances, [failure("connection", sent=False)], attempts=2), call)
    assert [attempt.cost for attempt in call.trace.attempts] == [0, 0]
    assert call.trace.cost == 0


async def test_an_answer_that_breaks_off_is_charged_what_was_heard(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    call = ask()
    broken = [Delta(text="one two three four "), failure("truncated")]
    heard = await hear(retried(allowances, [failure("timeout")], broken), call)
    assert heard.failure is not None
    prompt = call.trace.counted_input
    assert [attempt.cost for attempt in call.trace.attempts] == [prompt, prompt + 8]
    state = await standing(allowances)
    assert (state.spent, state.reserved) == (2 * prompt + 8, 0)


async def test_a_retry_that_no_budget_has_room_for_is_not_made(allowances: Allowances) -> None:
    call = ask()
    worst = -(-upper_bound(call) * 5 // 4) + 200
    await allowances.create(NewAllowance(scope="all", period="day", money=worst))
    inner = Scripted([failure("timeout")], TOLD)
    heard = await hear(stage(Retry(inner, StillClock(), lambda: 0.5, RetrySettings(attempts=3)), allowances), call)
    assert heard.failure is not None
    assert len(inner.calls) == 1
    assert any("no room for one more" in warning for warning in call.trace.warnings)
    assert (await standing(allowances)).spent == call.trace.counted_input


async def test_a_call_that_failed_at_one_target_adds_up_with_the_next(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    budget = retried(allowances, [failure("timeout")], TOLD, attempts=1)
    call = ask()
    assert (await hear(budget, call)).failure is not None
    assert (await hear(budget, call)).failure is None
    assert call.trace.cost == call.trace.counted_input + 100
    assert (await standing(allowances)).spent == call.trace.cost


# Tools that the provider runs


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (Tool("", wire=msgspec.Raw(b'{"type":"web_search_20250305","name":"web_search"}')),)},
        {"tools": (Tool("", wire=msgspec.Raw(b'{"googleSearch":{}}')),)},
        {"extra": {"web_search_options": {}}},
    ],
)
async def test_a_tool_that_the_provider_runs_is_refused_under_a_budget_alone(
    allowances: Allowances, fields: dict[str, Any]
) -> None:
    call = ask(**fields)
    assert (await hear(stage(Scripted(TOLD), allowances), call)).failure is None
    await allowances.create(MUCH)
    found: Failure | None = (await hear(stage(Scripted(TOLD), allowances), call)).failure
    assert found is not None
    assert found.code == "unbounded_cost"
    assert (await hear(stage(Scripted(TOLD), allowances, server_tools="allow"), call)).failure is None


async def test_a_tool_that_the_client_runs_is_not(allowances: Allowances) -> None:
    await allowances.create(MUCH)
    own = Tool("", wire=msgspec.Raw(b'{"type":"computer_20250124","name":"computer"}'))
    assert (await hear(stage(Scripted(TOLD), allowances), ask(tools=(own, Tool("f"))))).failure is None
