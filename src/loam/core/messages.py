"""What is said: messages and their parts, in one vocabulary for every wire format.

Knows the words that OpenAI's and Anthropic's formats share. Does not know either format: `loam.wire` translates.
Invariant: a message that came from a client keeps its original JSON (`wire`) until a stage changes the message, so a
provider of the same family receives exactly what the client wrote.
"""

from typing import Any, Literal

from msgspec import Raw, Struct

Family = Literal["openai", "responses", "anthropic", "native"]
"""The wire format that a piece of JSON belongs to."""

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text"):
    text: str


class Image(Struct, frozen=True, tag="image"):
    """A picture by address (`url`) or by value (`data`, base64, with `media_type`); one of the two is empty."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    detail: str = ""


class Audio(Struct, frozen=True, tag="audio"):
    """Sound by value: base64 `data` in `format` (wav, mp3)."""

    data: str
    format: str


class Document(Struct, frozen=True, tag="document"):
    """A file such as a PDF: by value (base64 `data` or plain `text`), by `url`, or by the provider's `file_id`."""

    data: str = ""
    text: str = ""
    url: str = ""
    file_id: str = ""
    media_type: str = ""
    title: str = ""


class Thinking(Struct, frozen=True, tag="thinking"):
    """A model's reasoning; `signature` proves it to the provider that made it, `redacted` holds its sealed form."""

    text: str = ""
    signature: str = ""
    redacted: str = ""


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """The model asks for a tool; `arguments` is JSON text exactly as the model wrote it, valid or not."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result"):
    call_id: str
    parts: tuple[Text | Image | Document, ...] = ()
    is_error: bool = False


class Native(Struct, frozen=True, tag="native"):
    """A part that only one family has a word for; other families refuse it with a typed error."""

    family: Family
    value: dict[str, Any]


Part = Text | Image | Audio | Document | Thinking | ToolCall | ToolResult | Native


class Message(Struct, frozen=True):
    """One turn. `wire` is the client's own JSON of this message (for Anthropic's `system`: of its value)."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""
    wire: Raw | None = None

    @property
    def text(self) -> str:
        """The text parts joined, without reasoning, tools or pictures."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def say(role: Role, text: str) -> Message:
    """A message of one text part: `say("user", "Hello")`."""
    return Message(role, (Text(text),))
