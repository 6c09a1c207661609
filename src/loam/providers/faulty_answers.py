"""What the faulty upstream is asked and what it says, before any wire format.

Pure. Invariant: the same request gets the same answer.
"""

from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from loam.providers.faults import Fault

Json = dict[str, Any]
Task = Literal["chat", "complete", "embed", "count"]
Finish = Literal["stop", "length", "tools", "filter"]


class Picture(Struct, frozen=True):
    media: str
    size: int


class Tool(Struct, frozen=True):
    name: str
    schema: Json


class Asked(Struct, frozen=True, kw_only=True):
    """A request as far as an answer depends on it. `texts` are all its texts, the question last."""

    task: Task
    model: str
    streams: bool = False
    texts: list[str] = []
    pictures: list[Picture] = []
    most: int = 1 << 30
    tools: list[Tool] = []
    must_call: bool = False
    wanted_tool: str = ""
    schema: Json | None = None
    body: Json = {}

    @property
    def input_tokens(self) -> int:
        """One a word."""
        return sum(len(text.split()) for text in self.texts)


class Answer(Struct, frozen=True, kw_only=True):
    """Words with the space before them, or one call of a tool."""

    words: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    tool: str = ""
    arguments: str = ""
    finish: Finish = "stop"
    input_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def output_tokens(self) -> int:
        """One a word, and one for each piece of a tool's arguments."""
        return len(self.words) + len(self.thinking) + len(self.argument_pieces)

    @property
    def argument_pieces(self) -> list[str]:
        return [self.arguments[start : start + 7] for start in range(0, len(self.arguments), 7)]


class Events(Struct, frozen=True):
    """A stream in three stretches; a fault after so many words comes between two events of the middle one."""

    opening: list[bytes]
    pieces: list[bytes]
    closing: list[bytes]


def answer_to(asked: Asked, fault: Fault) -> Answer:
    """What an upstream in good health says, but for the fault's twist."""
    question = " ".join((asked.texts or [""])[-1].split()) or "ok"
    if asked.tools and (fault.twist == "tools" or asked.must_call):
        tool = next((tool for tool in asked.tools if tool.name == asked.wanted_tool), asked.tools[0])
        arguments = msgspec.json.encode(example(tool.schema, question)).decode()
        return Answer(tool=tool.name, arguments=arguments, finish="tools", input_tokens=asked.input_tokens)
    if asked.schema is not None:
        words = msgspec.json.encode(example(asked.schema, question)).decode().split(" ")
    elif fault.twist == "vision":
        words = [f"{picture.media} {picture.size} bytes" for picture in asked.pictures] or ["nothing"]
    else:
        words = [question.split(" ")[n % len(question.split(" "))] for n in range(fault.tokens)]
    said = tuple(f"{' ' if n else ''}{word}" for n, word in enumerate(words[: asked.most]))
    finish: Finish = "filter" if fault.twist == "filtered" else "length" if len(said) < len(words) else "stop"
    thinking = ("Let me", " think.") if fault.twist == "thinking" else ()
    return Answer(words=said, thinking=thinking, finish=finish, input_tokens=asked.input_tokens)


def message_of(fault: Fault) -> str:
    """What an error says."""
    return fault.message or f"{fault.description} (this is the faulty upstream)"


def event(data: bytes | Json, name: str = "") -> bytes:
    """One server-sent event."""
    encoded = data if isinstance(data, bytes) else msgspec.json.encode(data)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encoded + b"\n\n"


def table(value: Any) -> Json:
    """A JSON object, empty where it is none: this server forgives every request."""
    return cast("Json", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A JSON list; anything else stands for a list of itself."""
    return cast("list[Any]", value) if isinstance(value, list) else [] if value is None else [value]


def parts_of(content: Any) -> list[Json]:
    """Content parts; a plain text is one."""
    return [part if isinstance(part, dict) else {"type": "text", "text": part} for part in items(content)]


def texts_in(content: Any) -> list[str]:
    return [str(part["text"]) for part in parts_of(content) if part.get("text")]


def example(schema: Json, text: str, root: Json | None = None) -> Any:
    """The simplest value that a JSON Schema accepts; its texts are `text`."""
    root = root or schema
    if "$ref" in schema:
        target = root
        for key in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = table(target.get(key))
        return example(target, text, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(table(schema[key][0]), text, root)
    return _example_of_type(schema, text, root)


def _example_of_type(schema: Json, text: str, root: Json) -> Any:
    kind = (items(schema.get("type")) or [""])[0]
    properties = table(schema.get("properties"))
    if kind == "object" or properties:
        return {name: example(table(inner), text, root) for name, inner in properties.items()}
    if kind == "array":
        return [example(table(schema.get("items")), text, root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(kind, text)
