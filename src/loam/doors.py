"""Techniques and questions for Python programs that hold a Model themselves.

Knows the techniques by their options; starts no gateway. Invariant: sync doors do nothing but wait for their async
twin, so the two can't differ.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from msgspec import structs

from loam.core.answers import collect
from loam.core.calls import Answer, Call, Sampling
from loam.core.clock import SystemClock, new_id
from loam.core.errors import LoamError
from loam.core.messages import Message, say
from loam.core.ports import Model
from loam.prompting.around import NOTHING, Around
from loam.prompting.technique import technique

T = TypeVar("T")


def _door(name: str, model: Model, *, around: Around = NOTHING, **options: Any) -> Model:
    return technique(held(model), {"name": name, **options}, around)


zero_shot = partial(_door, "zero_shot")
few_shot = partial(_door, "few_shot")
"""`few_shot(model, examples=[{"input": "2+2", "output": "4"}])`"""
chain_of_thought = partial(_door, "chain_of_thought")
"""`chain_of_thought(model, visible=True)`"""
self_consistency = partial(_door, "self_consistency")
"""`self_consistency(model, n=5, normalise="number")`"""
structured = partial(_door, "structured")
"""`structured(model, schema={"type": "object"}, max_attempts=2)`"""
react = partial(_door, "react")
"""`react(model, max_attempts=2)`"""


async def aask(model: Model, question: str | Sequence[Message], *, name: str = "", **sampling: Any) -> Answer:
    """The answer of a model. `name` is the model's own name where it has several. Raises ModelFailure.

    ```python
    answer = await loam.aask(model, "What is 6 + 1?", temperature=0.0)
    ```
    """
    return await collect(held(model).answer(call_of(question, name=name, **sampling)))


def ask(model: Model, question: str | Sequence[Message], *, name: str = "", **sampling: Any) -> Answer:
    """As `aask`, for programs without a loop of their own."""
    return waited(aask(model, question, name=name, **sampling))


def held(model: Model | str) -> Model:
    """The model itself. Raises LoamError where it is only a name, which nothing here can look up."""
    if isinstance(model, str):
        raise LoamError(
            f"{model!r} is a model's name, and a Model is wanted here: a provider (loam.providers.scripted.Scripted) "
            "or a technique around one; by its name a model is asked through a gateway, with any client or `loam ask`"
        )
    return model


def call_of(question: str | Sequence[Message], *, name: str = "", **sampling: Any) -> Call:
    messages = (say("user", question),) if isinstance(question, str) else tuple(question)
    call = Call(id=new_id("call", SystemClock().now()), model=name, messages=messages)
    return structs.replace(call, sampling=Sampling(**sampling))


def waited(work: Coroutine[Any, Any, T]) -> T:
    """Runs to its end. Raises LoamError inside a running loop, which it would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise LoamError("a loop is running here (a notebook, an async program): await loam.aask or loam.aextract instead")
