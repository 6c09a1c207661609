"""Finds out which encoder and heads the settings name, and has them made when they are first asked.

Needs no library itself. Invariant: what is missing or amiss is told when the gateway starts, not when somebody asks.
"""

from collections.abc import Collection, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loam.core.calls import Target
from loam.core.errors import EncoderError, SettingsError
from loam.core.ports import Model
from loam.grounding.encoder import header
from loam.grounding.encoder.late import LateEncoder, LateHeads, LateTokens
from loam.grounding.encoder.settings import Backend, EncoderSettings, Opened
from loam.grounding.encoder.weights import Weights, find_minilm, home, read_folder, sha256
from loam.grounding.encoder.worker import Worker

HEADS = Path(__file__).parents[1] / "heads"
"""Where the trained heads ship: one safetensors file or more. Without them words alone are counted."""


def open_encoder(settings: EncoderSettings, data: Path, providers: Collection[str], heads: Path = HEADS) -> Opened:
    """As `loam.grounding.encoder.choice.open_encoder`, which says what it raises."""
    notices: list[str] = []
    backend = _backend(settings, notices)
    place = _Place(home(data), settings.bounded_threads, Worker())
    chosen = _chosen(settings.name, providers)
    minilm = _minilm(data, notices, needed=chosen is None)
    local = chosen if isinstance(chosen, Weights) else minilm
    tokens = place.encoder(local, backend) if local else None
    remote = partial(place.remote, chosen) if isinstance(chosen, Target) else None
    judge = None
    if minilm is not None:
        # judgements are made one pair at a time: nothing is gained there by the back end for bulk
        judge = place.heads(minilm, "nb8" if backend == "int8" else backend, _heads(heads, minilm, notices))
    encoder = tokens if remote is None else None
    return Opened(encoder, remote, tokens, judge, "; ".join(notices), place.worker.close)


class _Place:
    """Where encoders run: `cache` is where their graphs are kept."""

    def __init__(self, cache: Path, threads: int, worker: Worker) -> None:
        self._cache = cache
        self._threads = threads
        self.worker = worker

    def encoder(self, weights: Weights, backend: Backend) -> LateTokens:
        def make() -> Any:
            return _module("encoder").LocalEncoder(self._source(weights, backend), self.worker)

        return LateTokens(weights.id(backend), weights.shape.hidden, make, self.worker)

    def remote(self, target: Target, model: Model) -> LateEncoder[Any]:
        return LateEncoder(str(target), 0, lambda: _module("remote").RemoteEncoder(model, target), self.worker)

    def heads(self, weights: Weights, backend: Backend, files: Sequence[Path]) -> LateHeads | None:
        def make() -> Any:
            adapters = [_module("adapter").read(file, weights) for file in files]
            return _module("heads").PairHeads(self._source(weights, backend), adapters, self.worker)

        if not files:
            return None
        names = [f"{file.stem}/{sha256(file)[:12]}" for file in files]
        return LateHeads(f"{'+'.join(names)}/{backend}", make, self.worker)

    def _source(self, weights: Weights, backend: Backend) -> Any:
        return _module("passes").Source(weights=weights, cache=self._cache, backend=backend, threads=self._threads)


def _module(name: str) -> Any:
    """A module of this room that imports numpy."""
    return import_module(f"loam.grounding.encoder.{name}")


def _chosen(name: str, providers: Collection[str]) -> Weights | Target | None:
    """A folder's weights, a provider's model, or None for what ships."""
    if name == "minilm":
        return None
    provider, _, model = name.partition("/")
    if provider in providers and model:
        return Target(provider, model)
    if Path(name).is_dir():
        return read_folder(Path(name))
    raise SettingsError(
        f"the encoder {name!r} is neither minilm, none, a folder that is there, nor a model of a configured provider "
        f"({', '.join(providers) or 'there is none'})"
    )


def _minilm(data: Path, notices: list[str], *, needed: bool) -> Weights | None:
    try:
        return find_minilm(data)
    except EncoderError as error:
        notices.append(f"search is by words only: {error}" if needed else f"answers are checked by words only: {error}")
        return None


def _backend(settings: EncoderSettings, notices: list[str]) -> Backend:
    if settings.backend == "numpy" or find_spec("onnxruntime") is not None:
        return settings.backend
    notices.append("the encoder computes in numpy, at a third of its speed: install loam[grounding] for onnxruntime")
    return "numpy"


def _heads(folder: Path, weights: Weights, notices: list[str]) -> Sequence[Path]:
    """The files of heads that ship, if together they are whole."""
    files = sorted(folder.glob("*.safetensors"))
    try:
        held = [header.heads(file, weights).tensors for file in files]
    except (EncoderError, OSError) as error:
        notices.append(str(error))
        return ()
    reads = any({"span.weight", "rank.weight"} <= tensors.keys() for tensors in held)
    if files and not (reads and any("verify.weight" in tensors for tensors in held)):
        notices.append(f"the heads in {folder} are not whole: span, rank and verify are needed")
        return ()
    return files
