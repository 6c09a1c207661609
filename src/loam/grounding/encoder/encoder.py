"""The local encoder: texts to vectors, and to the vectors of their pieces.

Knows texts and word pieces; `passes` knows how they are run.
Invariant: vectors under one `id` come from the same weights through the same arithmetic.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loam.core.errors import EncoderError
from loam.grounding.encoder import weights
from loam.grounding.encoder.passes import Passes, Source
from loam.grounding.encoder.port import States
from loam.grounding.encoder.weights import PINNED, TENSORS, VOCABULARY, Weights
from loam.grounding.encoder.wordpiece import Pieces, WordPiece
from loam.grounding.encoder.worker import Worker

_WINDOW = 256
"""Texts that are cut and sorted together; between two windows other callers get their turn."""


class _Text(Struct, frozen=True):
    ids: list[int]
    types: list[int]


class Words:
    """The word pieces of an encoder, read when first needed, on the worker's thread only."""

    def __init__(self, source: Weights) -> None:
        self._source = source
        self._pieces: WordPiece | None = None

    def open(self) -> WordPiece:
        """Raises EncoderError where the vocabulary is not there or not the right one."""
        if self._pieces is None:
            if self._source.sha256 == PINNED[TENSORS]:
                weights.check(self._source.folder, VOCABULARY)
            file = self._source.folder / VOCABULARY
            try:
                self._pieces = WordPiece.read(file, lower=self._source.shape.lower)
            except (OSError, KeyError, UnicodeDecodeError) as error:
                raise EncoderError(f"cannot read the vocabulary {file}: {error}") from error
        return self._pieces


class LocalEncoder:
    """A BERT on this machine, all-MiniLM-L6-v2 unless told otherwise. It opens when it is first asked.

    ```python
    encoder = LocalEncoder(Source(weights=find_minilm(data), cache=home(data)), Worker())
    vectors = await encoder.embed(["a question", "a passage"])  # [2, 384], of unit length
    ```
    """

    def __init__(self, source: Source, worker: Worker) -> None:
        self._source = source
        self._worker = worker
        self._passes = Passes(source, worker)
        self._words = Words(source.weights)

    @property
    def id(self) -> str:
        return self._source.weights.id(self._source.backend)

    @property
    def size(self) -> int:
        return self._source.weights.shape.hidden

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A unit vector a text; of a long text, its beginning. Raises ModelFailure where the weights cannot be used."""
        vectors = np.empty((len(texts), self.size), np.float32)
        for start in range(0, len(texts), _WINDOW):
            inputs = await self._worker.run(self._cut, texts[start : start + _WINDOW])
            for batch in await self._passes.run(inputs, "pooled"):
                vectors[[start + place for place in batch.places]] = batch.outputs[0]
        return vectors

    async def states(self, texts: Sequence[str]) -> list[States]:
        """The pieces of each text, as far as it is read. Raises ModelFailure where the weights cannot be used."""
        found: dict[int, States] = {}
        for start in range(0, len(texts), _WINDOW):
            cut = await self._worker.run(self._cut_with_spans, texts[start : start + _WINDOW])
            for batch in await self._passes.run([one for one, _ in cut], "states"):
                for place, row in zip(batch.places, batch.outputs[0], strict=True):
                    spans = cut[place][1].spans
                    inner = row[1 : 1 + len(spans)]  # without [CLS], [SEP] and padding
                    length = np.linalg.norm(inner, axis=1, keepdims=True)
                    found[start + place] = States(tuple(spans), inner / length)
        return [found[place] for place in range(len(texts))]

    def _cut(self, texts: Sequence[str]) -> list[_Text]:
        words, most = self._words.open(), self._source.weights.shape.most
        return [_Text(ids, [0] * len(ids)) for ids in (words.ids(text, most) for text in texts)]

    def _cut_with_spans(self, texts: Sequence[str]) -> list[tuple[_Text, Pieces]]:
        words, most = self._words.open(), self._source.weights.shape.most - 2
        cut = [Pieces(one.ids[:most], one.spans[:most]) for one in map(words.cut, texts)]
        return [(_Text([words.cls, *one.ids, words.sep], [0] * (len(one.ids) + 2)), one) for one in cut]
