"""What the rest of grounding asks of an encoder and of its heads.

Knows shapes only; `loam.grounding.encoder.encoder` and `loam.grounding.encoder.heads` fill them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:  # these shapes are named where numpy may not be installed
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """Texts to vectors of unit length: the dot product of two is their cosine."""

    @property
    def id(self) -> str:
        """Name, back end and hash of the weights. Vectors of two ids are never compared."""
        ...

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text: `[len(texts), size]`. Raises ModelFailure where the encoder is a provider that failed."""
        ...


class States(Struct, frozen=True):
    """A text's word pieces: `spans[i]` is where piece i stands in the text, `vectors[i]` its unit vector in context."""

    spans: tuple[tuple[int, int], ...]
    vectors: NDArray[np.float32]


class TokenEncoder(Encoder, Protocol):
    """An encoder that also shows the word pieces it reads, for alignment."""

    async def states(self, texts: Sequence[str]) -> list[States]:
        """The pieces of each text, as far as the encoder reads it."""
        ...


class Reading(Struct, frozen=True):
    """What the heads see in a passage: how well it fits the question, and the span that answers.

    `relevance` and `answerable` are probabilities; `start` and `end` are characters of the passage. `nothing` is the
    share that the heads give to "no answer" among all that they could have said, before any calibration.
    """

    relevance: float
    answerable: float
    start: int
    end: int
    nothing: float = 1.0


class Support(Struct, frozen=True):
    """How a passage stands to a sentence: three probabilities that sum to one."""

    supported: float
    contradicted: float
    unsaid: float


class Heads(Protocol):
    """The trained judgements on pairs of texts."""

    @property
    def id(self) -> str:
        """Name and hash of the weights; stored with every verdict."""
        ...

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        """One reading a passage."""
        ...

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        """One judgement a pair of (sentence, evidence)."""
        ...
