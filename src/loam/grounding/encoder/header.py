"""What a safetensors file says of itself: eight bytes of length, then a JSON header with a place for every tensor.

Knows no numbers and needs no library, so that a file can be looked at where nothing is computed yet. Nothing of the
file is trusted. The files of trained heads are looked at here too: a file names the encoder it was trained on.
"""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from loam.core.errors import EncoderError
from loam.grounding.encoder.weights import Weights

FORMAT = "loam-heads-1"
"""What the metadata of a file of heads has under `format`."""

_LONGEST = 100 << 20


class Header(Struct, frozen=True):
    """`metadata` is whatever the writer noted, all texts; the tensors' places count from byte `start`."""

    tensors: dict[str, Any]
    metadata: dict[str, str]
    start: int


def read(file: Path) -> Header:
    """The header of a file. Raises EncoderError where it is damaged, and OSError."""
    size = file.stat().st_size
    with file.open("rb") as data:
        length = int.from_bytes(data.read(8), "little")
        if size < 8 or length > min(_LONGEST, size - 8):
            raise EncoderError(f"{file} is no whole safetensors file")
        text = data.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
    except (ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{file} is damaged: {error}") from error
    return Header(header, metadata, 8 + length)


def heads(file: Path, weights: Weights) -> Header:
    """The header of a file of heads. Raises EncoderError where it is of another format or encoder; and OSError."""
    header = read(file)
    if header.metadata.get("format") != FORMAT:
        raise EncoderError(f"{file} is no file of heads in the format {FORMAT}")
    if header.metadata.get("base") != weights.sha256:
        raise EncoderError(f"the heads in {file} were trained on another encoder than {weights.name}")
    return header
