"""The stage: which techniques a call wishes for, in which order, and what is refused."""

from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.calls import Controls
from loam.core.errors import ModelFailure
from loam.prompting.technique import Techniques, wishes
from tests.gateway.virtual import Scripted, call, text

pytestmark = pytest.mark.anyio


def wish(technique: Any, **fields: Any) -> Any:
    return call(controls=Controls(technique=technique), **fields)


async def test_a_call_without_a_wish_passes_as_it_is() -> None:
    model = Scripted(text("3"))
    asked = call()
    await collect(Techniques(model).answer(asked))
    assert model.calls[0] is asked


async def test_techniques_nest_in_the_order_of_the_wish() -> None:
    model = Scripted(text("Two and one. <answer>3</answer>"))
    answer = await collect(Techniques(model).answer(wish([{"name": "self_consistency", "n": 3}, "chain_of_thought"])))
    assert answer.text == "3"
    assert len(model.calls) == 2
    assert {step.technique for step in answer.steps} == {"self_consistency"}  # a sample's own steps stay inside
    assert model.calls[0].controls.technique is None


@pytest.mark.parametrize(
    ("technique", "param", "says"),
    [
        ("magic", "loam.technique.name", "no technique is called 'magic'; there are: zero_shot"),
        ({"n": 3}, "loam.technique.name", "no technique is called None"),
        ({"name": "self_consistency", "n": 0}, "loam.technique.n", ">= 1"),
        ({"name": "self_consistency", "m": 1}, "loam.technique", "unknown field `m`"),
        ({"name": "self_consistency", "normalise": "vibes"}, "loam.technique.normalise", "matching regex"),
    ],
)
async def test_what_cannot_be_read_is_refused_before_anything_is_asked(technique: Any, param: str, says: str) -> None:
    model = Scripted(text("3"))
    with pytest.raises(ModelFailure) as raised:
        await collect(Techniques(model).answer(wish(technique)))
    failure = raised.value.failure
    assert (failure.kind, failure.param) == ("bad_request", param)
    assert says in failure.message
    assert not model.calls


async def test_only_chats_have_techniques_and_a_count_counts_without() -> None:
    model = Scripted(text("3"))
    await collect(Techniques(model).answer(wish("chain_of_thought", task="count")))
    assert model.calls[0].controls.technique is None
    with pytest.raises(ModelFailure, match="needs a chat call"):
        await collect(Techniques(model).answer(wish("chain_of_thought", task="embed")))


@pytest.mark.parametrize("asked", [["chain_of_thought"] * 500, [{"name": "self_consistency", "n": 100}] * 4])
def test_a_technique_stands_once_so_that_calls_do_not_multiply(asked: Any) -> None:
    with pytest.raises(ModelFailure, match="each technique once"):
        wishes(asked)
