"""A call and its answer: what is asked, how it should be sampled, and the stream of deltas that comes back.

Knows no wire format and no provider. Does no I/O.
Invariant: a `Call` never changes; a stage that wants another one makes it with `msgspec.structs.replace`.
The one mutable thing on the road is the call's `Trace` (see `loam.core.trace`).
"""

from fnmatch import fnmatchcase
from typing import Any, Literal

from msgspec import Raw, Struct, field, structs

from loam.core.messages import Family, Message, Part, Text, Thinking, ToolCall
from loam.core.money import Money
from loam.core.trace import Trace

Task = Literal["chat", "complete", "embed", "count"]
"""chat: messages to a message. complete: `inputs` are prompts. embed: `inputs` are texts. count: only count tokens."""

RAG = "rag:"
"""A model whose name begins so is a collection: it answers from the documents of the one that the rest names."""

AGENT = "agent:"
"""A model whose name begins so is an agent: the call begins a run of it. A key's `models` name it so too."""

PROMPT = "prompt:"
"""A model whose name begins so is a prompt: NAME, NAME@LABEL or NAME@HASH, and the prompt says whom to ask."""

Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "context_window"]


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON Schema. `wire` is the client's own JSON of it.

    A tool that only one family has (web search, computer use) has an empty `name` and lives in `wire` alone.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    wire: Raw | None = None


