"""OpenAI's chat messages: the client's JSON to core messages, and core messages to JSON for a provider.

Knows roles, content parts and tool calls; knows nothing of the fields around `messages`. Invariants: a part without a
core word becomes `Native` and is kept whole; results of tools stand directly after the call that asked for them.
"""

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from loam.core.errors import ModelFailure, refuse
from loam.core.messages import (
    Audio,
    Document,
    Family,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from loam.wire.reading import read

_anything = Decoder(Any)


class _Address(Struct):
    url: str
    detail: str | None = None


class _Sound(Struct):
    data: str
    format: str


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _ContentPart(Struct):
    type: str
    text: str | None = None
    image_url: _Address | str | None = None
    input_audio: _Sound | None = None
    file: _File | None = None
    refusal: str | None = None


class _Called(Struct):
    name: str
    arguments: str = ""


class _AskedTool(Struct):
    id: str
    type: str = "function"
    function: _Called | None = None


class ChatMessage(Struct):
    """One of `messages`, as a client writes it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: dict[str, Any] | None = None
    tool_calls: list[_AskedTool] | None = None
    tool_call_id: str | None = None
    function_call: _Called | None = None


def decode_messages(messages: list[ChatMessage], wires: list[Raw]) -> tuple[Message, ...]:
    """The core's words of each message. Raises ModelFailure (bad_request) that names the message.

    A `function` message names no call, so the legacy call before it gets an id that both then carry.
    """
    decoded: list[Message] = []
    legacy = ""
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if message.role in ("tool", "function"):
            call_id = message.tool_call_id if message.role == "tool" else legacy
            if not call_id:
                raise _wrong(f"{place}.tool_call_id", "a result must name the tool call that it answers")
            decoded.append(_result(message, call_id, wires[index], place))
            continue
        parts = _content(message.content, wires[index], place)
        if message.role == "assistant":
            if message.function_call is not None:
                legacy = f"function_{index}"
            parts = [*_thoughts(message), *parts, *_asked(message, legacy, wires[index], place)]
        role = "system" if message.role == "developer" else message.role
        decoded.append(Message(role, tuple(parts), message.name or "", wires[index]))
    return tuple(decoded)


def _result(message: ChatMessage, call_id: str, wire: Raw, place: str) -> Message:
    parts = _content(message.content, wire, place)
    plain = tuple(part for part in parts if isinstance(part, (Text, Image, Document)))
    if len(plain) < len(parts):
        raise _wrong(f"{place}.content", "a tool's result can hold text, pictures and files only")
    return Message("tool", (ToolResult(call_id, plain),), message.name or "", wire)


def _thoughts(message: ChatMessage) -> list[Part]:
    return [Thinking(message.reasoning_content)] if message.reasoning_content else []


def _asked(message: ChatMessage, legacy: str, wire: Raw, place: str) -> list[Part]:
    """What an assistant's message holds beside its content."""
    parts: list[Part] = [Text(message.refusal)] if message.refusal else []
    if message.audio is not None:
        parts.append(Native("openai", {"audio": message.audio}))
    if message.function_call is not None:
        parts.append(ToolCall(legacy, message.function_call.name, message.function_call.arguments))
    for index, call in enumerate(message.tool_calls or ()):
        if call.function is not None:
            parts.append(ToolCall(call.id, call.function.name, call.function.arguments))
        elif call.type == "function":
            raise _wrong(f"{place}.tool_calls[{index}].function", "this field is required")
        else:
            parts.append(Native("openai", read(wire, _anything, place)["tool_calls"][index]))
    return parts


def _content(content: str | list[_ContentPart] | None, wire: Raw, place: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    parts: list[Part] = []
    for index, part in enumerate(content or ()):
        known = _part(part)
        if known is None and part.type in ("text", "image_url", "input_audio", "file", "refusal"):
            raise _wrong(f"{place}.content[{index}].{part.type}", "this field is required")
        parts.append(known or Native("openai", read(wire, _anything, place)["content"][index]))
    return parts


def _part(part: _ContentPart) -> Part | None:
    match part.type:
        case "text" if part.text is not None:
            return Text(part.text)
        case "refusal" if part.refusal is not None:
            return Text(part.refusal)
        case "image_url" if part.image_url is not None:
            return _picture(part.image_url)
        case "input_audio" if part.input_audio is not None:
            return Audio(part.input_audio.data, part.input_audio.format)
        case "file" if part.file is not None:
            return _document(part.file)
        case _:
            return None


def _picture(address: _Address | str) -> Image:
    url, detail = (address, "") if isinstance(address, str) else (address.url, address.detail or "")
    media_type, data = _by_value(url)
    return Image(data=data, media_type=media_type, detail=detail) if data else Image(url=url, detail=detail)


def _document(file: _File) -> Document:
    title = file.filename or ""
    given = file.file_data or ""
    media_type, data = _by_value(given)
    if not data:
        data, media_type = given, "application/pdf" if given and title.lower().endswith(".pdf") else ""
    return Document(data=data, file_id=file.file_id or "", media_type=media_type, title=title)


def _by_value(url: str) -> tuple[str, str]:
    """Media type and base64 data of a data: URL; both empty for any other."""
    head, comma, data = url.partition(";base64,")
    return (head[5:], data) if comma and head.startswith("data:") else ("", "")


def _wrong(param: str, what: str) -> ModelFailure:
    return refuse("bad_request", f"{param}: {what}", param=param)


def encode_messages(messages: tuple[Message, ...], family: Family, *, developer: bool) -> list[Any]:
    """The `messages` of a request to a provider. Raises ModelFailure (unsupported) for what OpenAI has no word for.

    Pictures and files that tools gave back follow in a user message, because a tool message holds text alone.
    """
    encoded: list[Any] = []
    pictures: list[dict[str, Any]] = []
    for message in messages:
        if message.role != "tool" and pictures:
            encoded.append({"role": "user", "content": pictures})
            pictures = []
        if message.wire is not None and family == "openai" and (developer or not _is_developer(message)):
            encoded.append(message.wire)
            continue
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            encoded.append(_encode_result(result, family))
            pictures += [_encode_part(part, family) for part in result.parts if not isinstance(part, Text)]
        if message.role != "tool":
            rest = tuple(part for part in message.parts if not isinstance(part, (ToolResult, Thinking)))
            if rest or not results:
                encoded.append(_encode_message(message, rest, family, pictures))
                pictures = []
    if pictures:
        encoded.append({"role": "user", "content": pictures})
    return encoded


def _is_developer(message: Message) -> bool:
    return message.role == "system" and message.wire is not None and b'"developer"' in bytes(message.wire)


def _encode_result(result: ToolResult, family: Family) -> dict[str, Any]:
    texts = [_encode_part(part, family) for part in result.parts if isinstance(part, Text)]
    return {"role": "tool", "tool_call_id": result.call_id, "content": _plainest(texts)}


def _encode_message(
    message: Message, parts: tuple[Part, ...], family: Family, before: list[dict[str, Any]]
) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role}
    content = list(before)
    calls: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments}
            calls.append({"id": part.id, "type": "function", "function": function})
            continue
        value = _encode_part(part, family)
        if "type" not in value:
            encoded.update(value)
        elif message.role == "assistant" and "id" in value:
            calls.append(value)
        else:
            content.append(value)
    encoded["content"] = _plainest(content) if content or not calls else None
    if message.name:
        encoded["name"] = message.name
    if calls:
        encoded["tool_calls"] = calls
    return encoded


