"""Tensors in a safetensors file: eight bytes of length, a JSON header, then numbers.

Knows the format, not what the tensors mean. Nothing of the file is trusted: every place the header names is checked.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loam.core.errors import EncoderError

_LONGEST_HEADER = 100 << 20
_TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "I32": np.int32}


class Tensors(Struct, frozen=True):
    """What a file holds; `metadata` is whatever its writer noted, all texts."""

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def read(file: Path) -> Tensors:
    """The tensors of a file, mapped into memory, not copied. Raises EncoderError where it is damaged, and OSError."""
    data = np.memmap(file, np.uint8, "r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > min(_LONGEST_HEADER, len(data) - 8):
        raise EncoderError(f"{file} is no whole safetensors file")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = header.pop("__metadata__", {})
        arrays = {name: _array(data[8 + length :], entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{file} is damaged, or holds numbers of a kind Loam does not read: {error}") from error
    return Tensors(arrays, metadata)


def _array(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError("a tensor ends beyond the file")
    return data[start:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
