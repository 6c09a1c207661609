"""A small adapter with random weights, the same wherever it is made, and a file of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loam.grounding.encoder.header import FORMAT

QUESTION = "Where does the committee that chose the name Loam meet in winter?"
PASSAGES = (
    "The committee met in the old mill until 1998. Since then it meets in the town hall of Außerferrach, every winter.",
    "Loam is a soil of sand, silt and clay.",
    "Nobody knows. " * 60,
)
_SIZES = {
    "attention.self.query": (384, 384),
    "attention.self.key": (384, 384),
    "attention.self.value": (384, 384),
    "attention.output.dense": (384, 384),
    "intermediate.dense": (384, 1536),
    "output.dense": (1536, 384),
}


def random_adapter(rank: int = 2) -> dict[str, NDArray[np.float16]]:
    """Changes in every module of two layers, a tuned norm, and all three heads."""
    rng = np.random.default_rng(7)

    def noise(*shape: int, scale: float) -> NDArray[np.float16]:
        return (rng.standard_normal(shape) * scale).astype(np.float16)

    arrays: dict[str, NDArray[np.float16]] = {}
    for layer in (0, 4):
        for module, (width, height) in _SIZES.items():
            arrays[f"lora.{layer}.{module}.A"] = noise(rank, width, scale=0.1)
            arrays[f"lora.{layer}.{module}.B"] = noise(height, rank, scale=0.1)
    name = "encoder.layer.2.output.LayerNorm.weight"
    arrays[f"tuned.{name}"] = (1 + noise(384, scale=0.05)).astype(np.float16)
    for head, size in (("span", 2), ("rank", 1), ("verify", 3)):
        arrays[f"{head}.weight"], arrays[f"{head}.bias"] = noise(size, 384, scale=0.1), noise(size, scale=0.5)
    return arrays


def write(file: Path, arrays: dict[str, NDArray[Any]], base: str, card: dict[str, Any] | None = None) -> Path:
    """A safetensors file of heads."""
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "base": base, "card": json.dumps(card or {})}}
    kinds = {"float16": "F16", "float32": "F32", "int64": "I64"}
    place = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": kinds[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(array.tobytes() for array in arrays.values()))
    return file
