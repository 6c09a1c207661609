"""A call as the engine's process is asked it: messages as chat templates read them, and vLLM's fields by their names.

Knows the core's words and the frames of `protocol.py`; knows neither HTTP nor torch. Invariant: what a call asks for
and the engine does not do is refused, or left out with a warning in the call's trace; it is never quietly dropped.
"""

import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from loam.core.calls import Call, Tool
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Document, Message, Part, Text, Thinking, ToolCall, ToolResult
from loam.engine.protocol import Drawing, Request, Shape

_UNHEARD = frozenset({"stream_options", "user", "store", "metadata", "service_tier", "n", "best_of", "suffix"})
"""Fields that ask for nothing of an engine, or are looked at on their own."""


class Extras(Struct, frozen=True, kw_only=True):
    """Fields of a request that the core has no word for and the engine has; the names are vLLM's."""

    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    add_special_tokens: bool = True
    prompt_logprobs: Annotated[int, Meta(ge=0)] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str | int | float], Meta(min_length=1)] | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    structured_outputs: dict[str, Any] | None = None


_KNOWN = frozenset(Extras.__struct_fields__)


def request_of(call: Call, *, name: str, adapter: str, seed: int) -> Request:
    """The call as a request called `name`; `seed` holds where the call brings none. Raises ModelFailure."""
    extras = _extras(call)
    sampling = call.sampling
    top = sampling.top_logprobs or 0
    tools, must_call = _tools(call)
    chats = call.task in ("chat", "count") and bool(call.messages)
    return Request(
        id=name,
        messages=[each for message in call.messages for each in _messages(message)] if chats else None,
        tools=tools,
        must_call=must_call,
        variables=_variables(call, extras),
        inputs=[] if chats else [given if isinstance(given, str) else list(given) for given in call.inputs],
        special=extras.add_special_tokens,
        draw=Drawing(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=extras.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            logit_bias=sampling.logit_bias,
            seed=seed if sampling.seed is None else sampling.seed,
        ),
        max_tokens=sampling.max_tokens,
        n=sampling.n,
        stop=list(sampling.stop),
        stop_tokens=extras.stop_token_ids or [],
        ignore_end=extras.ignore_eos,
        keep_stop=extras.include_stop_str_in_output,
        logprobs=top if sampling.logprobs else None,
        prompt_logprobs=extras.prompt_logprobs,
        echo=sampling.echo,
        shape=_shape(call, extras),
        adapter=adapter,
    )


def _extras(call: Call) -> Extras:
    if call.family != "openai" or not call.extra:
        return Extras()
    best = call.extra.get("best_of")
    if call.extra.get("suffix"):
        raise refuse("unsupported", "suffix: this engine writes at the end of a text only", param="suffix")
    if best is not None and best != call.sampling.n:
        raise refuse("unsupported", "best_of: ask for n answers and choose among them", param="best_of")
    for name in call.extra.keys() - _KNOWN - _UNHEARD:
        call.trace.warn(f"left out {name}: the local engine has no such field")
    try:
        return msgspec.convert({name: call.extra[name] for name in _KNOWN & call.extra.keys()}, Extras)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        param = path.rstrip("`")
        raise refuse("bad_request", f"{param}: {message}" if param else message, param=param) from None


def _variables(call: Call, extras: Extras) -> dict[str, Any]:
    """What the chat template is given besides messages and tools."""
    variables = dict(extras.chat_template_kwargs or {})
    if extras.chat_template:
        variables["chat_template"] = extras.chat_template
    if extras.add_generation_prompt is not None or extras.continue_final_message:
        variables["add_generation_prompt"] = bool(extras.add_generation_prompt)
    if extras.continue_final_message:
        variables["continue_final_message"] = True
    if call.sampling.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", call.sampling.reasoning_effort)
    for name in ("messages", "tools"):
        variables.pop(name, None)
    return variables


def _shape(call: Call, extras: Extras) -> Shape | None:
    """What the answer must look like, from whichever field says so. Raises ModelFailure where two do."""
    wanted = {**(extras.structured_outputs or {})}
    given = [
        Shape("json") if call.output is not None and call.output.kind == "json" else None,
        Shape("schema", call.output.schema or {}) if call.output is not None and call.output.kind == "schema" else None,
        _one("schema", extras.guided_json, wanted.get("json")),
        _one("regex", extras.guided_regex, wanted.get("regex")),
        _one("choice", extras.guided_choice, wanted.get("choice")),
        _one("lark", extras.guided_grammar, extras.grammar, wanted.get("grammar")),
        Shape("json") if wanted.get("json_object") else None,
    ]
    shapes = [shape for shape in given if shape is not None]
    if len(shapes) > 1:
        raise refuse("bad_request", "an answer can have one shape only; leave the other fields out")
    return shapes[0] if shapes else None


def _one(kind: Any, *values: Any) -> Shape | None:
    value = next((value for value in values if value is not None), None)
    return None if value is None else Shape(kind, value)


def _tools(call: Call) -> tuple[list[dict[str, Any]] | None, str]:
    """The tools as templates read them, and which of them must be called."""
    choice = call.tool_choice
    if not call.tools or (choice is not None and choice.mode == "none"):
        return None, ""
    tools = [_tool(tool) for tool in call.tools]
    if choice is None or choice.mode == "auto":
        return tools, ""
    return tools, choice.name if choice.mode == "named" else "*"


def _tool(tool: Tool) -> dict[str, Any]:
    if not tool.name:
        raise refuse(
            "unsupported", "a tool of this call is run by one provider's own servers; leave it out", param="tools"
        )
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    return {"type": "function", "function": {**function, "parameters": tool.parameters or {"type": "object"}}}


def _messages(message: Message) -> list[dict[str, Any]]:
    """A message as templates read it; results of tools are messages of their own, before what else is said."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    told = [
        {"role": "tool", "tool_call_id": result.call_id, "content": "".join(map(_text, result.parts))}
        for result in results
    ]
    if not rest and results:
        return told
    plain: dict[str, Any] = {"role": message.role, "content": "".join(map(_text, rest))}
    thought = "".join(part.text for part in rest if isinstance(part, Thinking))
    if thought:
        plain["reasoning_content"] = thought
    calls = [part for part in rest if isinstance(part, ToolCall)]
    if calls:
        plain["tool_calls"] = [_called(call) for call in calls]
    if message.name:
        plain["name"] = message.name
    return [*told, plain]


def _called(call: ToolCall) -> dict[str, Any]:
    """Arguments as an object, which templates write as JSON themselves; what is no JSON stays a text."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _text(part: Part) -> str:
    match part:
        case Text():
            return part.text
        case Thinking() | ToolCall():
            return ""
        case Document() if part.text:
            return part.text
        case _:
            raise unread(type(part).__name__)


def unread(what: str) -> ModelFailure:
    """The refusal of what is no text."""
    return refuse(
        "unsupported",
        f"the local engine reads text only, and a message holds a part of the kind {what.lower()}; send its text, or "
        "ask a model that reads it",
        param="messages",
    )
