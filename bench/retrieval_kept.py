"""An encoder and heads that remember, in files under `.bench/`, what they once made of a text.

Knows texts by their hashes, and models by their ids, so nothing old is ever given for something new.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loam.grounding.encoder.port import Encoder, Heads, Reading, Support


class RememberingEncoder:
    """Vectors of texts."""

    def __init__(self, inner: Encoder, file: Path) -> None:
        self._inner = inner
        self._file = file
        kept = np.load(file) if file.exists() else {"keys": np.zeros(0, "S32"), "vectors": np.zeros((0, inner.size))}
        self._known = dict(zip(kept["keys"].tolist(), kept["vectors"].astype(np.float32), strict=True))

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def size(self) -> int:
        return self._inner.size

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [_key(self.id, text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            made = await self._inner.embed(list(missing.values()))
            self._known.update(zip(missing, made, strict=True))
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, self.size), np.float32)

    def save(self) -> None:
        np.savez(self._file, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))


class RememberingHeads:
    """Readings of pairs; saved as it goes, for they take long."""

    def __init__(self, inner: Heads, file: Path) -> None:
        self._inner = inner
        self._file = file
        kept = np.load(file) if file.exists() else {"keys": np.zeros(0, "S32"), "readings": np.zeros((0, 4))}
        self._known = dict(zip(kept["keys"].tolist(), kept["readings"].tolist(), strict=True))
        self._unsaved = 0

    @property
    def id(self) -> str:
        return self._inner.id

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        keys = [_key(self.id, question, passage) for passage in passages]
        missing = {key: passage for key, passage in zip(keys, passages, strict=True) if key not in self._known}
        if missing:
            made = await self._inner.read(question, list(missing.values()))
            for key, one in zip(missing, made, strict=True):
                self._known[key] = [one.relevance, one.answerable, one.start, one.end]
            self._unsaved += len(missing)
        if self._unsaved > 2000:
            self.save()
        return [_reading(*self._known[key]) for key in keys]

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return await self._inner.verify(pairs)

    def save(self) -> None:
        self._unsaved = 0
        if self._known:
            np.savez(self._file, keys=np.array(list(self._known)), readings=np.array(list(self._known.values())))


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32].encode()


def _reading(relevance: float, answerable: float, start: float, end: float) -> Reading:
    return Reading(relevance, answerable, int(start), int(end))
