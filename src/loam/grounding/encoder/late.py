"""Encoders and heads that are there by name, and are made when they are first asked.

Knows how to wait, not what is made. Invariants: a gateway that nobody asks about documents loads neither numpy nor ONNX
Runtime; what is made is made once, on the encoder's own thread; what failed is left alone for a while, and the log is
told when it fails, not each time it is missed.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from loam.core.errors import Failure, ModelFailure
from loam.grounding.encoder.port import Encoder, Heads, Reading, States, Support, TokenEncoder
from loam.grounding.encoder.worker import FAILED, Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=Encoder)

PAUSE = 30.0
"""Seconds for which weights that failed are not tried again."""
_log = logging.getLogger("loam.grounding")


class _Late(Generic[T]):
    def __init__(self, id: str, make: Callable[[], T], worker: Worker, now: Callable[[], float]) -> None:
        self._id = id
        self._make = make
        self._worker = worker
        self._now = now
        self._made: T | None = None
        self._failure: Failure | None = None
        self._until = 0.0

    @property
    def made(self) -> T | None:
        return self._made

    async def use(self, work: Callable[[T], Awaitable[R]]) -> R:
        """What the work comes to. Raises ModelFailure, for a while after a failure of the weights at once."""
        if self._failure is not None and self._now() < self._until:
            raise ModelFailure(self._failure)
        try:
            return await work(self._made if self._made is not None else await self._worker.run(self._once))
        except ModelFailure as error:
            if error.failure.code == FAILED:
                self._failure, self._until = error.failure, self._now() + PAUSE
                _log.warning("%s is left alone for %.0f s: %s", self._id, PAUSE, error)
            raise

    def _once(self) -> T:
        if self._made is None:
            self._made = self._make()
        return self._made


class LateEncoder(Generic[E]):
    """An Encoder whose name and size are known before it is made."""

    def __init__(
        self, id: str, size: int, make: Callable[[], E], worker: Worker, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._id = id
        self._size = size
        self._late: _Late[E] = _Late(id, make, worker, now)

    @property
    def id(self) -> str:
        return self._id

    @property
    def size(self) -> int:
        made = self._late.made
        return self._size if made is None else made.size

    async def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return await self._late.use(lambda encoder: encoder.embed(texts))


class LateTokens(LateEncoder[TokenEncoder]):
    """A TokenEncoder likewise."""

    async def states(self, texts: Sequence[str]) -> list[States]:
        return await self._late.use(lambda encoder: encoder.states(texts))


class LateHeads:
    """Heads likewise."""

    def __init__(
        self, id: str, make: Callable[[], Heads], worker: Worker, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._id = id
        self._late: _Late[Heads] = _Late(id, make, worker, now)

    @property
    def id(self) -> str:
        return self._id

    async def read(self, question: str, passages: Sequence[str]) -> list[Reading]:
        return await self._late.use(lambda heads: heads.read(question, passages))

    async def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        return await self._late.use(lambda heads: heads.verify(pairs))
