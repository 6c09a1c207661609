"""The provider of checkpoints on this machine: what a call becomes, and what its failures say; no torch is needed."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from loam.config import parse
from loam.core.answers import collect
from loam.core.calls import Call, Output, Sampling, Target, Tool, ToolChoice
from loam.core.errors import Failure, ModelFailure, SettingsError
from loam.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, say
from loam.engine.client import EngineProcess
from loam.engine.fleet import Fleet
from loam.engine.protocol import Order, Shape
from loam.engine.requests import request_of
from loam.engine.settings import LocalSettings
from loam.kinds import asked_as, kind_of, prices_of, providers_of, table_of, with_checkpoint
from loam.providers.local import Local
from loam.providers.provider import ProviderSettings

pytestmark = pytest.mark.anyio
PARROT = str(Path(__file__).parents[1] / "engine" / "parrot.py")


def quick(order: Order) -> EngineProcess:
    return EngineProcess(order, worker=(PARROT,))


def folder(at: Path, name: str = "tiny") -> Path:
    (at / name).mkdir(parents=True)
    (at / name / "config.json").write_text("{}")
    return at / name


@pytest.fixture
async def local(tmp_path: Path) -> AsyncGenerator[Local, None]:
    folder(tmp_path)
    settings = LocalSettings(folder=str(tmp_path), adapters={"tiny": {"law": "/x"}}, grace=2.0)
    local = Local("here", Fleet("here", settings, started=quick), bits=lambda count: 7)
    yield local
    await local.close()


def ask(model: str = "tiny", **more: Any) -> Call:
    call = Call(id="call_1", model=model, messages=(say("user", "hi"),), target=Target("here", model))
    return structs.replace(call, **more)


async def failure_of(answer: Any) -> Failure:
    with pytest.raises(ModelFailure) as caught:
        await collect(answer)
    return caught.value.failure


async def test_an_answer_has_a_name_text_and_usage(local: Local) -> None:
    answer = await collect(local.answer(ask()))
    assert (answer.text, answer.choices[0].finish) == ("word " * 5, "stop")
    assert (answer.head.model, answer.head.id) == ("tiny", "call_1")
    assert answer.usage is not None
    counted = await collect(local.answer(ask(task="count")))
    assert counted.usage is not None
    assert counted.usage.input == 3


async def test_one_call_may_be_asked_twice_at_a_time(local: Local) -> None:
    first, second = await asyncio.gather(collect(local.answer(ask())), collect(local.answer(ask())))
    assert first.text == second.text


async def test_who_leaves_is_forgotten(local: Local) -> None:
    async with aclosing(local.answer(ask(sampling=Sampling(max_tokens=10_000)))) as deltas:
        async for delta in deltas:
            if delta.text:
                break
    engine = await local.fleet.engine("tiny")
    assert engine.running == 0


async def test_a_crash_is_the_providers_and_may_be_tried_again(local: Local) -> None:
    running = asyncio.ensure_future(collect(local.answer(ask(sampling=Sampling(max_tokens=100_000)))))
    await asyncio.sleep(0)
    engine = await local.fleet.engine("tiny")
    while not engine.running:
        await asyncio.sleep(0.01)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(ModelFailure) as caught:
        await running
    failure = caught.value.failure
    assert (failure.kind, failure.provider, failure.retryable, failure.mendable) == ("server", "here", True, True)
    assert (await collect(local.answer(ask()))).text


async def test_what_is_not_there_may_be_elsewhere(local: Local) -> None:
    failure = await failure_of(local.answer(ask("other")))
    assert (failure.kind, failure.provider, failure.mendable) == ("not_found", "here", True)
    assert "tiny" in failure.message


async def test_embeddings_are_made_by_who_can(local: Local, tmp_path: Path) -> None:
    embed = {"task": "embed", "messages": (), "inputs": ("a", "b")}
    failure = await failure_of(local.answer(ask(**embed)))
    assert (failure.kind, failure.provider) == ("unsupported", "")
    (folder(tmp_path, "minilm") / "modules.json").write_text("[]")

    async def vectors(path: Path, texts: Any) -> list[list[float]]:
        assert path.name == "minilm"
        return [[float(len(text))] for text in texts]

    local.vectors = vectors
    answer = await collect(local.answer(ask("minilm", **embed)))
    assert [choice.embedding for choice in answer.choices] == [[1.0], [1.0]]
    assert (await failure_of(local.answer(ask(**embed)))).kind == "unsupported"


def request(**more: Any) -> Any:
    return request_of(ask(**more), name="r", adapter="", seed=7)


def test_messages_read_as_templates_read_them() -> None:
    messages = (
        say("system", "be brief"),
        Message("assistant", (Thinking("hm"), Text("so"), ToolCall("c1", "weather", '{"city": "Köln"}'))),
        Message("user", (ToolResult("c1", (Text("12"),)), Text("and now?"))),
        Message("tool", (ToolResult("c2", (Text("x"),)),)),
    )
    call = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    assert request(messages=messages).messages == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
        {"role": "user", "content": "and now?"},
        {"role": "tool", "tool_call_id": "c2", "content": "x"},
    ]
    with pytest.raises(ModelFailure, match="reads text only"):
        request(messages=(Message("user", (Image(url="http://x/y.png"),)),))


def test_vllms_fields_are_heard_and_others_are_told() -> None:
    extra = {
        "repetition_penalty": 1.2, "stop_token_ids": [3], "ignore_eos": True, "chat_template_kwargs": {"a": 1},
        "guided_regex": "a+", "min_tokens": 4, "stream_options": {},
    }  # fmt: skip
    call = ask(family="openai", extra=extra)
    asked = request_of(call, name="r", adapter="law", seed=7)
    assert asked.draw.repetition_penalty == 1.2
    assert (asked.stop_tokens, asked.ignore_end, asked.variables) == ([3], True, {"a": 1})
    assert asked.shape == Shape("regex", "a+")
    assert (asked.adapter, asked.draw.seed) == ("law", 7)
    assert call.trace.warnings == ["left out min_tokens: the local engine has no such field"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"extra": {"suffix": "x"}}, "suffix"),
        ({"extra": {"best_of": 3}}, "best_of"),
        ({"extra": {"stop_token_ids": "x"}}, "stop_token_ids"),
        ({"extra": {"guided_regex": "a"}, "output": Output("json")}, "one shape only"),
        ({"tools": (Tool(""),)}, "own servers"),
    ],
)
def test_what_is_not_done_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFailure, match=said):
        request(family="openai", **more)


@pytest.mark.parametrize(
    ("choice", "must", "tools"),
    [
        (None, "", 1), (ToolChoice("auto"), "", 1), (ToolChoice("none"), "", 0), (ToolChoice("required"), "*", 1),
        (ToolChoice("named", "weather"), "weather", 1),
    ],
)  # fmt: skip
def test_the_choice_of_tools(choice: ToolChoice | None, must: str, tools: int) -> None:
    asked = request(tools=(Tool("weather"),), tool_choice=choice)
    assert (asked.must_call, len(asked.tools or ())) == (must, tools)


def test_a_checkpoint_is_served_by_its_path_alone(tmp_path: Path) -> None:
    path = folder(tmp_path)
    plain = parse({"data": str(tmp_path / "data")})
    settings, name = with_checkpoint(plain, f"local/{path}")
    assert name == "local/tiny" == asked_as(str(path))
    table = table_of(settings)
    assert table.resolve("tiny").chain == table.resolve("local/tiny").chain == (Target("local", "tiny"),)
    assert prices_of(settings).find("local", "tiny") is not None
    with pytest.raises(SettingsError, match="there is no checkpoint"):
        with_checkpoint(plain, "nobody")
    folder(tmp_path / "data" / "models", "kept")
    assert with_checkpoint(plain, "kept")[1] == "local/kept"
    assert Fleet("local", providers_of(plain)["local"].engine).find("kept:law")[2] == "law"


def test_it_is_always_there_and_never_answers_for_others() -> None:
    settings = parse({"providers": {"openai": {"api_key": "k"}}})
    table = table_of(settings)
    assert table.resolve("local/x").chain == (Target("local", "x"),)
    assert table.resolve("gpt-of-tomorrow").chain == (Target("openai", "gpt-of-tomorrow"),)
    with pytest.raises(ModelFailure, match="no provider is configured"):
        table_of(parse({})).resolve("gpt-of-tomorrow")


def test_a_server_of_ones_own_may_be_called_local() -> None:
    assert kind_of("local", ProviderSettings(base_url="http://127.0.0.1:8000/v1")).name == "compatible"
    assert kind_of("local", ProviderSettings()).name == "local"
    elsewhere = parse({"providers": {"local": {"base_url": "http://127.0.0.1:8000/v1"}}})
    with pytest.raises(SettingsError, match="another name"):
        with_checkpoint(elsewhere, "x")
