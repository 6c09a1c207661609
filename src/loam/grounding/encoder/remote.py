"""A provider's embeddings as an encoder.

Knows the vocabulary of calls, no wire format.
Invariant: a row belongs to its text, whatever order the provider answered in.
"""

from base64 import b64decode
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from loam.core.calls import Call, Delta, Target
from loam.core.errors import fail
from loam.core.ports import Model

_AT_ONCE = 64
"""Texts in a request: some providers take no more."""


class RemoteEncoder:
    """Vectors from any Model that answers calls with the task `embed`."""

    def __init__(self, model: Model, target: Target) -> None:
        self._model = model
        self._target = target
        self._size = 0

    @property
    def id(self) -> str:
        return str(self._target)

    @property
    def size(self) -> int:
        """Numbers in a vector; 0 until the provider has answered once."""
        return self._size

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A unit vector a text. Raises ModelFailure, also where the provider gave what are no vectors for them."""
        parts = [await self._embed(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        if len({part.shape[1] for part in parts}) > 1:
            raise fail("malformed", self._target.provider, f"{self.id} gave vectors of different lengths")
        return np.concatenate(parts) if parts else np.empty((0, self._size), np.float32)

    async def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found: dict[int, NDArray[np.float32]] = {}
        # an empty text is refused by providers; a space means as little
        inputs = tuple(text or " " for text in texts)
        call = Call(id="", model=self.id, task="embed", inputs=inputs, target=self._target)
        async with aclosing(self._model.answer(call)) as deltas:
            async for delta in deltas:
                if delta.embedding is not None:
                    found[delta.choice] = _vector(delta)
        sizes = {len(vector) for vector in found.values()}
        if set(found) != set(range(len(texts))) or len(sizes) != 1 or not all(np.any(row) for row in found.values()):
            raise fail(
                "malformed", self._target.provider, f"{self.id} gave no usable vector for each of {len(texts)} texts"
            )
        self._size = sizes.pop()
        rows = np.stack([found[place] for place in range(len(texts))])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _vector(delta: Delta) -> NDArray[np.float32]:
    """A list of numbers, or base64 of little-endian 32-bit floats."""
    if isinstance(delta.embedding, str):
        return np.frombuffer(b64decode(delta.embedding), "<f4").astype(np.float32)
    return np.array(delta.embedding, np.float32)
