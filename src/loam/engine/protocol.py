"""What the gateway and an engine's process say to each other, frame by frame.

Text, not tokens: templates, tokenizers and stop strings are the engine's side, so the gateway's loop never waits for
them. Knows no torch. Invariant: every `Request` and `Question` is answered by exactly one `Ended` or `Reply`.
"""

import struct
from typing import Any, Literal

import msgspec
from msgspec import Struct

from loam.core.calls import Delta
from loam.core.errors import Failure

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]
HEAD = struct.Struct("<I")
"""Before each frame: its length in bytes."""
LARGEST = 256 * 2**20
"""Bytes of a frame; a longer one means that the two sides no longer understand each other."""


class Order(Struct, frozen=True, kw_only=True, tag="order"):
    """The first frame to a new process: which checkpoint to open, and how.

    `cache` is in bytes, None for what the engine thinks right; 0 `threads` are all cores; `context` cuts the model's
    own to so many tokens. `adapters` are folders by name, `draft` is a smaller checkpoint that guesses.
    `exact`: torch, too, gives a token the same alone and in any batch (P9), at a cost.
    """

    name: str
    path: str
    weights: Weights = "auto"
    device: str = "cpu"
    threads: int = 0
    cache: int | None = None
    batch: int = 8
    queue: int = 64
    context: int | None = None
    draft: str = ""
    adapters: dict[str, str] = {}
    exact: bool = True


class Shape(Struct, frozen=True):
    """What an answer must look like; `value` is the schema, the expression, the grammar or the list of choices."""

    kind: Literal["json", "schema", "regex", "lark", "choice"]
    value: Any = None


class Drawing(Struct, frozen=True, kw_only=True):
    """How tokens are drawn, None where the caller did not say: then the checkpoint's own defaults hold."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int = 0


class Request(Struct, frozen=True, kw_only=True, tag="request"):
    """One call for text: a conversation (`messages`), or texts and ids to continue (`inputs`).

    `logprobs` is how many likely tokens to tell with each, 0 for itself alone. `echo` gives the prompt first.
    `must_call` names the tool that has to be called, "*" for any; `variables` are the chat template's.
    """

    id: str
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    must_call: str = ""
    variables: dict[str, Any] = {}
    inputs: list[str | list[int]] = []
    special: bool = True
    draw: Drawing = Drawing()
    max_tokens: int | None = None
    n: int = 1
    stop: list[str] = []
    stop_tokens: list[int] = []
    ignore_end: bool = False
    keep_stop: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    echo: bool = False
    shape: Shape | None = None
    adapter: str = ""


class Question(Struct, frozen=True, tag="question"):
    """Anything that is answered at once and whole; `name` says what, see `loam.engine.questions`."""

    id: str
    name: str
    body: Any = None


class Cancel(Struct, frozen=True, tag="cancel"):
    id: str


class Finish(Struct, frozen=True, tag="finish"):
    """Answer what runs, take nothing more, then end."""


class Proceed(Struct, frozen=True, tag="proceed"):
    """The answer to `Sized`: so many bytes may be taken, None: what is free. Who may not is ended instead."""

    memory: int | None = None


class About(Struct, frozen=True, kw_only=True):
    """What was opened. `bytes` is what the weights take; `tools` names the form of tool calls, empty for none."""

    name: str
    path: str
    family: str
    parameters: int
    bytes: int
    context: int
    vocabulary: int
    weights: str
    device: str
    template: bool
    tools: str
    kernel: str = ""
    """Which forward runs, or why it is the plain one."""
    notes: tuple[str, ...] = ()


class Sized(Struct, frozen=True, tag="sized"):
    """Before weights are read: the bytes that they will take, and those that are free now. `Proceed` is awaited."""

    bytes: int
    free: int


class Ready(Struct, frozen=True, tag="ready"):
    about: About


class Unready(Struct, frozen=True, tag="unready"):
    """Why the checkpoint cannot be opened, in the EngineError's words; the process ends after it."""

    message: str


class Spoken(Struct, frozen=True, tag="spoken"):
    id: str
    deltas: list[Delta]


class Ended(Struct, frozen=True, tag="ended"):
    """Since the last `Ended`, `guessed` tokens were tried ahead of their time, and `accepted` of them came true."""

    id: str
    failure: Failure | None = None
    guessed: int = 0
    accepted: int = 0


class Reply(Struct, frozen=True, tag="reply"):
    id: str
    body: Any = None
    failure: Failure | None = None


ToEngine = Order | Proceed | Request | Question | Cancel | Finish
ToGateway = Sized | Ready | Unready | Spoken | Ended | Reply

_encoder = msgspec.msgpack.Encoder()
to_engine = msgspec.msgpack.Decoder(ToEngine)
to_gateway = msgspec.msgpack.Decoder(ToGateway)


def frame(message: ToEngine | ToGateway) -> bytes:
    """The message as it travels."""
    body = _encoder.encode(message)
    return HEAD.pack(len(body)) + body