class ToolChoice(Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class Output(Struct, frozen=True):
    """The shape the answer must have: free JSON, or JSON that a schema accepts.

    `mode` says how a provider is held to it: `native` (by its own means), `prompted` (told in words), or as it can.
    `told`: the messages say in words what is wanted, so nobody need write the schema there.
    """

    kind: Literal["json", "schema"]
    schema: dict[str, Any] | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None
    mode: Literal["auto", "native", "prompted"] = "auto"
    told: bool = False


class Sampling(Struct, frozen=True):
    """How the answer is drawn. `None` means: the client did not say; providers then use their own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: bool = False
    top_logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: str | None = None
    thinking_budget: int | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    echo: bool = False


class CacheControl(Struct, frozen=True, forbid_unknown_fields=True):
    """`mode`: use; bypass (neither read nor write); refresh (write only); no-store (read only). `ttl` in seconds."""

    mode: Literal["use", "bypass", "refresh", "no-store"] = "use"
    ttl: float | None = None


Wish = str | dict[str, Any]
"""A technique by its name, or an object with its `name` and options."""


class Controls(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Loam's own wishes of one call: the `loam` object of a body, or `x-loam-*` headers."""

    user: str = ""
    tags: dict[str, str] = {}
    collection: str = ""
    cache: CacheControl | None = None
    deadline: float | None = None
    fallbacks: tuple[str, ...] = ()
    metadata: bool = False
    grounding: Literal["", "strict", "mark", "off"] = ""
    """What becomes of sentences that the documents do not support; empty: as the settings say."""
    variables: dict[str, Any] = {}
    """Values for the placeholders of the prompt that the call names as its model."""
    technique: Wish | list[Wish] | None = None
    """How the answer is asked for, outermost first; `loam.prompting` knows the names and what each may be told."""


class Principal(Struct, frozen=True):
    """Who asks. An empty `models` allows every model; limits of `None` do not limit.

    A collection is one of the models, `rag:NAME`, however a call names it.
    """

    key_id: str = ""
    user: str = ""
    team: str = ""
    admin: bool = False
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel: int | None = None
    redaction: Literal["none", "redacted", "full"] = "none"

    def may_ask(self, model: str) -> bool:
        """Whether a model is one of those that this key may ask, by its name or a pattern."""
        allowed = self.models
        return not allowed or model in allowed or any(fnmatchcase(model, pattern) for pattern in allowed)


class Target(Struct, frozen=True):
    """Where a call goes: a configured provider and the model's name there."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Passage(Struct, frozen=True):
    """A piece of a document, found for this call. `start` and `end` are character offsets in the stored text."""

    document_id: str
    title: str
    url: str
    section: str
    start: int
    end: int
    text: str
    score: float
    revision: str
    page: int | None = None


class Citation(Struct, frozen=True, omit_defaults=True):
    """Which stretch of which document supports a stretch of the answer: `quote` stands there, to the character."""

    document_id: str
    title: str
    url: str
    section: str
    start: int
    end: int
    quote: str
    score: float
    answer_start: int = 0
    answer_end: int = 0
    page: int | None = None
    revision: str = ""


Verdict = Literal["supported", "weak", "unsupported", "contradicted", "free"]
"""How a sentence stands to its evidence; weak: people should look; free: it states nothing that needs support."""


class SentenceCheck(Struct, frozen=True, omit_defaults=True):
    """What the documents say of one sentence of an answer, with all that is needed to judge it again.

    `start` and `end` are its place in the answer; a sentence that was held back has none, and its `text` is for the
    ledger alone. `tier` is the rung of the ladder that decided: 0 pointer, 1 words, 2 trained head or judge.
    `checker` names the version of the rules and weights.
    """

    text: str
    verdict: Verdict
    released: bool
    score: float
    tier: int
    signals: dict[str, float]
    checker: str
    start: int = 0
    end: int = 0
    invalid: int = 0
    """Sources that the model named and that were not offered to it."""
    repaired: bool = False
    evidence: tuple[Citation, ...] = ()


class Call(Struct, frozen=True, kw_only=True):
    """One question on its way. `extra` holds the client's fields that this vocabulary has no word for, in the
    words of `family`; a provider of the same family receives them unchanged. `trace` is where the road is written down.
    """

    id: str
    model: str
    task: Task = "chat"
    messages: tuple[Message, ...] = ()
    inputs: tuple[str | tuple[int, ...], ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    output: Output | None = None
    sampling: Sampling = Sampling()
    stream: bool = False
    family: Family = "native"
    extra: dict[str, Any] = {}
    betas: tuple[str, ...] = ()
    """Features under trial that the client asked for by name (Anthropic's `anthropic-beta`), for Anthropic's ears."""
    controls: Controls = Controls()
    principal: Principal = Principal()
    deadline: float | None = None
    """The moment on the clock's monotonic scale after which no attempt may go on."""
    body: bytes = b""
    """What the client sent, for the ledger."""
    passages: tuple[Passage, ...] | None = None
    """What a collection holds on the question; `None` where no collection was asked."""
    question: str = ""
    """What the passages were looked up for, where that is not the last user message as it stands."""
    chain: tuple[Target, ...] = ()
    """Where the call may go, in this order; `target` is the one it is going to now."""
    target: Target | None = None
    trace: Trace = field(default_factory=Trace)


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens of one answer. `input` counts every prompt token, cached ones too (OpenAI's way; Anthropic excludes them).

    `estimated` says that Loam counted because the provider did not.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    searches: int = 0
    estimated: bool = False
    provider_cost: Money | None = None

    @property
    def total(self) -> int:
        return self.input + self.output


class ToolDelta(Struct, frozen=True):
    """A piece of a tool call; the first piece of `index` carries `id` and `name`, later ones more of `arguments`."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Head(Struct, frozen=True):
    """What the provider says of itself once an answer; `extra` as in `Delta`, for the answer as a whole."""

    id: str = ""
    model: str = ""
    created: int = 0
    fingerprint: str = ""
    service_tier: str = ""
    extra: dict[str, Any] | None = None
    family: Family = "native"


class Step(Struct, frozen=True):
    """What a technique says of its work: a sample is drawn, a try was refused. The last one, `done`, sums up."""

    technique: str
    event: str
    details: dict[str, Any] = {}


class Delta(Struct, frozen=True, omit_defaults=True):
    """A piece of an answer to `choice`. Not streaming is the same stream with few, large pieces.

    `logprobs` is OpenAI's `content` list (token, logprob, bytes, top_logprobs). `embedding` is one vector, for input
    `choice`. `extra` holds fields of this choice in the words of `family` that have no word here; a border of the same
    family shows them.
    """

    choice: int = 0
    text: str = ""
    thinking: str = ""
    signature: str = ""
    redacted: str = ""
    refusal: str = ""
    tool: ToolDelta | None = None
    logprobs: list[dict[str, Any]] | None = None
    citations: tuple[Citation, ...] = ()
    checks: tuple[SentenceCheck, ...] = ()
    embedding: list[float] | str | None = None
    finish: Finish | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    head: Head | None = None
    extra: dict[str, Any] | None = None
    family: Family = "native"
    step: Step | None = None

    @property
    def has_content(self) -> bool:
        """Whether a client would see anything of it: from here on an attempt may not be restarted silently."""
        return bool(
            self.text
            or self.thinking
            or self.tool
            or self.finish
            or self.refusal
            or self.signature
            or self.redacted
            or self.citations
            or self.embedding is not None
            or self.logprobs is not None
        )


class Words(Delta, frozen=True, eq=False):
    """A delta that is text of `choice` and nothing else, as most of a stream's are: a reader need look no further.

    Made by `Words(choice, text)` alone, never by replacing fields of another. Equal to the same `Delta`.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delta) and structs.astuple(self) == structs.astuple(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - equal to a Delta that hashes otherwise


class Choice(Struct, frozen=True):
    """One finished alternative of an answer."""

    parts: tuple[Part, ...] = ()
    finish: Finish | None = None
    stop_sequence: str | None = None
    refusal: str = ""
    logprobs: list[dict[str, Any]] | None = None
    citations: tuple[Citation, ...] = ()
    embedding: list[float] | str | None = None
    extra: dict[str, Any] | None = None
    family: Family = "native"
    checks: tuple[SentenceCheck, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Answer(Struct, frozen=True):
    """A whole answer: the deltas of one call, collected."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None
    head: Head = Head()
    steps: tuple[Step, ...] = ()

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        parts = self.choices[0].parts if self.choices else ()
        return tuple(part for part in parts if isinstance(part, ToolCall))

    @property
    def thinking(self) -> str:
        parts = self.choices[0].parts if self.choices else ()
        return "".join(part.text for part in parts if isinstance(part, Thinking))
