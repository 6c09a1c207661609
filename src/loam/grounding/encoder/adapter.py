"""Small trained weights on the frozen encoder: low-rank changes of its layers, tuned norms, and heads.

Knows the file's format, not what the heads mean. A file names the encoder it was trained on, and is refused on another.
"""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from loam.grounding.encoder import header, safetensors
from loam.grounding.encoder.weights import Weights, sha256


class Adapter(Struct, frozen=True):
    """An adapter file; `card` is what its trainer measured, as data."""

    name: str
    sha256: str
    arrays: dict[str, NDArray[Any]]
    card: dict[str, Any]


def read(file: Path, weights: Weights) -> Adapter:
    """Raises EncoderError where the file is damaged, of another format, or made for another encoder; and OSError."""
    header.heads(file, weights)
    tensors = safetensors.read(file)
    card = json.decode(tensors.metadata.get("card", "{}"), type=dict[str, Any])
    return Adapter(file.stem, sha256(file), tensors.arrays, card)


def merged(tensors: dict[str, NDArray[Any]], adapter: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The encoder's tensors with the adapter's put in: W + B A, the tuned ones instead, the heads beside them."""
    result = dict(tensors)
    for name, array in adapter.items():
        if name.startswith("tuned."):
            result[name.removeprefix("tuned.")] = array.astype(np.float32)
        elif name.startswith("lora."):
            if name.endswith(".A"):
                stem = name.removesuffix(".A")
                layer, _, module = stem.removeprefix("lora.").partition(".")
                target = f"encoder.layer.{layer}.{module}.weight"
                low, high = array.astype(np.float32), adapter[f"{stem}.B"].astype(np.float32)
                result[target] = tensors[target] + high @ low
        else:
            result[name] = array.astype(np.float32)
    return result
