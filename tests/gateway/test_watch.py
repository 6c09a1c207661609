"""A watch cuts silence, and only silence."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from loam.core.clock import SystemClock
from loam.gateway.watch import Watch
from tests.gateway.virtual import LoopClock, virtual_time

anyio_backend = virtual_time
pytestmark = pytest.mark.anyio


class Silent(Exception):
    def __init__(self, seconds: float, *, late: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.late = late
        self.at = now()


def now() -> float:
    return asyncio.get_running_loop().time()


def watch(*, first: float = 10.0, then: float = 10.0, deadline: float | None = None) -> Watch:
    return Watch(LoopClock(), Silent, first=first, then=then, deadline=deadline)


async def cut(watched: Watch, work: Callable[[Watch], Awaitable[None]]) -> Silent:
    """How `work` was cut; `at` is counted from now."""
    start = now()
    with pytest.raises(Silent) as silent:
        await _under(watched, work)
    silent.value.at -= start
    return silent.value


async def _under(watched: Watch, work: Callable[[Watch], Awaitable[None]]) -> None:
    with watched:
        await work(watched)


async def silence(_: Watch) -> None:
    await asyncio.sleep(100)


async def test_silence_is_cut_at_the_limit() -> None:
    silent = await cut(watch(first=10.0), silence)
    assert (silent.at, silent.seconds, silent.late) == (pytest.approx(10.0), 10.0, False)


async def test_the_deadline_cuts_before_the_limit_and_says_so() -> None:
    silent = await cut(watch(first=10.0, deadline=now() + 3), silence)
    assert (silent.at, silent.late) == (pytest.approx(3.0), True)


async def test_each_sign_of_life_starts_the_silence_anew() -> None:
    async def lively(watched: Watch) -> None:
        for _ in range(5):
            await asyncio.sleep(9)
            watched.pause()
            watched.resume()
        await asyncio.sleep(100)

    assert (await cut(watch(first=10.0), lively)).at == pytest.approx(55.0)


async def test_the_readers_time_does_not_count_as_silence() -> None:
    with watch(first=10.0) as watched:
        watched.pause()
        await asyncio.sleep(50)
        watched.resume()
        await asyncio.sleep(9)


async def test_a_reader_that_comes_back_after_the_deadline_is_cut_at_once() -> None:
    async def slow(watched: Watch) -> None:
        watched.pause()
        await asyncio.sleep(50)
        watched.resume()
        await asyncio.sleep(9)

    silent = await cut(watch(first=10.0, deadline=now() + 5), slow)
    assert (silent.at, silent.late) == (pytest.approx(50.0), True)


@pytest.mark.parametrize(("then", "at"), [(2.0, 3.0), (40.0, 41.0)])
async def test_once_it_has_begun_another_limit_counts_from_the_next_resume(then: float, at: float) -> None:
    async def changing(watched: Watch) -> None:
        await asyncio.sleep(1)
        watched.pause()
        watched.begun()
        watched.resume()
        await asyncio.sleep(100)

    assert (await cut(watch(first=10.0, then=then), changing)).at == pytest.approx(at)


@pytest.mark.parametrize("after", [1.0, 10.0], ids=["before the cut", "at the very moment of the cut"])
async def test_a_cancellation_from_elsewhere_goes_on(after: float) -> None:
    task = asyncio.ensure_future(_under(watch(first=10.0), silence))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(after, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_task_is_as_good_as_new_afterwards() -> None:
    await cut(watch(first=1.0), silence)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)


async def test_a_stream_that_swallows_the_cut_still_fails() -> None:
    async def careless(_: Watch) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)

    assert (await cut(watch(first=1.0), careless)).at == pytest.approx(1.0)


async def test_no_timer_is_left_behind() -> None:
    with watch(first=5.0):
        pass
    await asyncio.sleep(100)


async def test_a_timer_that_rings_before_the_clock_says_so_is_set_again() -> None:
    clock = SystemClock()
    start = clock.monotonic()

    async def forever(_: Watch) -> None:
        await asyncio.sleep(1e6)  # no time at all on this loop

    await cut(Watch(clock, Silent, first=0.02, then=9.0, deadline=None), forever)
    assert clock.monotonic() - start >= 0.02
