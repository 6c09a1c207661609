"""Encoders and heads that are there by name, and are made when they are first asked.

Knows how to wait, not what is made. Invariant: a gateway that nobody asks about documents loads neither numpy nor ONNX
Runtime; what is made is made once, on the encoder's own thread.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from loam.grounding.encoder.port import Encoder, Heads, Reading, States, Support, TokenEncoder
from loam.grounding.encoder.worker import Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
E = TypeVar("E", bound=Encoder)


class _Late(Generic[T]):
    def __init__(self, make: Callable[[], T], worker: Worker) -> None:
        self._make = make
        self._worker = worker
        self._made: T | None = None

    @property
    def made(self) -> T | None:
        return self._made

    async def get(self) -> T:
        return self._made if self._made is not None else await self._worker.run(self._once)

    def _once(self) -> T:
        if self._made is None:
            self._made = self._make()
        return self._made


class LateEncoder(Generic[E]):
    """An Encoder whose name and size are known before it is made."""

    def __init__(self, id: str, size: int, make: Callable[[], E], worker: Worker) -> None:
        self._id = id
        self._size = size
        self._late: _Late[E] = _Late(make, worker)

    @property
    def id(self) -> str:
        return self._id

    @property
    def size(self) -> int:
        made = self._late.made
        return self._size if made is None else made.size

    async def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return await (await self._late.get()).embed(texts)


class LateTokens(LateEncoder[TokenEncoder]):
    """A TokenEncoder likewise."""

    async def states(self, texts: Sequence[str]) -> list[States]:
        return await (await self._late.get()).states(texts)


class LateHeads:
    """Heads likewise."""

    def __init__(self, id: str, make: Callable[[], Heads], worker: Worker) -> None:
        self._id = id
        self._late: _Late[Heads] = _Late(make, worker)

    @property
    def id(self) -> str:
        return self._id

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        return await (await self._late.get()).read(question, passages)

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return await (await self._late.get()).verify(pairs)
