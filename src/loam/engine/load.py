"""From a folder or file of weights to a model, and back to a folder that transformers reads.

    loaded = load(resolve("org/name"), weights="int8")    # resolve: see `hub.py`
    loaded.model(tokens)

Invariant: a model is whole or not there. Nothing is guessed; what is wrong is said with the file's name and the remedy,
and what does not fit into memory is refused before its weights are read.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from loam.core.errors import EngineError
from loam.engine.architecture import Architecture
from loam.engine.exact import Exact
from loam.engine.families import read_architecture
from loam.engine.gguf_files import open_gguf
from loam.engine.layouts import Piece, harmless, pieces
from loam.engine.mapped import Mapped
from loam.engine.memory import Limit, Weights, fit, weight_bytes
from loam.engine.quantize import Int4Linear, Int8Linear, quantised
from loam.engine.sources import INDEX, SINGLE, Source, read_json, safetensors
from loam.engine.transformer import Transformer

PLAIN: tuple[Weights, ...] = ("auto", "fp32", "bf16")
"""Those that keep linear layers as they are."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, and what its files say about it."""

    model: Transformer
    folder: Path
    """Where it was read: the folder, or the .gguf file."""
    config: dict[str, Any]
    stop_tokens: frozenset[int]
    weights: Weights

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.architecture.context


def load(
    path: Path | str,
    *,
    weights: Weights = "auto",
    device: str = "cpu",
    memory_limit: Limit = None,
    exact: bool = False,
) -> Loaded:
    """The checkpoint at `path`, a folder or a .gguf file, frozen and ready to `step`.

    `memory_limit` is in bytes, `device` as torch names it. `exact` makes `step` batch-invariant (see `exact.py`).
    Raises `EngineError` where a file is missing, broken, of a kind that Loam does not run, or too large.
    """
    path = Path(path)
    _check_device(device)
    if path.suffix == ".gguf":
        config, source, layout = open_gguf(path)
        architecture = _named(path, config)
    else:
        config = read_json(path / "config.json")
        architecture = _named(path / "config.json", config)
        source, layout = safetensors(path), pieces(architecture)
    fit(path, weight_bytes(architecture, weights, source.kind), device, memory_limit)
    with torch.device("meta"):
        model = Transformer(architecture)
    _fill(model, source, layout, weights, device)
    model.exact = Exact() if exact else None
    return Loaded(model.eval().requires_grad_(False), path, config, _stops(path, config), weights)


def save(model: Transformer, folder: Path, config: dict[str, Any], *, shard: int = 5_000_000_000) -> None:
    """Write a folder that transformers loads: config.json, and safetensors of pieces up to `shard` bytes.

    `config` is what the model was made from (`Loaded.config`), or a config.json of one's own that reads to the same
    architecture. Raises `EngineError` for quantised weights, which have lost what the format holds.
    """
    if read_architecture(config) != model.architecture:
        raise EngineError(f"{folder}: the given config describes another architecture than the model's")
    packed = _packed(model, folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in packed.items():
        if shards[-1] and size + tensor.nbytes > shard:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(packed, folder / SINGLE, metadata={"format": "pt"})
    else:
        _write_shards(folder, shards)
    kind = str(next(iter(packed.values())).dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config | {"dtype": kind}, indent=2), "utf-8")


def _write_shards(folder: Path, shards: Sequence[dict[str, Tensor]]) -> None:
    names: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        names |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / INDEX).write_text(json.dumps(index, indent=2), "utf-8")


def _packed(model: Transformer, folder: Path) -> dict[str, Tensor]:
    """All weights under the names of the family's files."""
    if any(isinstance(module, Int8Linear | Int4Linear) for module in model.modules()):
        raise EngineError(f"{folder}: quantised weights are not saved; load the checkpoint as bf16 or fp32")
    held = dict(model.named_parameters(remove_duplicate=False))
    packed: dict[str, Tensor] = {}
    for piece in pieces(model.architecture):
        if piece.ours == ("lm_head",) and model.architecture.tied:
            continue
        for kind in ("weight", "bias"):
            parts = [held[name] for ours in piece.ours if (name := f"{ours}.{kind}") in held]
            if len(parts) == len(piece.ours):
                packed[f"{piece.theirs}.{kind}"] = piece.join(
                    [p.detach() for p in parts], model.architecture
                ).contiguous()
    return packed


