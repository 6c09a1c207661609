"""How a request's or an answer's JSON is kept: redacted as its key asks, then compressed with a dictionary.

Knows zstd and redaction; knows no table. Invariants: what `pack` made, `unpack` reads, in any later version too, since
a body says which dictionary it needs; a body with redaction `full` cannot be read back by anyone.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import zstandard
from msgspec import Struct

from loam.gateway.redaction import Redaction, redact_json

Codec = Literal["zstd-1", "digest"]
"""zstd-1: a zstd frame made with `bodies-1.dict`. digest: a JSON `Digest` instead of the body."""

_DICTIONARY = Path(__file__).with_name("bodies-1.dict")
_LEVEL = 3  # with a dictionary as fast as level 1, and a tenth smaller


class Packed(Struct, frozen=True):
    codec: Codec
    data: bytes


class Digest(Struct, frozen=True):
    """What is left of a body that was not kept: enough to prove what it was, not to say it."""

    bytes: int
    sha256: str


class Bodies:
    """Packs on one thread at a time (the database's writer); unpacks on any. Bodies above `largest` leave a digest."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._dictionary = zstandard.ZstdCompressionDict(_DICTIONARY.read_bytes())
        self._dictionary.precompute_compress(level=_LEVEL)  # pyright: ignore[reportUnknownMemberType] - the stub has no type
        self._compressor = zstandard.ZstdCompressor(_LEVEL, dict_data=self._dictionary, write_checksum=True)

    def pack(self, body: bytes, redaction: Redaction) -> Packed:
        if redaction == "full" or len(body) > self._largest:
            digest = Digest(len(body), hashlib.sha256(body).hexdigest())
            return Packed("digest", msgspec.json.encode(digest))
        if redaction == "redacted":
            body = redact_json(body)
        return Packed("zstd-1", self._compressor.compress(body))

    def unpack(self, packed: Packed) -> bytes:
        """The body, or the JSON of its `Digest`. Raises zstandard.ZstdError for a frame that was damaged."""
        if packed.codec == "digest":
            return packed.data
        return zstandard.ZstdDecompressor(dict_data=self._dictionary).decompress(packed.data)


def as_json(value: Any) -> bytes:
    """Loam's own words as JSON; half a character, as a cut stream may leave one, is kept as an escape."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()
