"""Named tensors in files, and what is wrong with files.

Knows safetensors (one file, or shards with an index); GGUF is `gguf_files.py`'s. Invariant: a tensor is a view of the
mapped file until somebody converts it, and a file that cannot be trusted is refused with its name and the remedy.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loam.core.errors import EngineError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Source:
    """`shapes` of all tensors, `kind`: the type most of them have, and `take` to read one."""

    def __init__(
        self, where: Path, shapes: Mapping[str, tuple[int, ...]], kind: torch.dtype, read: Callable[[str], Tensor]
    ) -> None:
        self.where, self.shapes, self.kind = where, shapes, kind
        self._read = read

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, of the shape that the configuration asks for. Raises `EngineError`."""
        if name not in self.shapes:
            raise EngineError(f"{self.where} lacks the tensor {name}; download the checkpoint again")
        if tuple(self.shapes[name]) != shape:
            got = tuple(self.shapes[name])
            raise EngineError(
                f"{self.where}: {name} has shape {got}, but the configuration asks for {shape}; "
                "config.json and weights are not of the same model"
            )
        return self._read(name)


def safetensors(folder: Path) -> Source:
    """The safetensors of a checkpoint folder. Only headers are read here."""
    shapes: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    owners: dict[str, Any] = {}
    for file in _files(folder):
        try:
            opened: Any = safe_open(str(file), framework="pt")
            for name in opened.keys():  # noqa: SIM118 - it is no dict
                piece = opened.get_slice(name)
                shapes[name], owners[name] = tuple(piece.get_shape()), opened
                sizes[piece.get_dtype()] = sizes.get(piece.get_dtype(), 0) + 1
        except (SafetensorError, OSError) as broken:
            raise EngineError(f"{file} is not a whole safetensors file ({broken}); download it again") from broken
    if not shapes:
        raise EngineError(f"{folder} holds no tensors; download the checkpoint again")
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
    most = max(sizes, key=lambda name: sizes[name])
    if most not in kinds:
        raise EngineError(f"{folder} holds weights of type {most}; Loam reads {', '.join(kinds)} and quantises itself")

    def read(name: str) -> Tensor:
        try:
            return owners[name].get_tensor(name)
        except (SafetensorError, OSError) as broken:
            raise EngineError(f"{folder}: {name} cannot be read ({broken}); download the checkpoint again") from broken

    return Source(folder, shapes, kinds[most], read)


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        files = _indexed(folder)
        for file in files:
            if not file.exists():
                raise EngineError(f"{file} is missing, which {INDEX} names; download the checkpoint again")
        return files
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    pickles = [file.name for pattern in _PICKLES for file in folder.glob(pattern)]
    if pickles:
        raise EngineError(
            f"{folder} holds {pickles[0]}, a pickle, which can run code when it is read; "
            "take the model's safetensors, or convert it with safetensors' convert tool"
        )
    raise EngineError(
        f"{folder} holds no {SINGLE}; a checkpoint is a folder with config.json and safetensors, or a .gguf"
    )


def _indexed(folder: Path) -> list[Path]:
    """The shards that an index names; each lies in the folder itself."""
    names: Any = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise EngineError(f"{folder / INDEX} has no weight_map; download the checkpoint again")
    shards = sorted({str(shard) for shard in cast("dict[str, str]", names).values()})
    for shard in shards:
        if Path(shard).name != shard:
            raise EngineError(
                f"{folder / INDEX} names {shard!r}, which lies outside its folder; do not use this checkpoint"
            )
    return [folder / shard for shard in shards]


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `EngineError`."""
    try:
        value: Any = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise EngineError(f"{file} is missing; a checkpoint folder holds it beside its weights") from missing
    except (ValueError, OSError, RecursionError) as broken:
        raise EngineError(f"{file} cannot be read as JSON ({broken}); download it again") from broken
    if not isinstance(value, dict):
        raise EngineError(f"{file} does not hold a JSON object; download it again")
    return cast("dict[str, Any]", value)
