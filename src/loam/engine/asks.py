"""What is asked of the engine, and what it says while it answers: tokens only, no text and no wire format.

Invariant: an `Ask` never changes; all that decides its tokens stands in it, so the same ask gives the same tokens.
"""

from typing import Literal

from msgspec import Struct

from loam.core.errors import Failure

Ending = Literal["stop", "length", "cancelled", "failed"]
"""stop: a stop token, or a grammar that is complete. length: `max_tokens`, or the context is full. failed: this ask
alone could not go on (a grammar too complex, logits that are not numbers); `Said.failure` says why."""


class Draw(Struct, frozen=True, kw_only=True):
    """How a token is drawn from its logits. The order: penalties, bias, grammar, temperature, top_k, top_p, min_p.

    temperature 0 takes the likeliest token (the lowest id among equals). `repetition_penalty` divides positive logits
    of tokens seen in prompt or answer and multiplies negative ones (Keskar et al. 2019); frequency and presence
    penalties are OpenAI's, over the answer's tokens alone.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    bias: dict[int, float] = {}
    seed: int = 0
    """A draw is a function of the seed and the token's position in prompt and answer, of nothing else."""


class Ask(Struct, frozen=True, kw_only=True):
    """One sequence to write. `n` answers are n asks; `stop strings` are the caller's matter, who cancels."""

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    draw: Draw = Draw()
    stop_tokens: frozenset[int] = frozenset()
    logprobs: int | None = None
    """How many likeliest tokens to tell at each step, 0 for the drawn one alone; None: none."""
    prompt_logprobs: int | None = None
    grammar: str = ""
    """An llguidance grammar, as its JSON; empty: free."""
    close_grammar: bool = False
    """Near `max_tokens`, steer to the grammar's end, so that the answer is whole where plain drawing would be cut."""
    adapter: str = ""


class Likely(Struct, frozen=True):
    """A token and the natural logarithm of its probability, softmax(logits) before any temperature or filter."""

    token: int
    logprob: float


class Said(Struct, frozen=True):
    """One token of an answer. The last of an ask carries `ending`; a stop token itself is told with `token` -1.

    `token` -1 says that there is no token to show: a stop token (`stop` names it, its logprob is told all the same), an
    ask of no tokens (`max_tokens` 0), one cancelled or failed.
    """

    ask: str
    token: int
    logprob: float | None = None
    top: tuple[Likely, ...] = ()
    ending: Ending | None = None
    stop: int | None = None
    failure: Failure | None = None
    closed: bool = False
    """With the last event: whether `close_grammar` had to steer."""
    prompt: tuple[tuple[Likely, ...], ...] | None = None
    """With an ask's first event, where asked: for each prompt token but the first, itself and then the likeliest."""
    cached: int = 0
    """With the first event: how many prompt tokens were found in the cache."""
