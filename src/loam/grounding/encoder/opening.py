"""Puts an encoder and its heads together from what the settings name. Imported only where numpy is installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from loam.core.calls import Target
from loam.core.errors import EncoderError, SettingsError
from loam.core.ports import Model
from loam.grounding.encoder import adapter
from loam.grounding.encoder.encoder import LocalEncoder
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.remote import RemoteEncoder
from loam.grounding.encoder.settings import Backend, EncoderSettings, Opened
from loam.grounding.encoder.weights import Weights, find_minilm, home, read_folder

HEADS = Path(__file__).parents[1] / "heads"
"""Where the trained heads ship."""


def open_encoder(settings: EncoderSettings, data: Path, models: Mapping[str, Model], heads: Path = HEADS) -> Opened:
    """As `loam.grounding.encoder.settings.open_encoder`, which says what it raises."""
    notices: list[str] = []
    backend = _backend(settings, notices)
    worker = Worker()

    def source(weights: Weights, backend: Backend) -> Source:
        return Source(weights=weights, cache=home(data), backend=backend, threads=settings.bounded_threads)

    chosen = _chosen(settings.name, models)
    minilm = _minilm(data, notices, needed=chosen is None)
    local = chosen if isinstance(chosen, Weights) else minilm
    tokens = LocalEncoder(source(local, backend), worker) if local else None
    encoder = chosen if isinstance(chosen, RemoteEncoder) else tokens
    judge = None
    if minilm is not None:
        # judgements are made one pair at a time: nothing is gained there by the back end for bulk
        judge = _heads(source(minilm, "nb8" if backend == "int8" else backend), heads, worker, notices)
    return Opened(encoder, tokens, judge, "; ".join(notices))


def _chosen(name: str, models: Mapping[str, Model]) -> Weights | RemoteEncoder | None:
    """A folder's weights, a provider's model, or None for what ships."""
    if name == "minilm":
        return None
    provider, _, model = name.partition("/")
    if provider in models and model:
        return RemoteEncoder(models[provider], Target(provider, model))
    if Path(name).is_dir():
        return read_folder(Path(name))
    raise SettingsError(
        f"the encoder {name!r} is neither minilm, none, a folder that is there, nor a model of a configured provider "
        f"({', '.join(models) or 'there is none'})"
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


def _heads(source: Source, folder: Path, worker: Worker, notices: list[str]) -> PairHeads | None:
    try:
        adapters = [adapter.read(file, source.weights) for file in sorted(folder.glob("*.safetensors"))]
    except EncoderError as error:
        notices.append(str(error))
        return None
    return PairHeads(source, adapters, worker) if adapters else None
