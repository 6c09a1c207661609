"""What one step of the engine computes: some tokens of some sequences, each at its own place.

Reading a prompt, writing one token of each of thirty answers, checking a guess of five: all are the same thing, rows.
Invariant: a row's result depends on its own sequence alone, never on which other rows it shares the step with (P9),
nor on how its own sequence was cut into spans: a prompt read in one piece or in ten gives the same bits.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from loam.engine.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from loam.engine.kvcache import PagedCache


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive new tokens of one sequence: positions `start` to `start + count`, not included.

    Position p has its keys and values at row p % PAGE of page `pages[p // PAGE]`. All positions before `start` are in
    the cache already. `adapter` names the LoRA adapter that this sequence is answered with; empty: none. `prompt` is
    True for tokens that were given and False for tokens that were written or guessed: a forward that reads by another
    arithmetic than it writes chooses by it, never by `count` (a prompt may end in a span of one, a guess is a span of
    many, an answer that was set aside and taken up again is one long span).
    """

    pages: tuple[int, ...]
    start: int
    count: int
    adapter: str = ""
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """`tokens` are those of all spans, one after the other; `wanted` are the rows whose logits are asked for."""

    tokens: "tuple[int, ...]"
    spans: tuple[Span, ...]
    wanted: tuple[int, ...]


class Forward(Protocol):
    """Something that runs a decoder: plain torch, or the compiled kernel; both give the same within a tolerance."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def uniform(self) -> bool:
        """Whether a token's keys, values and logits are the same bits read in a prompt as written in an answer.

        Only then does the engine lend pages that an answer filled to a later prompt with the same beginning.
        """
        ...

    def step(self, rows: Rows, cache: "PagedCache") -> "Tensor":
        """Logits (wanted, vocabulary) in fp32. Writes keys and values of every row into the cache first.

        Not named `forward`, because `Transformer` is an nn.Module too, whose `forward(tokens)` is the form without a
        cache that training uses.
        """
        ...
