"""The engine's own process: it answers, is cancelled, crashes, dies with its parent, and takes only so much."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.errors import EngineError, Failure, ModelFailure
from loam.engine.client import EngineProcess, environment
from loam.engine.fleet import Fleet
from loam.engine.protocol import Drawing, Order, Question, Request
from loam.engine.settings import LocalSettings
from tests.engine import checkpoints

pytestmark = pytest.mark.anyio
USER = [{"role": "user", "content": "Hello there"}]
GREEDY = Drawing(temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(folder: Path) -> AsyncGenerator[EngineProcess, None]:
    engine = EngineProcess(Order(name="tiny", path=str(folder), threads=1, batch=4, queue=4))
    await engine.start()
    yield engine
    await engine.close()


async def text(engine: EngineProcess, request: Request) -> str:
    return (await collect(engine.answer(request))).text


def long(name: str, **more: Any) -> Request:
    return Request(id=name, messages=USER, max_tokens=400, ignore_end=True, draw=GREEDY, **more)


async def failure_of(awaitable: Any) -> Failure:
    with pytest.raises(ModelFailure) as caught:
        await awaitable
    return caught.value.failure


async def test_it_says_what_it_opened(engine: EngineProcess, folder: Path) -> None:
    about = engine.about
    assert about is not None
    assert (about.family, about.context, about.template, about.path) == ("llama", 512, True, str(folder))
    assert about.parameters > 100_000


async def test_an_answer_streams(engine: EngineProcess) -> None:
    async with aclosing(engine.answer(long("stream"))) as deltas:
        pieces = [delta async for delta in deltas]
    assert sum(bool(delta.text) for delta in pieces) > 50
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.output == 400


async def test_many_at_once_say_what_each_says_alone(engine: EngineProcess) -> None:
    requests = [
        Request(id=f"many{n}", messages=[{"role": "user", "content": "ab " * n}], max_tokens=12, draw=GREEDY)
        for n in range(1, 7)
    ]
    alone = [await text(engine, request) for request in requests]
    assert await asyncio.gather(*(text(engine, request) for request in requests)) == alone
    assert len(set(alone)) > 1


async def test_a_seed_decides_and_answers_differ(engine: EngineProcess) -> None:
    asked = Request(id="n", messages=USER, max_tokens=12, n=2, draw=Drawing(seed=7))
    first, again = [await collect(engine.answer(asked)) for _ in range(2)]
    assert [choice.text for choice in first.choices] == [choice.text for choice in again.choices]
    assert first.choices[0].text != first.choices[1].text


async def test_who_leaves_frees_the_slot(engine: EngineProcess) -> None:
    for number in range(12):  # three times the batch: a slot that stayed taken would hold up the last
        async with aclosing(engine.answer(long(f"left{number}"))) as deltas:
            async for _ in deltas:
                break
    assert engine.running == 0
    start = time.perf_counter()
    await text(engine, Request(id="after", messages=USER, max_tokens=2))
    assert time.perf_counter() - start < 5


async def test_a_full_queue_says_when_to_come_back(engine: EngineProcess) -> None:
    tasks = [asyncio.ensure_future(collect(engine.answer(long(f"q{n}")))) for n in range(16)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [one.failure for one in done if isinstance(one, ModelFailure)]
    assert refused
    assert len(refused) < 16
    assert {failure.kind for failure in refused} == {"rate_limit"}
    assert all(failure.retry_after for failure in refused)


async def test_questions_are_answered(engine: EngineProcess) -> None:
    told = await engine.ask(Question("t", "tokenize", {"prompt": "Hello", "special": False}))
    assert (await engine.ask(Question("d", "detokenize", {"tokens": told["tokens"]})))["text"] == "Hello"
    assert (await engine.ask(Question("i", "tokenizer_info")))["max_model_len"] == 512
    assert (await failure_of(engine.ask(Question("x", "nonsense")))).kind == "unsupported"
    assert (await failure_of(engine.ask(Question("y", "detokenize", {"tokens": [-1]})))).kind == "bad_request"
    assert (await failure_of(engine.ask(Question("z", "detokenize", {"tokens": "no"})))).kind == "bad_request"


async def test_a_request_that_makes_no_sense_hurts_nobody_else(engine: EngineProcess) -> None:
    other = asyncio.ensure_future(text(engine, long("other")))
    assert (await failure_of(text(engine, Request(id="bad", messages=[], max_tokens=3)))).kind == "bad_request"
    big = [{"role": "user", "content": "word " * 2000}]
    assert (await failure_of(text(engine, Request(id="big", messages=big)))).kind == "context_window"
    odd = Request(id="odd", messages=USER, variables={"chat_template": "{% for a in range(99999) %}"})
    assert (await failure_of(text(engine, odd))).kind == "unsupported"
    assert await other


async def test_a_crash_fails_what_runs_as_one_that_may_be_tried_again(folder: Path) -> None:
    engine = EngineProcess(Order(name="tiny", path=str(folder), threads=1))
    await engine.start()
    os.kill(engine.pid, signal.SIGSTOP)  # so that it cannot end before it is killed
    running = asyncio.ensure_future(text(engine, long("crash")))
    await asyncio.sleep(0.1)
    os.kill(engine.pid, signal.SIGKILL)
    failure = await failure_of(running)
    assert (failure.kind, failure.http_status) == ("server", 503)
    assert "signal 9" in failure.message
    assert not engine.alive
    assert (await failure_of(text(engine, long("dead")))).kind == "server"
    await engine.close()


async def test_it_finishes_what_runs_before_it_ends(folder: Path) -> None:
    engine = EngineProcess(Order(name="tiny", path=str(folder), threads=1))
    await engine.start()
    running = asyncio.ensure_future(collect(engine.answer(long("last"))))
    await asyncio.sleep(0.1)
    await engine.close(grace=60)
    answer = await running
    assert answer.usage is not None
    assert answer.usage.output == 400


_PARENT = """
import asyncio, sys, time
from loam.engine.client import EngineProcess
from loam.engine.protocol import Order, Request
async def main():
    engine = EngineProcess(Order(name="tiny", path=sys.argv[1], threads=1))
    await engine.start()
    deltas = engine.answer(Request(id="1", inputs=["a"], max_tokens=400, ignore_end=True))
    await anext(deltas)
    print(engine.pid, flush=True)
    time.sleep(600)
