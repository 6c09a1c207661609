"""The scripted model, as tests of other programs use it."""

import pytest
from msgspec import convert

from loam.core.answers import Collector, collect
from loam.core.calls import Call, Sampling, Usage
from loam.core.errors import ModelFailure, fail
from loam.core.messages import say
from loam.providers.provider import ProviderSettings
from loam.providers.script import Asked, Line
from loam.providers.scripted import KIND, Scripted
from loam.providers.transport import HttpTransport

pytestmark = pytest.mark.anyio


class StillClock:
    """Sleeps at once and remembers for how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def ask(text: str = "how are you", model: str = "any") -> Call:
    return Call(id="call_1", model=model, messages=(say("system", "be kind"), say("user", text)))


async def test_without_a_script_it_repeats_the_question() -> None:
    answer = await collect(Scripted().answer(ask()))
    assert answer.text == "how are you"
    assert answer.choices[0].finish == "stop"
    assert answer.usage is not None


async def test_it_says_its_entries_in_order_and_the_last_for_ever() -> None:
    model = Scripted(["one", lambda call: f"for {call.model}", Line(text="last of {question}")])
    texts = [(await collect(model.answer(ask()))).text for _ in range(4)]
    assert texts == ["one", "for any", "last of how are you", "last of how are you"]
    assert len(model.calls) == 4


async def test_a_failure_comes_after_so_many_pieces() -> None:
    model = Scripted([Line(text="a b c d", fail="rate_limit", status=429, after=2, retry_after=1.5)], name="fake")
    collector = Collector()

    async def read() -> None:
        async for delta in model.answer(ask()):
            collector.add(delta)

    with pytest.raises(ModelFailure) as caught:
        await read()
    assert collector.answer().text == "a b"
    failure = caught.value.failure
    assert (failure.kind, failure.status, failure.retry_after) == ("rate_limit", 429, 1.5)
    assert (failure.provider, failure.retryable) == ("fake", True)


async def test_a_failure_can_be_an_entry() -> None:
    model = Scripted([fail("timeout", "fake", "too slow"), "then this"])
    with pytest.raises(ModelFailure, match="too slow"):
        await collect(model.answer(ask()))
    assert (await collect(model.answer(ask()))).text == "then this"


async def test_it_asks_for_tools_and_thinks() -> None:
    line = Line(thinking="let me see", tools=(Asked("look", {"at": 1}), Asked("go")), usage=(7, 9))
    answer = await collect(Scripted([line]).answer(ask()))
    assert answer.thinking == "let me see"
    assert [(tool.name, tool.arguments) for tool in answer.tool_calls] == [("look", '{"at":1}'), ("go", "{}")]
    assert answer.choices[0].finish == "tool_calls"
    assert answer.usage == Usage(input=7, output=9)


async def test_pauses_go_by_the_clock() -> None:
    clock = StillClock()
    await collect(Scripted([Line(text="a b", first_pause=3, pause=0.5)], clock=clock).answer(ask()))
    assert clock.slept == [3, 0.5, 0.5]
    clock.slept.clear()
    await collect(Scripted(["x"], clock=clock).answer(ask("two words", model="slow")))
    assert clock.slept == [1.0, 1.0]


async def test_vectors_are_alike_where_texts_are() -> None:
    call = Call(id="call_1", model="any", task="embed", inputs=("stone", "stones", "river"), sampling=Sampling())
    answer = await collect(Scripted().answer(call))
    stone, stones, river = [choice.embedding for choice in answer.choices]
    near, far = (sum(a * b for a, b in zip(stone, other, strict=True)) for other in (stones, river))
    assert far < near < 1.0000001


async def test_settings_write_the_same_script() -> None:
    raw = {"kind": "scripted", "script": [{"text": "first"}, {"fail": "overloaded"}, {"tools": [{"name": "look"}]}]}
    settings = convert(raw, ProviderSettings)
    clock = StillClock()
    model = KIND.build("fake", settings, HttpTransport("fake"), clock)
    assert (await collect(model.answer(ask()))).text == "first"
    with pytest.raises(ModelFailure, match="fake fails here"):
        await collect(model.answer(ask()))
    assert (await collect(model.answer(ask()))).tool_calls[0].name == "look"
