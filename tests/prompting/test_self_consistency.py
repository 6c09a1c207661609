"""Votes over samples: what is drawn, what is delivered, what is told, and that nothing is left running."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from loam.core.answers import collect, deltas_of
from loam.core.calls import Answer, Call, Choice, Delta, Sampling, Usage
from loam.core.errors import Failure, ModelFailure
from loam.core.messages import Text
from loam.prompting.around import Around
from loam.prompting.self_consistency import Options, SelfConsistency
from tests.gateway.virtual import HANG, Scripted, call, failure, hear, text, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio


async def vote(answers: Sequence[Any], around: Around | None = None, **options: Any) -> tuple[Answer, Scripted]:
    model = Scripted(*[[one] if isinstance(one, Failure) else text(one) for one in answers])
    voting = SelfConsistency(model, Options(**options), around or Around())
    return await collect(voting.answer(call())), model


def report(answer: Answer) -> dict[str, Any]:
    (done,) = [step.details for step in answer.steps if step.event == "done"]
    return done


async def test_the_majority_wins_and_three_of_five_are_enough() -> None:
    answer, model = await vote(["A: 7", "so 7", "It is 7.0", "A: 8", "A: 9"], n=5, normalise="number")
    assert (answer.text, len(model.calls)) == ("A: 7", 3)
    told = report(answer)
    assert told["votes"] == [{"answer": "7", "count": 3, "samples": (0, 1, 2)}]
    assert (told["share"], told["samples_used"], told["stopped"], told["tie"]) == (1.0, 3, "decided", False)
    assert answer.usage == Usage(input=9, output=3)
    assert [step.event for step in answer.steps] == ["sample"] * 3 + ["done"]


async def test_it_draws_on_only_as_long_as_the_leader_can_be_overtaken() -> None:
    answer, model = await vote(["7", "8", "7", "7", "9"], n=5)
    assert (answer.text, len(model.calls)) == ("7", 4)
    assert report(answer)["share"] == 0.75


async def test_samples_are_drawn_at_the_same_time_and_differ() -> None:
    model = Scripted([1.0, *text("7")])
    start = asyncio.get_running_loop().time()
    await collect(SelfConsistency(model, Options(n=5)).answer(call(sampling=Sampling(temperature=0.0, seed=10))))
    assert asyncio.get_running_loop().time() - start == pytest.approx(1.0)
    assert [asked.sampling.temperature for asked in model.calls] == [0.7] * 3
    assert [asked.sampling.seed for asked in model.calls] == [10, 11, 12]


async def test_where_one_prompt_may_have_several_answers_they_are_asked_for_at_once() -> None:
    class Several:
        def __init__(self) -> None:
            self.asked: list[int] = []

        async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
            self.asked.append(call.sampling.n)
            choices = tuple(Choice((Text("7"),), "stop") for _ in range(call.sampling.n))
            for delta in deltas_of(Answer(choices, Usage(input=3, output=call.sampling.n))):
                yield delta

    model = Several()
    answer = await collect(SelfConsistency(model, Options(n=9), Around(draws=lambda _: 4)).answer(call()))
    assert model.asked == [4, 1]
    assert answer.usage == Usage(input=6, output=5)
    assert len(answer.choices) == 1


async def test_ties_and_the_unparseable_are_told() -> None:
    answer, _ = await vote(["7", "dunno", "8", "8", "7"], n=5, normalise="number", stop="none")
    told = report(answer)
    assert (answer.text, told["tie"], told["unparseable"], told["agreed"]) == ("7", True, 1, False)
    answer, _ = await vote(["dunno", "no idea", "none"], n=3, normalise="number")
    assert (answer.text, report(answer)["votes"], report(answer)["share"]) == ("dunno", [], 0.0)


async def test_a_failed_sample_ends_the_drawing_and_not_the_answer() -> None:
    answer, model = await vote(["7", failure("server"), "7"], n=5)
    assert (answer.text, len(model.calls)) == ("7", 3)
    assert (report(answer)["failed"], report(answer)["stopped"]) == (1, "failure")
    with pytest.raises(ModelFailure) as raised:
        await vote([failure("quota")], n=5)
    assert raised.value.failure.kind == "quota"


async def test_a_cap_in_money_is_never_exceeded() -> None:
    around = Around(quote=lambda _: 4_000)
    answer, model = await vote(["7", "8", "9", "7", "7"], around, n=5, max_cost_usd=0.01)
    assert (len(model.calls), report(answer)["stopped"]) == (2, "cap")
    with pytest.raises(ModelFailure) as raised:
        await vote(["7"], around, n=5, max_cost_usd=0.003)
    assert (raised.value.failure.kind, raised.value.failure.code) == ("budget", "technique_cap")
    with pytest.raises(ModelFailure) as raised:
        await vote(["7"], n=5, max_cost_usd=0.01)
    assert raised.value.failure.code == "unknown_price"


async def test_answers_of_one_meaning_are_one_class() -> None:
    async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [[1.0, 0.0] if "rain" in text or "wet" in text else [0.0, 1.0] for text in texts]

    answer, _ = await vote(
        ["it will rain", "sunny", "a wet day"], Around(embed=embed), n=3, normalise="cluster", stop="none"
    )
    assert [one["count"] for one in report(answer)["votes"]] == [2, 1]
    with pytest.raises(ModelFailure, match="encoder"):
        await vote(["a"], n=3, normalise="cluster")

    async def same(one: str, other: str) -> bool:
        return one[0] == other[0]

    answer, _ = await vote(["sun", "rain", "shine"], Around(embed=embed, same=same), n=3, normalise="cluster")
    assert report(answer)["votes"][0] == {"answer": "sun", "count": 2, "samples": (0, 2)}


async def test_attempts_and_cost_of_every_sample_are_on_the_calls_bill() -> None:
    class Priced(Scripted):
        async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
            call.trace.cost, call.trace.model = 5, "p/m"
            async for delta in super().answer(call):
                yield delta

    asked = call()
    answer = await collect(SelfConsistency(Priced(text("7")), Options(n=3)).answer(asked))
    assert (asked.trace.cost, asked.trace.model, report(answer)["cost_usd"]) == (10, "p/m", "0.000010")


@pytest.mark.parametrize("said", [[], text("7")])
async def test_leaving_stops_every_sample(said: list[Delta]) -> None:
    before = asyncio.all_tasks()
    model = Scripted([*said, HANG], [HANG], [HANG])
    reading = asyncio.ensure_future(hear(SelfConsistency(model, Options(n=5)), call()))
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert asyncio.get_running_loop().time() == start
    assert model.closed == len(model.calls) == 3
    assert asyncio.all_tasks() == before
