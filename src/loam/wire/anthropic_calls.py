"""A client's Messages request to a Call.

Knows the fields of Anthropic's requests; what stands in `content` is known to `anthropic_blocks`. Invariant: every
message, tool and unknown field is kept as the client wrote it, beside the core's words for it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, structs
from msgspec.json import Decoder

from loam.core.calls import Call, Controls, Output, Sampling, Task, Tool, ToolChoice
from loam.core.errors import refuse
from loam.core.messages import Message
from loam.wire.anthropic_blocks import Block, Content, parts_of
from loam.wire.reading import Fields, convert, read

Tokens = Annotated[int, Meta(ge=0, le=2**31)]
Mode = Literal["auto", "none", "required", "named"]


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: Content


class _Tool(Struct):
    """A custom tool; `type` is anything else for a tool that runs at the provider."""

    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Thinking(Struct):
    type: str
    budget_tokens: int | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Format(Struct):
    type: str
    schema: dict[str, Any] | None = None


class _OutputConfig(Struct):
    effort: str | None = None
    format: _Format | None = None


_text = Decoder(str)
_limit = Decoder(Tokens)
_flag = Decoder(bool | None)
_number = Decoder(float | None)
_count = Decoder(Tokens | None)
_word = Decoder(str | None)
_words = Decoder(tuple[str, ...] | None)
_list = Decoder(Annotated[list[Raw], Meta(min_length=1)])
_raws = Decoder(list[Raw] | None)
_content = Decoder(str | list[Block] | None)
_message = Decoder(_Message)
_tool = Decoder(_Tool)
_tool_choice = Decoder(_ToolChoice | None)
_thinking = Decoder(_Thinking | None)
_metadata = Decoder(_Metadata | None)

_MODES: dict[str, Mode] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


def decode_messages(body: bytes, call_id: str) -> Call:
    """A request to /v1/messages. Raises ModelFailure (bad_request) with the path of what is wrong in `param`."""
    return _decode(body, call_id, "chat")


def decode_count(body: bytes, call_id: str) -> Call:
    """A request to /v1/messages/count_tokens. Raises ModelFailure like `decode_messages`."""
    return _decode(body, call_id, "count")


def _decode(body: bytes, call_id: str, task: Task) -> Call:
    fields = Fields(body)
    model = fields.need("model", _text)
    max_tokens = fields.need("max_tokens", _limit) if task == "chat" else fields.take("max_tokens", _count)
    messages = (*_decode_system(fields), *_decode_messages(fields))
    tools = tuple(_decode_tool(raw, f"tools[{i}]") for i, raw in enumerate(fields.take("tools", _raws) or ()))
    choice = fields.take("tool_choice", _tool_choice)
    single = None if choice is None else choice.disable_parallel_tool_use
    thinking = fields.look("thinking", _thinking)
    controls = _controls(fields)
    stream = bool(fields.take("stream", _flag))
    stop, tier = fields.take("stop_sequences", _words), fields.take("service_tier", _word)
    temperature, top_p = fields.take("temperature", _number), fields.take("top_p", _number)
    top_k = fields.take("top_k", _count)
    extra = fields.rest()
    shape = _take_output_config(extra)
    return Call(
        id=call_id,
        model=model,
        task=task,
        messages=messages,
        tools=tools,
        tool_choice=None if choice is None else _decode_choice(choice),
        output=None if shape.format is None else Output("schema", shape.format.schema),
        sampling=Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=stop or (),
            reasoning_effort=shape.effort,
            thinking_budget=thinking.budget_tokens if thinking else None,
            service_tier=tier,
            parallel_tool_calls=None if single is None else not single,
        ),
        stream=stream and task == "chat",
        family="anthropic",
        extra=extra,
        controls=controls,
        body=body,
    )


def _decode_system(fields: Fields) -> tuple[Message, ...]:
    wire = fields.raw("system")
    content = None if wire is None else read(wire, _content, "system")
    return () if content is None else (Message("system", parts_of(content, "system"), wire=wire),)


def _decode_messages(fields: Fields) -> Iterator[Message]:
    for index, wire in enumerate(fields.need("messages", _list)):
        path = f"messages[{index}]"
        message = read(wire, _message, path)
        yield Message(message.role, parts_of(message.content, f"{path}.content"), wire=wire)


def _decode_tool(wire: Raw, path: str) -> Tool:
    tool = read(wire, _tool, path)
    if tool.type not in (None, "custom"):
        return Tool("", wire=wire)
    for name in ("name", "input_schema"):
        if getattr(tool, name) in ("", None):
            raise refuse("bad_request", f"{path}.{name}: this field is required", param=f"{path}.{name}")
    return Tool(tool.name, tool.description or "", tool.input_schema, tool.strict, wire)


def _decode_choice(choice: _ToolChoice) -> ToolChoice:
    if choice.type == "tool" and not choice.name:
        raise refuse("bad_request", "tool_choice.name: this field is required", param="tool_choice.name")
    return ToolChoice(_MODES[choice.type], choice.name)


def _take_output_config(extra: dict[str, Any]) -> _OutputConfig:
    """Moves what the core has words for out of `extra`; `output_format` is what the format was called in its beta."""
    config = convert(extra.pop("output_config", None) or {}, dict[str, Any], "output_config")
    if beta := extra.pop("output_format", None):
        config = {**config, "format": beta}
    known = convert(config, _OutputConfig, "output_config")
    rest = {name: value for name, value in config.items() if name not in ("effort", "format")}
    if known.format is not None and (known.format.type != "json_schema" or known.format.schema is None):
        rest["format"], known.format = config["format"], None
    if rest:
        extra["output_config"] = rest
    return known


def _controls(fields: Fields) -> Controls:
    controls, metadata = fields.controls(), fields.look("metadata", _metadata)
    user = metadata.user_id if metadata else None
    return structs.replace(controls, user=user) if user and not controls.user else controls
