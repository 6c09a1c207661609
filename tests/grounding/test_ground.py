from collections.abc import AsyncGenerator

import msgspec
import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Controls, Delta
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.grounding.ground import Ground, GroundSettings, collection_of
from loam.grounding.index import Index
from loam.grounding.reader import Reader

pytestmark = pytest.mark.anyio

QUESTION = (say("user", "When does award leave expire?"),)
PLAIN = Call(id="call_1", model="gpt-4o", messages=QUESTION)
BY_MODEL = Call(id="call_1", model="rag:handbook", messages=QUESTION)
BY_CONTROLS = Call(id="call_1", model="loam/reader", messages=QUESTION, controls=Controls(collection="handbook"))


class Recorder:
    """An inner model that keeps what it is asked and notes when its stream is closed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.closed = 0

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.calls.append(call)
        try:
            yield Delta(text="a")
            yield Delta(text="b", finish="stop")
        finally:
            self.closed += 1


@pytest.fixture
def inner() -> Recorder:
    return Recorder()


async def test_a_call_without_a_collection_passes_untouched(handbook: Index, inner: Recorder) -> None:
    answer = await collect(Ground(inner, handbook, GroundSettings()).answer(PLAIN))
    assert answer.text == "ab"
    assert inner.calls[0] is PLAIN


@pytest.mark.parametrize("asked", [BY_MODEL, BY_CONTROLS])
async def test_a_call_with_a_collection_gets_its_passages(handbook: Index, inner: Recorder, asked: Call) -> None:
    ground = Ground(inner, handbook, GroundSettings(passages=3))
    assert (await collect(ground.answer(asked))).text == "ab"
    (call,) = inner.calls
    assert call.model == "loam/reader"
    assert call.passages is not None
    assert len(call.passages) == 3
    assert call.passages == await handbook.search("handbook", "When does award leave expire?", 3)


async def test_the_reader_answers_behind_it(handbook: Index) -> None:
    answer = await collect(Ground(Reader(), handbook, GroundSettings()).answer(BY_MODEL))
    assert "one year" in answer.text
    assert answer.choices[0].citations[0].quote == answer.text


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"model": "rag:nowhere"}, "not_found", "there is no collection 'nowhere'; there are: handbook"),
        ({"model": "rag:"}, "not_found", "there are: handbook"),
        ({"model": "gpt-4o", "controls": Controls(collection="handbook")}, "unsupported", "gpt-4o cannot be held"),
        ({"controls": Controls(collection="other")}, "bad_request", "name one"),
        ({"messages": (say("user", " "),)}, "bad_request", "there is no question"),
        ({"messages": ()}, "bad_request", "there is no question"),
        ({"task": "embed"}, "unsupported", "chat calls only"),
    ],
)
async def test_what_it_cannot_ground_it_refuses_before_anyone_is_asked(
    handbook: Index, inner: Recorder, changes: dict[str, object], kind: str, told: str
) -> None:
    with pytest.raises(ModelFailure, match=told) as caught:
        await collect(Ground(inner, handbook, GroundSettings()).answer(msgspec.structs.replace(BY_MODEL, **changes)))
    assert caught.value.failure.kind == kind
    assert inner.calls == []


async def test_another_model_may_be_named_a_reader(handbook: Index, inner: Recorder) -> None:
    settings = GroundSettings(model="mine", readers=("mine",))
    await collect(Ground(inner, handbook, settings).answer(BY_MODEL))
    assert inner.calls[0].model == "mine"


async def test_leaving_early_closes_the_inner_stream(handbook: Index, inner: Recorder) -> None:
    stream = Ground(inner, handbook, GroundSettings()).answer(BY_MODEL)
    assert (await anext(stream)).text == "a"
    await stream.aclose()
    assert inner.closed == 1


def test_the_collection_of_a_call() -> None:
    assert collection_of(PLAIN) == ""
    assert collection_of(BY_MODEL) == collection_of(BY_CONTROLS) == "handbook"
