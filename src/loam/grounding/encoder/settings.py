"""Which encoder, as the settings say it; and what was opened, or why not.

Knows no numpy, so that Loam starts without it. Invariant: whoever is left without an encoder is told why.
"""

import os
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from loam.core.ports import Model
from loam.grounding.encoder.port import Encoder, Heads, TokenEncoder

Backend = Literal["nb8", "fp32", "int8", "numpy"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EncoderSettings(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[
        str,
        Meta(
            description='What makes vectors of texts: "minilm" (all-MiniLM-L6-v2), "none" (search by words only), the '
            "path of a sentence-transformers folder, or provider/model for a provider's embeddings."
        ),
    ] = "minilm"
    backend: Annotated[
        Backend,
        Meta(
            description="How it computes here: `nb8` (8-bit weights), `fp32` (exact, 2.5 times the memory), `int8` "
            "(twice the speed, 0.7 % off), `numpy` (no ONNX Runtime). Vectors of different back ends are never mixed."
        ),
    ] = "nb8"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | None, Meta(description="Threads it may use; unset: the cores, at most 4.")
    ] = None

    @property
    def bounded_threads(self) -> int:
        return self.threads or min(4, _cores())


def _nothing() -> None:
    """There is no thread."""


class Opened(Struct, frozen=True):
    """What there is to ground with. `notice` says what is missing, and what to do about it; empty when nothing is.

    `encoder` makes the vectors of collections here; `remote` has a provider make them, through the model that it is
    given; at most one of them is there. `tokens` shows word pieces for alignment, `heads` judge pairs of texts. Each is
    made when it is first asked. `close` lets go of the thread that they run on.
    """

    encoder: Encoder | None = None
    remote: Callable[[Model], Encoder] | None = None
    tokens: TokenEncoder | None = None
    heads: Heads | None = None
    notice: str = ""
    close: Callable[[], None] = _nothing

    def through(self, model: Model) -> Encoder | None:
        """What makes the vectors of collections; where that is a provider, `model` is asked for them."""
        return self.encoder if self.remote is None else self.remote(model)
