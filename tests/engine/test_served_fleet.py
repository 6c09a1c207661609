"""Many checkpoints behind one gateway: what is put away for what, who is refused, and what a killed process leaves."""

import gc
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import openai
import pytest

from loam.config import parse
from loam.serving import Running, running
from tests.engine import checkpoints

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    for seed, name in enumerate(("a", "b", "c")):
        checkpoints.make(shelf / name, context=32768, seed=seed)
    checkpoints.make(shelf / "huge", width=256, hidden=512)
    return shelf


class Gate:
    """A gateway, its client without retries, and what can be seen of the processes behind it."""

    def __init__(self, gateway: Running) -> None:
        self.url = gateway.url
        self.client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0)

    def say(self, model: str, **more: Any) -> str:
        asked: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 16, "temperature": 0, **more}
        return self.client.completions.create(model=f"local/{model}", **asked).choices[0].text

    @contextmanager
    def busy(self, model: str) -> Generator[openai.Stream[Any], None, None]:
        """An answer that does not end by itself while the test looks on."""
        stream = self.client.completions.create(
            model=f"local/{model}", prompt=PROMPT, max_tokens=30_000, stream=True, extra_body={"ignore_eos": True}
        )
        try:
            next(iter(stream))
            yield stream
        finally:
            stream.close()

    def post(self, what: str, model: str) -> Any:
        body = json.dumps({"model": model}).encode()
        asked = Request(f"{self.url}/loam/v1/engine/{what}", body, {"content-type": "application/json"})
        with urlopen(asked) as answer:
            return json.load(answer)

    def loaded(self) -> list[str]:
        with urlopen(f"{self.url}/loam/v1/engine") as answer:
            return [one["name"] for one in json.load(answer)["models"] if one["state"] == "loaded"]


@contextmanager
def gate(shelf: Path, data: Path, **engine: Any) -> Generator[Gate, None, None]:
    engine = {"folder": str(shelf), "weights": "fp32", "threads": 1, "grace": 5.0, **engine}
    given = {
        "data": str(data),
        "server": {"port": 0},
        "retry": {"attempts": 1},
        "grounding": {"encoder": {"name": "none"}},
        "providers": {"local": {"engine": engine}},
    }
    with running(parse(given)) as gateway:
        yield Gate(gateway)