asyncio.run(main())
"""


async def test_it_dies_with_its_parent_however_that_dies(folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(folder)], stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.perf_counter() + 10
    while Path(f"/proc/{child}").exists():
        assert time.perf_counter() < deadline, "the engine outlives its parent"
        await asyncio.sleep(0.02)


async def test_what_cannot_be_opened_is_told_in_words(tmp_path: Path, folder: Path) -> None:
    engine = EngineProcess(Order(name="none", path=str(tmp_path / "none")))
    with pytest.raises(EngineError, match="none"):
        await engine.start()
    broken = EngineProcess(Order(name="x", path=str(folder)), worker=("-c", "import sys; sys.exit('a last word')"))
    with pytest.raises(EngineError, match=r"status 1.*a last word"):
        await broken.start()


def quick(order: Order) -> EngineProcess:
    """A process that speaks the protocol without torch, so that a test can have many."""
    return EngineProcess(order, worker=(str(Path(__file__).parent / "parrot.py"),))


async def test_a_fleet_keeps_so_many_and_starts_anew_after_a_crash(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(folder)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "b").symlink_to(folder)
    settings = LocalSettings(folder=str(tmp_path), paths={"c": str(folder)}, threads=1, loaded=2, grace=1.0)
    fleet = Fleet("here", settings, started=quick)
    assert [state.name for state in fleet.states()] == ["a", "c", "own/b"]
    first, same, other = await asyncio.gather(fleet.engine("a"), fleet.engine("a"), fleet.engine("own/b"))
    assert first is same
    await fleet.engine("a")
    await fleet.engine("c")  # own/b is idle longest, so it goes
    assert [state.name for state in fleet.states() if state.state == "loaded"] == ["a", "c"]
    assert not other.alive
    os.kill(first.pid, signal.SIGKILL)
    while first.alive:
        await asyncio.sleep(0.01)
    assert (await fleet.engine("a")).pid != first.pid
    assert await text(await fleet.engine("a"), Request(id="x", messages=USER, max_tokens=3, ignore_end=True))
    await fleet.unload("a")
    assert [state.name for state in fleet.states() if state.state == "loaded"] == ["c"]
    failure = await failure_of(fleet.engine("nobody"))
    assert (failure.kind, failure.provider) == ("not_found", "here")
    assert "own/b" in failure.message
    await fleet.close()


async def test_a_fleet_whose_all_are_busy_says_when_to_come_back(folder: Path) -> None:
    paths = {"a": str(folder), "b": str(folder), "broken": str(folder / "config.json")}
    fleet = Fleet("here", LocalSettings(paths=paths, loaded=1, grace=1.0), started=quick)
    engine = await fleet.engine("a")
    running = asyncio.ensure_future(text(engine, long("busy")))
    await asyncio.sleep(0)
    failure = await failure_of(fleet.engine("b"))
    assert (failure.kind, failure.retry_after) == ("rate_limit", 5.0)
    await running
    failure = await failure_of(fleet.engine("broken"))
    assert (failure.kind, failure.provider) == ("unavailable", "here")
    assert [state.problem for state in fleet.states() if state.name == "broken"] == [failure.message]
    await fleet.close()


async def test_who_has_found_a_model_is_answered_though_it_is_put_away_meanwhile(folder: Path) -> None:
    fleet = Fleet("here", LocalSettings(paths={"a": str(folder)}, grace=10.0), started=quick)
    async with fleet.using("a") as engine:
        away = asyncio.ensure_future(fleet.unload("a"))
        await asyncio.sleep(0.2)
        assert await text(engine, Request(id="x", messages=USER, max_tokens=3)) == "word " * 3
        assert not away.done()
        other = await fleet.engine("a")  # who comes later is answered by a new one
        assert other.pid != engine.pid
    await away
    assert not engine.alive
    await fleet.close()


async def test_nobody_is_put_away_for_one_that_is_too_large_or_broken(folder: Path, tmp_path: Path) -> None:
    for name, size in (("a", 400), ("b", 400), ("c", 500), ("large", 1001)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "size").write_text(str(size))
    settings = LocalSettings(folder=str(tmp_path), paths={"torn": str(folder / "nothing")}, memory=1000, loaded=2)
    fleet = Fleet("here", settings, started=quick)
    await asyncio.gather(fleet.engine("a"), fleet.engine("b"))
    for name, said in (("large", "needs 0.0 MB for its weights, and memory = 1000"), ("torn", "is no checkpoint")):
        failure = await failure_of(fleet.engine(name))
        assert (failure.kind, said in failure.message) == ("unavailable", True), failure
        assert [state.name for state in fleet.states() if state.state == "loaded"] == ["a", "b"]
    await asyncio.gather(fleet.engine("c"), fleet.engine("b"))  # b is asked while room is made for c
    assert {state.name for state in fleet.states() if state.state == "loaded"} == {"b", "c"}
    await fleet.close()
