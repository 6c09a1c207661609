"""OpenAI's Responses answers: the items of an output and the response around them.

Knows the finished shapes; how they come piece by piece is known to `openai_responses_border`. Invariant: the response
that ends a stream and the body of a whole answer are built here, from the same functions.
"""

from bisect import bisect_right
from typing import Any, Literal

import msgspec

from loam.core.calls import Answer, Call, Choice, Citation, Finish, Head, Usage
from loam.core.messages import Text, Thinking, ToolCall
from loam.wire.openai_responses_reasoning import reasoning_item

Item = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete", "failed"]

_INCOMPLETE: dict[Finish, str] = {
    "length": "max_output_tokens",
    "context_window": "max_output_tokens",
    "pause": "max_output_tokens",
    "content_filter": "content_filter",
}


def encode_response(call: Call, answer: Answer, now: float, loam: dict[str, Any] | None) -> bytes:
    """The body of a whole answer."""
    choice = answer.choices[0] if answer.choices else Choice()
    output, status = output_of(call, choice), status_of(choice.finish)
    body = response_of(call, now, answer.head, output=output, status=status, finish=choice.finish)
    body["usage"] = None if answer.usage is None else usage_words(answer.usage)
    if loam is not None:
        body["loam"] = loam
    return msgspec.json.encode(body)


def response_of(
    call: Call, now: float, head: Head, *, output: list[Item], status: Status, finish: Finish | None
) -> dict[str, Any]:
    """The response object; `finish` says why it is incomplete, where it is."""
    extra, sampling = call.extra, call.sampling
    reason = _INCOMPLETE.get(finish) if finish is not None and status == "incomplete" else None
    return {
        "id": f"resp_{call.id}",
        "object": "response",
        "created_at": int(now),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": extra.get("instructions"),
        "max_output_tokens": sampling.max_tokens,
        "metadata": extra.get("metadata") or {},
        "model": head.model or call.model,
        "output": output,
        "parallel_tool_calls": sampling.parallel_tool_calls is not False,
        "previous_response_id": extra.get("previous_response_id"),
        "prompt_cache_key": extra.get("prompt_cache_key"),
        "reasoning": extra.get("reasoning") or {"effort": None, "summary": None},
        "safety_identifier": extra.get("safety_identifier"),
        "service_tier": head.service_tier if head.service_tier and head.family == "openai" else "default",
        "store": extra.get("store") is not False,
        "temperature": sampling.temperature,
        "text": extra.get("text") or {"format": {"type": "text"}},
        "tool_choice": _tool_choice(call),
        "tools": [tool.wire for tool in call.tools],
        "top_logprobs": sampling.top_logprobs,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": extra.get("user"),
    }


def output_of(call: Call, choice: Choice) -> list[Item]:
    """The parts as items; where the answer broke off, the last one is what it did not finish."""
    items: list[Item] = []
    texts: list[Item] = []
    starts: list[int] = []
    length = 0
    for index, part in enumerate(choice.parts):
        if isinstance(part, Text):
            texts.append(text_part(part.text))
            starts.append(length)
            length += len(part.text)
            items.append(message_item(item_id(call, "msg", index), texts[-1]))
        elif isinstance(part, Thinking):
            items.append(reasoning_item(part, item_id(call, "rs", index)))
        elif isinstance(part, ToolCall):
            items.append(call_item(item_id(call, "fc", index), part))
    for citation in choice.citations if texts else ():
        place = max(0, bisect_right(starts, citation.answer_start) - 1)
        texts[place]["annotations"].append(annotation_of(citation, starts[place]))
    if choice.logprobs and texts:
        texts[-1]["logprobs"] = [logprob_of(entry) for entry in choice.logprobs]
    if choice.refusal:
        items.append(message_item(item_id(call, "msg", len(items)), refusal_part(choice.refusal)))
    if items and "status" in items[-1]:
        items[-1]["status"] = status_of(choice.finish)
    return items


def status_of(finish: Finish | None) -> Status:
    return "incomplete" if finish in _INCOMPLETE else "completed"


def item_id(call: Call, kind: Literal["msg", "fc", "rs"], index: int) -> str:
    return f"{kind}_{call.id}_{index}"


def message_item(identity: str, content: Item | None, status: Status = "completed") -> Item:
    said = [] if content is None else [content]
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": said}


def text_part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> Item:
    return {"type": "refusal", "refusal": text}


def call_item(identity: str, call: ToolCall, status: Status = "completed") -> Item:
    return {
        "id": identity,
        "type": "function_call",
        "status": status,
        "call_id": call.id or identity,
        "name": call.name,
        "arguments": call.arguments,
    }


def annotation_of(citation: Citation, start: int) -> Item:
    """A citation, its place counted from the item's own `start` in the answer's text."""
    begin, end = (max(0, place - start) for place in (citation.answer_start, citation.answer_end))
    if citation.url:
        place = {"start_index": begin, "end_index": end}
        return {"type": "url_citation", "url": citation.url, "title": citation.title, **place}
    return {"type": "file_citation", "file_id": citation.document_id, "filename": citation.title, "index": end}


def logprob_of(entry: Item) -> Item:
    """Some providers leave `bytes` out, which this format needs."""
    above: list[Item] = [{**other, "bytes": other.get("bytes") or []} for other in entry.get("top_logprobs") or ()]
    return {**entry, "bytes": entry.get("bytes") or [], "top_logprobs": above}


def usage_words(usage: Usage) -> Item:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _tool_choice(call: Call) -> Any:
    choice = call.tool_choice
    if choice is None:
        return "auto"
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode
