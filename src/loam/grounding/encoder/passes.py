"""Runs word pieces through an encoder, batch by batch, on one thread of its own.

Knows back ends, padding and batches of like length; knows neither texts nor what the outputs are for. The back end is
opened by the first batch: an idle gateway holds no weights.
Invariant: one batch runs at a time, and between two batches of a long call others get their turn.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from loam.core.errors import EncoderError
from loam.grounding.encoder import onnx_graph, safetensors, weights
from loam.grounding.encoder.adapter import Adapter, merged
from loam.grounding.encoder.forward import NumpyForward
from loam.grounding.encoder.settings import Backend
from loam.grounding.encoder.weights import PINNED, TENSORS, Weights
from loam.grounding.encoder.worker import Worker

BATCH = 2048
"""Padded pieces in a batch: eight full texts. More are no faster, and a query waits for the batch before it."""


class Input(Protocol):
    """Pieces as a model reads them."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def types(self) -> Sequence[int]: ...


class _Forward(Protocol):
    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[np.float32]]: ...


class Batch(Struct, frozen=True):
    """Outputs of some inputs: `places` says which; row i of each array belongs to `places[i]`, padded at its end."""

    places: list[int]
    outputs: list[NDArray[np.float32]]


class Source(Struct, frozen=True, kw_only=True):
    """Which weights run how. `cache` is where graphs are kept."""

    weights: Weights
    cache: Path
    backend: Backend = "nb8"
    threads: int = 2
    adapter: Adapter | None = None

    def with_adapter(self, adapter: Adapter) -> "Source":
        return structs.replace(self, adapter=adapter)


class Passes:
    """An encoder, with an adapter or without, that opens when it is first asked."""

    def __init__(self, source: Source, worker: Worker) -> None:
        self._source = source
        self._worker = worker
        self._forward: _Forward | None = None

    async def run(self, inputs: Sequence[Input], *outputs: str) -> list[Batch]:
        """The outputs of all inputs, in batches of like length."""
        return [
            Batch(places, await self._worker.run(self._run, [inputs[place] for place in places], outputs))
            for places in batches([len(one.ids) for one in inputs])
        ]

    def _run(self, inputs: Sequence[Input], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        if self._forward is None:
            self._forward = _open(self._source)
        return self._forward.run(_padded(inputs), outputs)


def batches(lengths: Sequence[int], most: int = BATCH) -> Iterator[list[int]]:
    """Places of inputs, the shortest first, in batches of at most `most` padded pieces (or one input)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padded(inputs: Sequence[Input]) -> dict[str, NDArray[Any]]:
    shape = len(inputs), max(len(one.ids) for one in inputs)
    ids, types, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int32)
    for row, one in enumerate(inputs):
        size = len(one.ids)
        ids[row, :size], types[row, :size], mask[row, :size] = one.ids, one.types, 1
    return {"ids": ids, "types": types, "mask": mask}


def _open(source: Source) -> _Forward:
    if source.backend == "numpy":
        return NumpyForward(_tensors(source), source.weights.shape)
    if find_spec("onnxruntime") is None:
        raise EncoderError(f"the back end {source.backend} needs onnxruntime; install loam[grounding]")
    hashes = [source.weights.sha256] + ([source.adapter.sha256] if source.adapter else [])
    name = source.weights.name + (f"-{source.adapter.name}" if source.adapter else "")
    file = onnx_graph.kept(source.cache, name, source.backend, *hashes)
    if not file.is_file():
        onnx_graph.write(file, _tensors(source), source.weights.shape, source.backend)
    return import_module("loam.grounding.encoder.session").OnnxForward(file, source.threads)


def _tensors(source: Source) -> dict[str, NDArray[Any]]:
    if source.weights.sha256 == PINNED[TENSORS]:
        weights.check(source.weights.folder, TENSORS)
    tensors = safetensors.read(source.weights.folder / TENSORS).arrays
    bare = {name.removeprefix("bert."): array for name, array in tensors.items()}
    return merged(bare, source.adapter.arrays) if source.adapter else bare
