"""Anthropic's format from the server's side, for the faulty upstream.

Shares no code with `loam.wire`, so that a mistake there cannot hide here. Pure.
"""

import base64
from collections.abc import Iterator

import msgspec

from loam.providers.faults import Fault
from loam.providers.faulty_answers import (
    Answer,
    Asked,
    Events,
    Json,
    Picture,
    Task,
    Tool,
    event,
    items,
    message_of,
    parts_of,
    table,
    texts_in,
)

PATHS: dict[str, Task] = {"/v1/messages": "chat", "/v1/messages/count_tokens": "count"}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "filter": "refusal"}


def read(task: Task, body: Json) -> Asked:
    messages = [table(message) for message in items(body.get("messages"))]
    parts = [part for message in messages for part in parts_of(message.get("content"))]
    choice = table(body.get("tool_choice"))
    return Asked(
        task=task,
        model=str(body.get("model", "")),
        streams=bool(body.get("stream")) and task == "chat",
        texts=texts_in(body.get("system")) + texts_in(parts),
        pictures=[_picture(table(part.get("source"))) for part in parts if part.get("type") == "image"],
        most=body.get("max_tokens") or 1 << 30,
        tools=[Tool(str(tool.get("name", "")), table(tool.get("input_schema"))) for tool in items(body.get("tools"))],
        must_call=choice.get("type") in ("any", "tool"),
        wanted_tool=str(choice.get("name", "")),
        schema=table(table(body.get("output_config")).get("format")).get("schema"),
        body=body,
    )


def _picture(source: Json) -> Picture:
    return Picture(
        str(source.get("media_type") or source.get("url", "")), len(base64.b64decode(source.get("data", "")))
    )


def whole(asked: Asked, answer: Answer, fault: Fault) -> bytes:
    if asked.task == "count":
        return msgspec.json.encode({"input_tokens": asked.input_tokens})
    body = _message(asked, answer, _blocks(answer), _STOPS[answer.finish])
    if fault.twist == "no-usage":
        del body["usage"]
    return msgspec.json.encode(body)


def error(fault: Fault, request_id: str) -> bytes:
    said = {"type": fault.kind or "api_error", "message": message_of(fault)}
    return msgspec.json.encode({"type": "error", "error": said, "request_id": request_id})


def error_event(fault: Fault, request_id: str) -> bytes:
    return event(error(fault, request_id), "error")


def _blocks(answer: Answer) -> list[Json]:
    blocks: list[Json] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": "".join(answer.thinking), "signature": "c2lnbmVk"})
    if answer.words:
        blocks.append({"type": "text", "text": answer.text})
    if answer.tool:
        given = msgspec.json.decode(answer.arguments)
        blocks.append({"type": "tool_use", "id": "toolu_1", "name": answer.tool, "input": given})
    return blocks


def _message(asked: Asked, answer: Answer, content: list[Json], stop: str | None) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens if stop else 1},
    }


def events(asked: Asked, answer: Answer, fault: Fault) -> Events:
    start: Json = {"type": "message_start", "message": _message(asked, answer, [], None)}
    end: Json = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOPS[answer.finish], "stop_sequence": None},
        "usage": {"output_tokens": answer.output_tokens},
    }
    if fault.twist == "no-usage":
        del start["message"]["usage"], end["usage"]
    blocks = [
        _named(piece)
        for index, block in enumerate(_blocks(answer))
        for piece in _block_events(index, block, answer)
    ]  # fmt: skip
    closing = [_named(end)] if fault.twist == "no-done" else [_named(end), _named({"type": "message_stop"})]
    # a fault after n words counts words, so what opens the first block belongs to the opening
    return Events([_named(start), _named({"type": "ping"}), *blocks[:1]], blocks[1:], closing)


def _block_events(index: int, block: Json, answer: Answer) -> Iterator[Json]:
    deltas: list[Json]
    if block["type"] == "thinking":
        empty: Json = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": thought} for thought in answer.thinking]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "text":
        empty = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in answer.words]
    else:
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in answer.argument_pieces]
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _named(said: Json) -> bytes:
    return event(said, str(said["type"]))