def _named(file: Path, config: dict[str, Any]) -> Architecture:
    """The architecture; what is wrong with a config is said with its file's name."""
    try:
        return read_architecture(config)
    except EngineError as wrong:
        raise EngineError(f"{file}: {wrong}") from wrong
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as wrong:
        raise EngineError(f"{file}: a setting has a value of the wrong kind ({wrong}); download it again") from wrong


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as absent:
        raise EngineError(f"device {device!r} cannot be used ({str(absent).splitlines()[0]}); use cpu") from absent


def _fill(model: Transformer, source: Source, layout: Sequence[Piece], weights: Weights, device: str) -> None:
    """Put every weight of a model (on the meta device) in its place; all must be there, with their shapes.

    Layer by layer, so that of a model that is converted or quantised no more than one module is held twice.
    """
    a = model.architecture
    wanted = {name: tuple[int, ...](weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    if a.tied:
        wanted.pop("lm_head.weight")
    mapped = Mapped()
    left = set(source.shapes) - ({"lm_head.weight", "embed_out.weight", "output.weight"} if a.tied else set())
    prefix = "transformer." if "wte.weight" in left else ""  # the first GPT-2 files leave it out
    for piece in layout:
        taken: list[Tensor] = []
        parts: dict[str, tuple[Tensor, ...]] = {}
        for part, theirs, shape in _asked(piece, wanted, prefix):
            taken.append(source.take(theirs, shape))
            parts[part] = piece.split(taken[-1].to(device), a)
            left.discard(theirs)
        for number, name in enumerate(piece.ours):
            _place(model, name, {part: of[number] for part, of in parts.items()}, source.kind, weights)
        for tensor in taken:  # what was converted is in memory once, what was not is read when it is needed
            mapped.give_back(tensor)
    if wanted:
        raise EngineError(f"{source.where} has no place for {', '.join(sorted(wanted)[:3])}; its format lacks them")
    if strange := sorted(name for name in left if not harmless(name)):
        raise EngineError(
            f"{source.where} holds tensors that its configuration does not account for: {', '.join(strange[:5])}; "
            "configuration and weights are not of the same model"
        )
    if a.tied:
        _place(model, "lm_head", {"weight": model.embed_tokens.weight.detach()}, source.kind, weights)
        mapped.give_back(model.embed_tokens.weight)
        if weights in PLAIN:
            model.lm_head.weight = model.embed_tokens.weight


def _asked(piece: Piece, wanted: dict[str, tuple[int, ...]], prefix: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """What this model wants of a piece: weight or bias, the tensor's name and its shape; no longer wanted then."""
    for part in ("weight", "bias"):
        ours = [f"{name}.{part}" for name in piece.ours]
        if all(name in wanted for name in ours):
            shape = piece.shape([wanted.pop(name) for name in ours])
            yield part, f"{piece.theirs}.{part}".removeprefix(prefix), shape


def _place(model: Transformer, name: str, parts: dict[str, Tensor], found: torch.dtype, weights: Weights) -> None:
    """The weights of one module, in their final type."""
    if not parts:
        return
    module = model.get_submodule(name)
    wide = weights == "fp32" or (weights == "auto" and found in (torch.float32, torch.float64))
    kind = torch.float32 if wide else torch.bfloat16
    if isinstance(module, nn.Linear) and weights not in PLAIN:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, quantised(parts["weight"], parts.get("bias"), weights))
        return
    for part, tensor in parts.items():
        setattr(module, part, nn.Parameter(tensor.to(kind), requires_grad=False))


def _stops(path: Path, config: dict[str, Any]) -> frozenset[int]:
    """Tokens that end an answer, from generation_config.json and config.json."""
    said = [config.get("eos_token_id")]
    if (path / "generation_config.json").exists():
        said.append(read_json(path / "generation_config.json").get("eos_token_id"))
    stops: set[int] = set()
    for value in said:
        for token in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(token, int):
                stops.add(token)
    return frozenset(stops)
