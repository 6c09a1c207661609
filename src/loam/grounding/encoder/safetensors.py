"""Tensors in a safetensors file: the numbers behind its header.

Knows the format, not what the tensors mean. Nothing of the file is trusted: every place the header names is checked.
"""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loam.core.errors import EncoderError
from loam.grounding.encoder import header

_TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "I32": np.int32}


class Tensors(Struct, frozen=True):
    """What a file holds; `metadata` is whatever its writer noted, all texts."""

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def read(file: Path) -> Tensors:
    """The tensors of a file, mapped into memory, not copied. Raises EncoderError where it is damaged, and OSError."""
    head = header.read(file)
    try:
        data = np.memmap(file, np.uint8, "r")[head.start :]
        arrays = {name: _array(data, entry) for name, entry in head.tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{file} is damaged, or holds numbers of a kind Loam does not read: {error}") from error
    return Tensors(arrays, head.metadata)


def _array(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError("a tensor ends beyond the file")
    return data[start:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
