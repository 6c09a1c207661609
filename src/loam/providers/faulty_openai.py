"""OpenAI's format from the server's side, for the faulty upstream.

Shares no code with `loam.wire`, so that a mistake there cannot hide here. Pure.
"""

import base64
import hashlib
import struct
from typing import Any

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

PATHS: dict[str, Task] = {"/v1/chat/completions": "chat", "/v1/completions": "complete", "/v1/embeddings": "embed"}
_CREATED = 1_750_000_000
_VALUES = 8
_REASONS = {"stop": "stop", "length": "length", "tools": "tool_calls", "filter": "content_filter"}


def read(task: Task, body: Json) -> Asked:
    messages = [table(message) for message in items(body.get("messages"))]
    texts = [text for message in messages for text in texts_in(message.get("content"))]
    prompts = items(body.get("input") if task == "embed" else body.get("prompt"))
    choice = body.get("tool_choice")
    wanted = table(body.get("response_format"))
    schema = table(wanted.get("json_schema")).get("schema")
    if wanted.get("type") == "json_object":
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    return Asked(
        task=task,
        model=str(body.get("model", "")),
        streams=bool(body.get("stream")) and task != "embed",
        texts=texts + [str(prompt) for prompt in prompts],
        pictures=[
            _picture(part) for message in messages for part in parts_of(message.get("content")) if "image_url" in part
        ],
        most=body.get("max_completion_tokens") or body.get("max_tokens") or 1 << 30,
        tools=[_tool(table(table(tool).get("function"))) for tool in items(body.get("tools"))],
        must_call=choice == "required" or isinstance(choice, dict),
        wanted_tool=str(table(table(choice).get("function")).get("name", "")),
        schema=schema,
        body=body,
    )


def _tool(function: Json) -> Tool:
    return Tool(str(function.get("name", "")), table(function.get("parameters")))


def _picture(part: Json) -> Picture:
    url = str(table(part["image_url"]).get("url", ""))
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return Picture(media, len(base64.b64decode(data)))


def whole(asked: Asked, answer: Answer, fault: Fault) -> bytes:
    if asked.task == "embed":
        body = _embeddings(asked)
    else:
        kind = "text_completion" if asked.task == "complete" else "chat.completion"
        choices = [{"index": index, **_choice(asked, answer)} for index in range(asked.body.get("n") or 1)]
        body: Json = {**_envelope(asked, kind), "choices": choices, "usage": _usage(answer)}
    if fault.twist == "no-usage":
        del body["usage"]
    return msgspec.json.encode(body)


def error(fault: Fault, request_id: str) -> bytes:
    kind = "server_error" if fault.kind == "api_error" else fault.kind
    said = {"message": message_of(fault), "type": kind, "param": None, "code": fault.code or None}
    return msgspec.json.encode({"error": said})


def error_event(fault: Fault, request_id: str) -> bytes:
    return event(error(fault, request_id))


def _envelope(asked: Asked, kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": _CREATED, "model": asked.model}


def _usage(answer: Answer) -> Json:
    used = {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens}
    return {**used, "total_tokens": sum(used.values()), "prompt_tokens_details": {"cached_tokens": 0}}


def _choice(asked: Asked, answer: Answer) -> Json:
    choice: Json = {"finish_reason": _REASONS[answer.finish], "logprobs": _logprobs(asked, answer.words)}
    if asked.task == "complete":
        return {**choice, "text": (asked.texts[-1] if asked.body.get("echo") else "") + answer.text}
    message: Json = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.thinking:
        message["reasoning_content"] = "".join(answer.thinking)
    if answer.tool:
        message["tool_calls"] = [_call(answer.tool, answer.arguments)]
    return {**choice, "message": message}


def _call(name: str, arguments: str) -> Json:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def _logprobs(asked: Asked, words: tuple[str, ...]) -> Json | None:
    if asked.body.get("logprobs") in (None, False) or not words:
        return None
    if asked.task == "complete":
        starts = [sum(map(len, words[:n])) for n in range(len(words))]
        return {"tokens": words, "token_logprobs": [-0.5] * len(words), "top_logprobs": None, "text_offset": starts}
    entries = [{"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []} for word in words]
    return {"content": entries, "refusal": None}


def events(asked: Asked, answer: Answer, fault: Fault) -> Events:
    several = range(asked.body.get("n") or 1)
    completes = asked.task == "complete"
    kind = "text_completion" if completes else "chat.completion.chunk"

    def chunk(index: int, said: Json, *, finish: str | None = None, words: tuple[str, ...] = ()) -> bytes:
        choice: Json = {"index": index, "finish_reason": finish, "logprobs": _logprobs(asked, words)}
        choice |= {"text": said.get("content", "")} if completes else {"delta": said}
        return event({**_envelope(asked, kind), "choices": [choice]})

    opening = [] if completes else [chunk(index, {"role": "assistant", "content": ""}) for index in several]
    said: list[tuple[Json, tuple[str, ...]]] = [({"reasoning_content": thought}, ()) for thought in answer.thinking]
    said += [({"content": word}, (word,)) for word in answer.words]
    said += [({"tool_calls": [{"index": 0, **_call(answer.tool, "")}]}, ())] if answer.tool else []
    said += [({"tool_calls": [{"index": 0, "function": {"arguments": some}}]}, ()) for some in answer.argument_pieces]
    pieces = [chunk(index, piece, words=words) for piece, words in said for index in several]
    closing = [chunk(index, {}, finish=_REASONS[answer.finish]) for index in several]
    if table(asked.body.get("stream_options")).get("include_usage") and fault.twist != "no-usage":
        closing.append(event({**_envelope(asked, kind), "choices": [], "usage": _usage(answer)}))
    return Events(opening, pieces, closing if fault.twist == "no-done" else [*closing, event(b"[DONE]")])


def _embeddings(asked: Asked) -> Json:
    data: list[Json] = []
    for index, text in enumerate(asked.texts):
        digest = hashlib.sha256(text.encode()).digest()
        vector: Any = [(byte - 128) / 128 for byte in digest[: asked.body.get("dimensions") or _VALUES]]
        if asked.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": asked.input_tokens, "total_tokens": asked.input_tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}
