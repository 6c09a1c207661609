"""Counters for Prometheus: cheap to raise on the data path, rendered by prometheus-client when they are asked for.

Knows calls that ended; keeps nothing of one call. Invariant: the labels' values are bounded: models beyond `MOST` of a
provider count as "other", so a client that makes up names cannot fill the memory.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from loam.core.calls import Call
from loam.gateway.calls import Ending

MOST = 500
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


class Metrics(Collector):
    """`record` a call that ended; `text()` is what a scrape gets."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, str, str], int] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        self._micros: dict[str, int] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._latency: dict[str, _Histogram] = {}
        self._first: dict[str, _Histogram] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def record(self, call: Call, ending: Ending, began: float) -> None:
        """Counts one call: how it ended, what it used, and how long it and its first content took."""
        trace = call.trace
        usage = ending.said.usage
        model = self._label(trace.model)
        _raise(self._calls, (model, ending.state, trace.cache or "off", call.family), 1)
        if usage is not None:
            _raise(self._tokens, (model, "input"), usage.input)
            _raise(self._tokens, (model, "output"), usage.output)
        if trace.cost:
            _raise(self._micros, model, trace.cost)
        for attempt in trace.attempts:
            _raise(self._attempts, (attempt.provider, attempt.failure or attempt.outcome), 1)
        _time(self._latency, model, ending.ended - began)
        if ending.first_content is not None:
            _time(self._first, model, ending.first_content - began)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        yield _counter("loam_calls", "Calls that ended.", ("model", "state", "cache", "family"), self._calls)
        yield _counter("loam_tokens", "Tokens, by kind.", ("model", "kind"), self._tokens)
        yield _counter("loam_attempts", "Requests to providers.", ("provider", "outcome"), self._attempts)
        dollars = {(model,): micros / 1e6 for model, micros in self._micros.items()}
        yield _counter("loam_cost_dollars", "What calls cost.", ("model",), dollars)
        yield _histogram("loam_call_seconds", "How long calls took.", self._latency)
        yield _histogram("loam_first_token_seconds", "How long the first content took.", self._first)

    def _label(self, model: str) -> str:
        return model if model in self._latency or len(self._latency) < MOST else "other"


def _raise(counts: dict[Any, int], key: Any, by: int) -> None:
    counts[key] = counts.get(key, 0) + by


def _time(found: dict[str, _Histogram], model: str, seconds: float) -> None:
    histogram = found.get(model)
    if histogram is None:
        histogram = found[model] = _Histogram()
    histogram.add(seconds)


def _counter(name: str, text: str, labels: tuple[str, ...], counts: dict[Any, Any]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in counts.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, found: dict[str, _Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("model",))
    for model, histogram in found.items():
        family.add_metric((model,), list(_buckets(histogram)), histogram.total)
    return family


def _buckets(histogram: _Histogram) -> Iterator[tuple[str, float]]:
    sum_ = 0
    for limit, count in zip((*_SECONDS, "+Inf"), histogram.counts, strict=True):
        sum_ += count
        yield str(limit), sum_
