"""Interleaved rounds over several servers, and the rows that come of them; shared by the benches that compare.

It knows `bench.load` and `bench.measure`; not what is compared. Invariant: in each round every server gets the same
load before the next load starts, so that a slow minute of the machine hits all of them.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import uvloop

from bench import load
from bench.measure import Server, busy_s, median, table

Result = TypeVar("Result", load.Requests, load.Streams)

CHUNKS, DELAY_MS = 50, 10.0
STREAM_S = CHUNKS * DELAY_MS / 1000
WARM_UP_S = 0.5
QUIET_CORES, DISTURBED_CORES = 0.15, 0.3


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under load: the requests it gets, and its process (None: the mock itself, for the direct row)."""

    name: str
    url: str
    server: Server | None
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = "bench"
    most_streams: int = 2000  # more than this only queue; not run

    def target(self, **body: Any) -> load.Target:
        """The request, with ``body`` fields added."""
        return load.target(self.url, headers=dict(self.headers), model=self.model, **body)

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return self.server.cpu_s() if self.server else 0.0


@dataclass(frozen=True, slots=True)
class Sample(Generic[Result]):
    """One contender, one load, one round."""

    contender: str
    result: Result
    cpu_us: float  # of the contender, a call or an event
    foreign_cores: float  # busy with neither contender, load nor mock; stolen by the host included


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to run."""

    rounds: int = 3
    seconds: float = 3.0
    concurrencies: Sequence[int] = (1, 16, 64)
    streams: Sequence[int] = (64, 256, 400)


def whole_answers(
    contenders: Sequence[Contender], plan: Plan, mock: Server, say: Callable[[str], None]
) -> list[Sample[load.Requests]]:
    """Every contender at every concurrency, ``plan.rounds`` times."""

    def take(contender: Contender, concurrency: int) -> Sample[load.Requests]:
        target = contender.target()
        uvloop.run(load.requests(target, concurrency=concurrency, seconds=WARM_UP_S))
        meter = _Meter(contender, mock)
        result = uvloop.run(load.requests(target, concurrency=concurrency, seconds=plan.seconds))
        say(f"c={concurrency} {contender.name}: {result.per_s:.0f} req/s")
        return meter.sample(result, result.calls)

    return [
        _least_disturbed(take, contender, concurrency)
        for _ in range(plan.rounds)
        for concurrency in plan.concurrencies
        for contender in contenders
    ]


def event_streams(
    contenders: Sequence[Contender], plan: Plan, mock: Server, say: Callable[[str], None]
) -> list[Sample[load.Streams]]:
    """Every contender at every number of streams that it can bear, ``plan.rounds`` times."""

    def take(contender: Contender, concurrency: int) -> Sample[load.Streams]:
        target = contender.target(stream=True)
        meter = _Meter(contender, mock)
        job = load.streams(target, concurrency=concurrency, seconds=plan.seconds, chunks=CHUNKS, stream_s=STREAM_S)
        result = uvloop.run(job)
        say(f"streams={concurrency} {contender.name}: {result.events_per_s:.0f} events/s")
        return meter.sample(result, result.events)

    return [
        _least_disturbed(take, contender, concurrency)
        for _ in range(plan.rounds)
        for concurrency in plan.streams
        for contender in contenders
        if concurrency <= contender.most_streams
    ]


def _least_disturbed(
    take: Callable[[Contender, int], Sample[Result]], contender: Contender, concurrency: int
) -> Sample[Result]:
    """Takes a sample again, at most twice, while others use the machine; keeps the one that they disturbed least."""
    best: Sample[Result] | None = None
    for _ in range(3):
        wait_for_quiet()
        sample = take(contender, concurrency)
        if best is None or sample.foreign_cores < best.foreign_cores:
            best = sample
        if best.foreign_cores <= DISTURBED_CORES:
            break
    assert best
    return best


def wait_for_quiet(*, patience_s: float = 6.0) -> None:
    """Wait until others leave the machine alone, or patience ends; the foreign cores are reported either way."""
    limit = time.monotonic() + patience_s
    while time.monotonic() < limit:
        before = busy_s()
        time.sleep(0.25)
        if busy_s() - before <= QUIET_CORES * 0.25:
            return
        time.sleep(0.5)


class _Meter:
    """Reads the CPU of all concerned, before and after."""

    def __init__(self, contender: Contender, mock: Server) -> None:
        self._contender, self._mock = contender, mock
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        own = os.times()
        return self._contender.cpu_s(), self._mock.cpu_s() + own.user + own.system, busy_s(), own.elapsed

    def sample(self, result: Result, count: int) -> Sample[Result]:
        cpu, ours, busy, wall = (new - old for new, old in zip(self._read(), self._before, strict=True))
        cpu_us = cpu * 1e6 / count if count else float("nan")
        return Sample(self._contender.name, result, cpu_us, max(0.0, (busy - cpu - ours) / wall))


REQUEST_HEAD = ("", "c", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "errors", "foreign cores")
STREAM_HEAD = (
    "", "streams", "events/s", "TTFT p50/p99 ms", "stream p50/p99 ms", "CPU µs/event", "lost events, broken streams",
    "foreign cores",
)  # fmt: skip


def request_table(samples: Iterable[Sample[load.Requests]]) -> str:
    """Medians over the rounds; errors are summed."""
    rows = []
    for (name, concurrency), group in _grouped(samples).items():
        results = [sample.result for sample in group]
        row = [name, str(concurrency), f"{median([one.per_s for one in results]):,.0f}".replace(",", " ")]
        row += [f"{median([one.p50_ms for one in results]):.2f}", f"{median([one.p99_ms for one in results]):.2f}"]
        row += [_cpu(group), str(sum(one.errors for one in results)), _foreign(group)]
        rows.append(row)
    return table(REQUEST_HEAD, rows)


def stream_table(samples: Iterable[Sample[load.Streams]]) -> str:
    """Medians over the rounds; lost and broken are summed."""
    rows = []
    for (name, concurrency), group in _grouped(samples).items():
        results = [sample.result for sample in group]
        row = [name, str(concurrency), f"{median([one.events_per_s for one in results]):,.0f}".replace(",", " ")]
        row += [_pair([(one.ttft_p50_ms, one.ttft_p99_ms) for one in results])]
        row += [_pair([(one.stream_p50_ms, one.stream_p99_ms) for one in results]), _cpu(group)]
        row += [f"{sum(one.lost_events for one in results)}, {sum(one.broken_streams for one in results)}"]
        rows.append([*row, _foreign(group)])
    return table(STREAM_HEAD, rows)


def ratio(
    samples: Sequence[Sample[Result]], name: str, to: str, concurrency: int, value: Callable[[Sample[Result]], float]
) -> float:
    """``value`` of ``name`` over that of ``to``, of their medians; nan if one did not run."""
    groups = _grouped(samples)
    mine, theirs = (median([value(one) for one in groups.get((who, concurrency), [])]) for who in (name, to))
    return mine / theirs if theirs else float("nan")


def _grouped(
    samples: Iterable[Sample[Result]],
) -> dict[tuple[str, int], list[Sample[Result]]]:
    groups: dict[tuple[str, int], list[Sample[Result]]] = {}
    for sample in samples:
        groups.setdefault((sample.contender, sample.result.concurrency), []).append(sample)
    return groups


def _cpu(group: Sequence[Sample[Any]]) -> str:
    cpu_us = median([sample.cpu_us for sample in group])
    return f"{cpu_us:.0f}" if cpu_us else "-"


def _foreign(group: Sequence[Sample[Any]]) -> str:
    return f"{max(sample.foreign_cores for sample in group):.2f}"


def _pair(pairs: Sequence[tuple[float, float]]) -> str:
    return f"{median([low for low, _ in pairs]):.1f}/{median([high for _, high in pairs]):.1f}"