def workers() -> set[int]:
    """Processes of engines that this process has started and not yet seen the end of, the dead ones among them."""
    found: set[int] = set()
    for place in Path("/proc").iterdir():
        try:
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1] if place.name.isdigit() else ""
            if parent == str(os.getpid()) and (
                b"loam.engine.worker" in (place / "cmdline").read_bytes() or dead(place)
            ):
                found.add(int(place.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def dead(place: Path) -> bool:
    return (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def until(seen: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def two(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gate, None, None]:
    """Room for two small ones by their bytes; their number is no limit."""
    memory = 5 * (shelf / "a" / "model.safetensors").stat().st_size // 2
    with gate(shelf, tmp_path_factory.mktemp("data"), memory=memory, loaded=9, batch=2, queue=1) as two:
        yield two


def test_the_idle_one_that_was_asked_longest_ago_makes_room(two: Gate) -> None:
    first = {name: two.say(name) for name in ("a", "b")}
    assert two.loaded() == ["a", "b"]
    before = workers()
    assert two.say("a") == first["a"]  # so b is idle longest
    assert len(set(first.values())) == 2
    two.say("c")
    assert two.loaded() == ["a", "c"]
    until(lambda: len(workers()) == 2)
    assert len(workers() & before) == 1, "the process of b is gone, and its memory with it"


def test_what_is_larger_than_the_limit_is_refused_before_anything_is_put_away(two: Gate, shelf: Path) -> None:
    assert two.say("a")
    assert two.say("c")
    until(lambda: len(workers()) == 2)
    before = workers()
    with pytest.raises(openai.InternalServerError) as caught:
        two.say("huge")
    assert caught.value.status_code == 503
    words = str(caught.value)
    size = (shelf / "huge" / "model.safetensors").stat().st_size  # its header is some kilobytes more than the weights
    assert float(re.findall(r"huge needs ([0-9.]+) MB for its weights", words)[0]) == pytest.approx(
        size / 1e6, rel=0.02
    )
    assert re.search(r"memory = [0-9]+ of \[providers.local.engine\] allows [0-9.]+ MB; raise it", words)
    assert 'weights = "int8"' in words
    assert two.loaded() == ["a", "c"]
    assert workers() == before


def test_who_answers_is_never_put_away(two: Gate) -> None:
    with two.busy("a") as a, two.busy("c") as c:
        with pytest.raises(openai.RateLimitError, match="come back in a moment") as caught:
            two.say("b")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert next(iter(a)).choices
        assert next(iter(c)).choices
    until(lambda: "b" in two.loaded() or bool(_said(two, "b")))
    assert len(two.loaded()) == 2


def _said(two: Gate, model: str) -> str:
    try:
        return two.say(model)
    except openai.RateLimitError:
        return ""


def test_a_full_queue_is_429_with_a_time_to_come_back(two: Gate) -> None:
    def ask(number: int) -> Any:
        try:
            return two.say("b", max_tokens=1500, extra_body={"ignore_eos": True})
        except openai.RateLimitError as refused:
            return refused

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(ask, range(8)))
    refused = [one for one in told if isinstance(one, openai.RateLimitError)]
    answered = {one for one in told if isinstance(one, str)}
    assert 0 < len(refused) <= 5, "two answer, three wait"
    assert len(answered) == 1
    for one in refused:
        assert int(one.response.headers["retry-after"]) >= 1
        assert "wait for this model already" in str(one)


def test_a_killed_process_costs_its_own_calls_and_leaves_nothing(two: Gate) -> None:
    for name in two.loaded():
        two.post("unload", name)
    until(lambda: not workers())
    expected = two.say("a")
    first = workers()
    assert len(first) == 1
    held = _held()
    for _ in range(2):
        before = workers()
        with two.busy("a") as stream:
            os.kill(next(iter(before)), signal.SIGKILL)
            with pytest.raises(openai.APIError, match=r"signal 9.*started again for the next call"):
                for _ in stream:
                    pass
        assert two.say("a") == expected
        after = workers()
        assert len(after) == 1
        assert after != before, "a new process answers, and the old one is no zombie"
    two.say("a")
    assert _held() <= held, "files, sockets and threads of the two that were killed"


def _held() -> tuple[int, int]:
    """Open files of this process, and its threads; connections of clients aside, which are kept a while."""
    gc.collect()
    kinds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _there(fd)]
    return sum("(deleted)" in kind for kind in kinds), threading.active_count() - _pool()


def _there(fd: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True


def _pool() -> int:
    return sum("asyncio" in thread.name or "ThreadPool" in thread.name for thread in threading.enumerate())


@pytest.mark.slow
def test_models_are_moved_in_and_out_under_calls_and_no_call_notices(two: Gate) -> None:
    expected = {name: two.say(name) for name in ("a", "b")}
    end = time.monotonic() + 5
    counts: dict[str, int] = {"a": 0, "b": 0}

    def ask(name: str) -> None:
        while time.monotonic() < end:
            assert two.say(name) == expected[name]
            counts[name] += 1

    def move() -> int:
        moved = 0
        while time.monotonic() < end:
            assert two.post("unload", "a")["name"] == "a"
            assert two.post("load", "local/a")["state"] == "loaded"
            moved += 1
        return moved

    with ThreadPoolExecutor(6) as pool:
        moving = pool.submit(move)
        for each in [pool.submit(ask, name) for name in ("a", "a", "a", "b")]:
            each.result()
        assert moving.result() >= 1
    assert min(counts.values()) > 3
    until(lambda: len(workers()) == len(two.loaded()))


def test_a_draft_is_named_as_a_model_is_or_by_its_path(shelf: Path, tmp_path: Path) -> None:
    drafts = {"a": "b", "b": str(shelf / "c"), "c": "nobody"}
    with gate(shelf, tmp_path, drafts=drafts, loaded=9) as named:
        assert named.say("a")
        assert named.say("b")
        with pytest.raises(openai.APIStatusError, match="'nobody' guess for c, which is neither a path"):
            named.say("c")
