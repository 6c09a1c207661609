"""From a folder or file of weights to a model, and back to a folder that transformers reads.

Knows files and what is wrong with them. Invariant: a model is whole or not there; nothing is guessed, and what is wrong
is said with the file's name and the remedy.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loam.core.errors import EngineError
from loam.engine.architecture import Architecture
from loam.engine.families import read_architecture
from loam.engine.layouts import harmless, pieces
from loam.engine.transformer import Transformer

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, and what the files say about it."""

    model: Transformer
    folder: Path
    config: dict[str, Any]
    stop_tokens: frozenset[int]

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.architecture.context


def load(path: Path, *, weights: Weights = "auto", device: str = "cpu", memory_limit: int | None = None) -> Loaded:
    """The checkpoint at `path`. `auto` keeps the type of its file. Raises `EngineError`."""
    config = read_json(path / "config.json")
    architecture = read_architecture(config)
    with torch.device("meta"):
        model = Transformer(architecture)
    fill(model, Source.open(path), device)
    stops = frozenset[int]()
    for file in ("generation_config.json", "config.json"):
        if (path / file).exists():
            stops |= _tokens(read_json(path / file).get("eos_token_id"))
    return Loaded(model.eval(), path, config, stops)


def read_json(file: Path) -> dict[str, Any]:
    """An object in a JSON file."""
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise EngineError(f"{file} is missing; a checkpoint folder holds it beside its weights") from missing
    except (ValueError, OSError) as broken:
        raise EngineError(f"{file} cannot be read as JSON ({broken}); download it again") from broken
    if not isinstance(value, dict):
        raise EngineError(f"{file} does not hold a JSON object; download it again")
    return value  # pyright: ignore[reportUnknownVariableType]


def _tokens(said: Any) -> frozenset[int]:
    if said is None:
        return frozenset()
    return frozenset(said) if isinstance(said, list) else frozenset((int(said),))  # pyright: ignore[reportUnknownArgumentType]


class Source:
    """Named tensors in safetensors files; each is read when it is asked for, as a view of the mapped file."""

    def __init__(self, where: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], Tensor]) -> None:
        self.where, self.shapes, self.read = where, shapes, read

    @classmethod
    def open(cls, folder: Path) -> "Source":
        files = _files(folder)
        shapes: dict[str, tuple[int, ...]] = {}
        owners: dict[str, Any] = {}
        for file in files:
            try:
                opened: Any = safe_open(str(file), framework="pt")
                for name in opened.keys():  # noqa: SIM118 - it is no dict
                    shapes[name], owners[name] = tuple(opened.get_slice(name).get_shape()), opened
            except (SafetensorError, OSError) as broken:
                raise EngineError(f"{file} is not a whole safetensors file ({broken}); download it again") from broken
        return cls(folder, shapes, lambda name: owners[name].get_tensor(name))

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, of the shape that config.json asks for."""
        if name not in self.shapes:
            raise EngineError(f"{self.where} lacks the tensor {name}; download the checkpoint again")
        if self.shapes[name] != shape:
            raise EngineError(f"{self.where}: {name} has shape {self.shapes[name]}, but config.json asks for {shape}")
        return self.read(name)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names: dict[str, str] = read_json(index).get("weight_map", {})
        return [folder / name for name in sorted(set(names.values()))]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    raise EngineError(f"{folder} holds no model.safetensors; only safetensors and GGUF files are read")


def fill(model: Transformer, source: Source, device: str) -> None:
    """Put every weight of a model (on the meta device) in its place; all must be there, with their shapes."""
    a = model.architecture
    wanted = {name: tuple[int, ...](weight.shape) for name, weight in model.named_parameters(remove_duplicate=False)}
    if a.tied:
        wanted.pop("lm_head.weight")
    state: dict[str, Tensor] = {}
    left = set(source.shapes) - ({"lm_head.weight", "embed_out.weight"} if a.tied else set())
    for piece in pieces(a):
        for kind in ("weight", "bias"):
            ours = [f"{name}.{kind}" for name in piece.ours]
            theirs = f"{piece.theirs}.{kind}"
            if all(name in wanted for name in ours):
                tensor = source.take(theirs, piece.shape([wanted[name] for name in ours])).to(device)
                state.update(zip(ours, piece.split(tensor, a), strict=True))
                left.discard(theirs)
    if strange := sorted(name for name in left if not harmless(name)):
        raise EngineError(
            f"{source.where} holds tensors that config.json does not account for: {', '.join(strange[:5])}"
        )
    if a.tied:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    if a.tied:
        model.lm_head.weight = model.embed_tokens.weight
    model.requires_grad_(False)
