"""The glass box in words: what can be asked of it, and all that it tells. `trace.py` fills these in.

Knows no torch, so that the gateway and the command line can speak of an inspection without the engine. Invariant: the
size of an inspection is bounded by what its `Wish` allows; what was left out for size is said in `notes`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta, Struct, convert, to_builtins

from loam.core.calls import Principal
from loam.core.operations import Asked, Operation
from loam.engine.asks import Draw

PATH = "/loam/v1/inspect"
MOST_HEADS = 8192
"""Heads told in one inspection (steps x layers x heads); later steps of a large model come without theirs."""

Temperature = Annotated[float, Meta(gt=0.0, le=100.0)]


class Wish(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is looked at. Sampling parameters mean what they mean when text is generated; what is not said is off."""

    prompt: Annotated[str, Meta(description="The text that is continued, as it stands.", max_length=100_000)]
    model: Annotated[str, Meta(description="A model of the local engine.", max_length=1000)] = ""
    adapter: Annotated[str, Meta(description="A LoRA adapter of the model.", max_length=1000)] = ""
    steps: Annotated[int, Meta(ge=0, le=64, description="How many tokens are written and shown.")] = 5
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int = 0
    candidates: Annotated[int, Meta(ge=1, le=50, description="How many of the likeliest tokens are shown a step.")] = 8
    temperatures: Annotated[
        tuple[Temperature, ...],
        Meta(max_length=8, description="Each candidate's probability is also told at these temperatures."),
    ] = (0.5, 1.0, 1.5)
    layers: Annotated[bool, Meta(description="Also look inside: norms, attention and the logit lens.")] = False
    looks: Annotated[int, Meta(ge=0, le=32, description="How many attended tokens are told per head.")] = 4
    chat: Annotated[bool, Meta(description="Put the prompt into the model's chat template, as a user's message.")] = (
        False
    )
    lens: Annotated[int, Meta(ge=0, le=10, description="How many tokens the logit lens tells per layer.")] = 3

    @property
    def draw(self) -> Draw:
        return Draw(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            bias=self.logit_bias,
            seed=self.seed,
        )


class Piece(Struct, frozen=True):
    """One token. `bytes` is hexadecimal; `text` is those bytes as UTF-8, � where they are a part of a character."""

    id: int
    text: str
    bytes: str


class Candidate(Struct, frozen=True, kw_only=True):
    """A token that could have come next, and what each stage made of it."""

    token: Piece
    logit: float
    """The model's score, as the forward gave it."""
    probability: float
    """softmax(logits): before penalties, temperature and filters; its logarithm is what `logprobs` reports."""
    adjusted: float | None
    """The score after penalties and bias; None where it was forbidden."""
    at: tuple[float, ...]
    """softmax(adjusted / T) for each T of the wish's `temperatures`; no filter."""
    removed_by: str | None
    """The filter that took it away."""
    chance: float
    """The probability with which it was drawn: after temperature and filters. 0 where it was removed."""


class Removal(Struct, frozen=True):
    """What one filter took away: how many tokens, and how much probability (of what had reached the filter)."""

    filter: str
    tokens: int
    probability: float
    likeliest: tuple[Piece, ...]


class Moved(Struct, frozen=True):
    """A logit that penalties or a bias changed, from what to what."""

    token: Piece
    before: float
    after: float


class Drawn(Struct, frozen=True, kw_only=True):
    """How the token was taken from the candidates that were left.

    Laid end to end in the order of their ids they fill 0 to 1; `number` fell between `low` and `high`, which are the
    drawn token's. At temperature 0 there is no number: the largest adjusted logit is taken.
    """

    token: Piece
    number: float | None
    low: float
    high: float
    chance: float
    logprob: float
    """ln softmax(logits) of it, as `logprobs` reports it."""
    rank: int
    """Its place among all tokens by the model's own logits; 1 is the likeliest."""


class Look(Struct, frozen=True):
    """One token that a head looked at, and the share of its attention that it got."""

    position: int
    token: Piece
    weight: float


class Head(Struct, frozen=True, kw_only=True):
    """What one attention head did at the last position."""

    head: int
    norm: float
    """The length of the vector that the head adds to the residual stream."""
    entropy: float
    """Of its attention, in bits: 0 looks at one token, log2(n) at all n alike."""
    looks: tuple[Look, ...]
    """The most attended tokens, most first."""
    rest: float
    """The share of all others together: the weights of `looks` and this sum to 1."""


class Guess(Struct, frozen=True):
    token: Piece
    probability: float


class Layer(Struct, frozen=True, kw_only=True):
    """The last position on its way through one layer. Norms are lengths (L2) of vectors of the model's width."""

    layer: int
    entering: float
    """The residual stream before the layer."""
    attention: float
    """What attention added."""
    mlp: float
    """What the MLP added."""
    leaving: float
    """The residual stream after the layer."""
    heads: tuple[Head, ...]
    lens: tuple[Guess, ...]
    """The logit lens (nostalgebraist 2020): the final norm and the output layer put on the residual stream here, so
    what the model would say if it ended after this layer. The last layer's are the model's own probabilities."""
    drawn_rank: int
    """The rank that the token which came has here."""
    drawn_probability: float


class Step(Struct, frozen=True, kw_only=True):
    """How one token came to be."""

    position: int
    """Of the new token, in prompt and answer, counted from 0."""
    entropy: float
    """Of softmax(logits), in bits: how open the choice was to the model."""
    entropy_left: float
    """Of what was drawn from: after penalties, temperature and filters."""
    candidates: tuple[Candidate, ...]
    moved: int
    """How many logits penalties and bias changed."""
    moves: tuple[Moved, ...]
    """The candidates and drawn tokens among them."""
    removed: tuple[Removal, ...]
    """One for each filter that was on, in the order in which they act."""
    kept: int
    """How many tokens were left to draw from."""
    drawn: Drawn
    layers: tuple[Layer, ...] = ()


class Inspection(Struct, frozen=True, kw_only=True):
    """How a text was continued, token by token."""

    model: str
    prompt: tuple[Piece, ...]
    steps: tuple[Step, ...]
    text: str
    """What was written."""
    ending: str
    """`length`: all steps were made, or the context is full. `stop`: the last step drew a stop token."""
    draw: Draw
    temperatures: tuple[float, ...]
    notes: tuple[str, ...] = ()


Question = Callable[[str, str, Any, Principal], Awaitable[Any]]
"""Asks a model's process something: the model, the question's name, its body as plain data, and who asks."""


def operations(ask: Question) -> tuple[Operation, ...]:
    """The native API's way into the glass box; the engine's own process looks (`trace_opened.question`).

    An administrator's alone: an inspection passes neither the ledger nor a key's limits.
    """

    async def run(asked: Asked) -> Inspection:
        wish: Wish = asked.body
        told = await ask(wish.model, "inspect", to_builtins(wish), asked.principal)
        return convert(told, Inspection)

    return (
        Operation(
            method="POST",
            path=PATH,
            summary="Show how a local model continues a text, token by token",
            run=run,
            body=Wish,
            answer=Inspection,
        ),
    )
