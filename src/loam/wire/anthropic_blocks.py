"""Anthropic's content blocks of a request, to the core's parts and back.

Knows what may stand in `content`; knows nothing of the fields around it. Invariants: a block without a core word
becomes `Native` and is kept whole; what is written never holds an empty text, an unsigned thought or an illegal id.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from loam.core.errors import refuse
from loam.core.messages import (
    Audio,
    Document,
    Family,
    Image,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from loam.wire.reading import convert

Block = dict[str, Any]
Content = str | list[Block]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_object = Decoder(dict[str, Raw])


class _Source(Struct):
    type: str
    data: str = ""
    media_type: str = ""
    url: str = ""
    file_id: str = ""


class _TextBlock(Struct):
    text: str


class _ImageBlock(Struct):
    source: _Source


class _DocumentBlock(Struct):
    source: _Source
    title: str | None = None


class _ThinkingBlock(Struct):
    thinking: str
    signature: str = ""


class _RedactedBlock(Struct):
    data: str


class _ToolUseBlock(Struct):
    id: str
    name: str
    input: dict[str, Any]


class _ToolResultBlock(Struct):
    tool_use_id: str
    content: Content = ""
    is_error: bool = False


def parts_of(content: Content, path: str) -> tuple[Part, ...]:
    """What a message says. Raises ModelFailure (bad_request) with a path below `path`."""
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(block, f"{path}[{index}]") for index, block in enumerate(content))


def _part(block: Block, path: str) -> Part:
    kind = block.get("type")
    if not isinstance(kind, str):
        raise refuse("bad_request", f"{path}.type: this field is required", param=f"{path}.type")
    read = _READERS.get(kind)
    return Native("anthropic", block) if read is None else read(block, path)


def _text(block: Block, path: str) -> Part:
    return Text(convert(block, _TextBlock, path).text)


def _image(block: Block, path: str) -> Part:
    source = convert(block, _ImageBlock, path).source
    match source.type:
        case "base64":
            return Image(data=source.data, media_type=source.media_type)
        case "url":
            return Image(url=source.url)
        case _:
            return Native("anthropic", block)


def _document(block: Block, path: str) -> Part:
    # A document made of content blocks has a list for `content`, which `_Source` leaves out: it stays native.
    found = convert(block, _DocumentBlock, path)
    source, title = found.source, found.title or ""
    match source.type:
        case "base64":
            return Document(data=source.data, media_type=source.media_type, title=title)
        case "text":
            return Document(text=source.data, media_type=source.media_type, title=title)
        case "url":
            return Document(url=source.url, title=title)
        case "file":
            return Document(file_id=source.file_id, title=title)
        case _:
            return Native("anthropic", block)


def _thinking(block: Block, path: str) -> Part:
    found = convert(block, _ThinkingBlock, path)
    return Thinking(found.thinking, found.signature)


def _redacted(block: Block, path: str) -> Part:
    return Thinking(redacted=convert(block, _RedactedBlock, path).data)


def _tool_use(block: Block, path: str) -> Part:
    found = convert(block, _ToolUseBlock, path)
    return ToolCall(found.id, found.name, msgspec.json.encode(found.input).decode())


def _tool_result(block: Block, path: str) -> Part:
    found = convert(block, _ToolResultBlock, path)
    inner = parts_of(found.content, f"{path}.content") if found.content else ()
    parts = tuple(part for part in inner if isinstance(part, (Text, Image, Document)))
    if len(parts) < len(inner):
        return Native("anthropic", block)
    return ToolResult(found.tool_use_id, parts, found.is_error)


_READERS: dict[str, Callable[[Block, str], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


def blocks_of(parts: Iterable[Part], family: Family) -> list[Block]:
    """Parts of a call of `family` in Anthropic's words.

    Raises ModelFailure (unsupported, bad_request) for what it has no word for.
    """
    written = (_WRITERS[type(part)](part, family) for part in parts)
    return [block for block in written if block is not None]


def legal_name(name: str) -> str:
    """The tool's name, if Anthropic takes it. Raises ModelFailure (bad_request) otherwise."""
    if not _NAME.fullmatch(name):
        rule = "up to 128 letters, digits, underscores and hyphens"
        raise refuse(
            "bad_request", f"Anthropic does not take a tool named {name!r}; name it with {rule}", param="tools"
        )
    return name


def input_of(arguments: str) -> Raw | dict[str, str]:
    """A tool call's arguments as the JSON object they must be; text that is none is kept under one key, visibly."""
    if not arguments.strip():
        return {}
    try:
        _object.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {"INVALID_JSON": arguments}
    return Raw(arguments.encode())


def _write_text(part: Text, _: Family) -> Block | None:
    return {"type": "text", "text": part.text} if part.text.strip() else None


def _write_image(part: Image, _: Family) -> Block:
    if part.data:
        source = {"type": "base64", "media_type": part.media_type or "image/png", "data": part.data}
    elif part.url.startswith("data:"):
        source = {"type": "base64", **_data_url(part.url)}
    else:
        source = {"type": "url", "url": part.url}
    return {"type": "image", "source": source}


def _data_url(url: str) -> dict[str, str]:
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, encoding = head.partition(";")
    if encoding != "base64":
        raise refuse("bad_request", "a data: URL must hold base64 (data:image/png;base64,...)", param="messages")
    return {"media_type": media_type, "data": data}


def _write_document(part: Document, family: Family) -> Block:
    if part.data:
        source = {"type": "base64", "media_type": part.media_type or "application/pdf", "data": part.data}
    elif part.url:
        source = {"type": "url", "url": part.url}
    elif part.file_id and family != "anthropic":
        where = f"the file {part.file_id!r} lies at another provider"
        raise refuse("unsupported", f"{where}; send its content, or ask a model of that provider", param="messages")
    elif part.file_id:
        source = {"type": "file", "file_id": part.file_id}
    else:
        source = {"type": "text", "media_type": "text/plain", "data": part.text}
    title = {"title": part.title} if part.title else {}
    return {"type": "document", "source": source, **title}


def _write_thinking(part: Thinking, _: Family) -> Block | None:
    """Only a signed or sealed thought is taken back by the provider that made it."""
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return None


def _write_tool_call(part: ToolCall, _: Family) -> Block:
    return {
        "type": "tool_use",
        "id": _legal_id(part.id),
        "name": legal_name(part.name),
        "input": input_of(part.arguments),
    }


def _write_tool_result(part: ToolResult, family: Family) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _legal_id(part.call_id)}
    if content := blocks_of(part.parts, family):
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _legal_id(identity: str) -> str:
    """Other providers' ids may hold dots and colons; a call and its result are changed alike, so they still match."""
    return _NOT_IN_AN_ID.sub("_", identity)


def _write_audio(part: Audio, family: Family) -> Block:
    raise refuse("unsupported", "Anthropic's models take no audio; send text, or ask another model", param="messages")


def _write_native(part: Native, _: Family) -> Block:
    if part.family != "anthropic":
        what = part.value.get("type", "a part")
        raise refuse("unsupported", f"Anthropic has no word for {what!r} of the {part.family} format", param="messages")
    return part.value


_WRITERS: dict[type[Part], Callable[[Any, Family], Block | None]] = {
    Text: _write_text,
    Image: _write_image,
    Audio: _write_audio,
    Document: _write_document,
    Thinking: _write_thinking,
    ToolCall: _write_tool_call,
    ToolResult: _write_tool_result,
    Native: _write_native,
}