def _plainest(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A lone text as a string, which every server reads."""
    if not content:
        return ""
    return content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content


def _encode_part(part: Part, family: Family) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            address = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
            return {"type": "image_url", "image_url": address | ({"detail": part.detail} if part.detail else {})}
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case Document():
            return _encode_document(part, family)
        case Native() if part.family == "openai":
            return part.value
        case Native():
            what = f"a part of type {part.value.get('type')!r}"
            raise refuse(
                "unsupported",
                f"{what} exists in the {part.family} format only and cannot be sent to an OpenAI-compatible provider; "
                "leave it out or choose a provider of that format",
            )
        case _:
            raise refuse("unsupported", f"a {msgspec.to_builtins(part)['type']} part cannot stand in this message")


def _encode_document(part: Document, family: Family) -> dict[str, Any]:
    if part.text:
        return {"type": "text", "text": f"{part.title}\n\n{part.text}" if part.title else part.text}
    if part.file_id and family == "openai":
        return {"type": "file", "file": {"file_id": part.file_id}}
    if part.data:
        name = part.title or "document.pdf"
        media_type = part.media_type or "application/pdf"
        return {"type": "file", "file": {"filename": name, "file_data": f"data:{media_type};base64,{part.data}"}}
    raise refuse(
        "unsupported",
        "an OpenAI-compatible provider takes a document by value only; send its content instead of a url or file id",
    )
