"""OpenAI's chat request: a client's body to a Call, and a Call to the body that a provider receives.

Knows every field with a word in the core; all others travel untouched in `extra`. Does not know which provider is
asked: a `Dialect` says what differs. Invariant: a provider of this family receives what the client wrote, message by
message and tool by tool, unless a stage of the road changed it.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from loam.core.calls import Call, Controls, Output, Sampling, Tool, ToolChoice
from loam.core.errors import refuse
from loam.core.messages import Family
from loam.wire.openai_messages import ChatMessage, decode_messages, encode_messages
from loam.wire.reading import read

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1)]


class Dialect(Struct, frozen=True):
    """What makes one OpenAI-compatible provider differ from another.

    `stream_usage`: takes `stream_options.include_usage`. `developer`: knows that role. `lacks`: top-level fields that
    it refuses; they are left out, with a warning in the call's trace.
    """

    max_tokens: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    stream_usage: bool = True
    developer: bool = True
    lacks: frozenset[str] = frozenset()


class StreamOptions(Struct):
    include_usage: bool | None = None


class _Function(Struct):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _GivenTool(Struct):
    type: str = "function"
    function: _Function | None = None


class Request(Struct, kw_only=True):
    """The fields that chat and completion requests share, as far as the core has words for them."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    n: Choices | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, int | float] | None = None
    user: str | None = None


class ChatRequest(Request, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    tools: list[_GivenTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[_Function] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None


_SAME = (
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias",
    "top_logprobs", "reasoning_effort", "service_tier", "parallel_tool_calls",
)  # fmt: skip
"""Words of `Sampling` that are OpenAI's own and go over as they are."""
_same: Callable[[Sampling], tuple[Any, ...]] = attrgetter(*_SAME)

SHARED = frozenset({"model", "stream", "max_tokens", "stop", "n", "loam", *_SAME})
_CHAT = SHARED | {"messages", "tools", "max_completion_tokens", "logprobs"}
_LEGACY = ("functions", "function_call")
COMPLETIONS_ONLY = frozenset({"best_of", "suffix"})

_request = Decoder(ChatRequest)
_fields = Decoder(dict[str, Raw])
_raws = Decoder(list[Raw])
_anything = Decoder(Any)
_controls = Decoder(Controls | None)
_object = Decoder(dict[str, Raw] | None)


def decode_chat(body: bytes, call_id: str) -> Call:
    """A chat request as a client sent it. Raises ModelFailure (bad_request) that names the field."""
    request = read(body, _request)
    fields = read(body, _fields)
    extra = extra_of(fields, _CHAT)
    if request.tools:
        extra = {name: value for name, value in extra.items() if name not in _LEGACY}
    choice = _tool_choice(request.tool_choice)
    if choice is not None:
        extra.pop("tool_choice", None)
    elif request.function_call is not None:
        choice = _tool_choice(request.function_call)
    output = _output(request.response_format)
    if output is not None or request.response_format == {"type": "text"}:
        extra.pop("response_format", None)
    return Call(
        id=call_id,
        model=request.model,
        messages=decode_messages(request.messages, read(fields["messages"], _raws)),
        tools=_tools(request, fields),
        tool_choice=choice,
        output=output,
        sampling=_sampling(request),
        stream=bool(request.stream),
        family="openai",
        extra=extra,
        controls=controls_of(fields, request.user),
        body=body,
    )


def extra_of(fields: dict[str, Raw], known: frozenset[str]) -> dict[str, Any]:
    """The fields that have no word in the core, as Python values. Raises ModelFailure (bad_request)."""
    return {name: read(raw, _anything, name) for name, raw in fields.items() if name not in known}


def controls_of(fields: dict[str, Raw], user: str | None) -> Controls:
    """The `loam` object, with OpenAI's `user` where it names none. Raises ModelFailure (bad_request)."""
    raw = fields.get("loam")
    if raw is None:
        return Controls(user=user or "")
    for name in read(raw, _object, "loam") or ():
        if name not in Controls.__struct_fields__:
            there = ", ".join(Controls.__struct_fields__)
            raise refuse("bad_request", f"loam.{name}: not known; there are {there}", param=f"loam.{name}")
    controls = read(raw, _controls, "loam") or Controls()
    return msgspec.structs.replace(controls, user=controls.user or user or "")


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _sampling(request: ChatRequest) -> Sampling:
    most = request.max_completion_tokens
    return Sampling(
        max_tokens=request.max_tokens if most is None else most,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        stop=stops(request.stop),
        seed=request.seed,
        n=request.n or 1,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias=request.logit_bias,
        reasoning_effort=request.reasoning_effort,
        service_tier=request.service_tier,
        parallel_tool_calls=request.parallel_tool_calls,
    )


def _tools(request: ChatRequest, fields: dict[str, Raw]) -> tuple[Tool, ...]:
    """Tools with their own JSON; legacy functions become tools for providers of another family."""
    if request.tools:
        wires = read(fields["tools"], _raws)
        return tuple(_tool(tool, wires[index], index) for index, tool in enumerate(request.tools))
    if not request.functions:
        return ()
    wires = read(fields["functions"], _raws)
    return tuple(
        _tool(_GivenTool(function=function), Raw(b'{"type":"function","function":%b}' % bytes(wire)), 0)
        for function, wire in zip(request.functions, wires, strict=True)
    )


def _tool(given: _GivenTool, wire: Raw, index: int) -> Tool:
    function = given.function
    if function is not None:
        return Tool(function.name, function.description or "", function.parameters, function.strict, wire)
    if given.type == "function":
        param = f"tools[{index}].function"
        raise refuse("bad_request", f"{param}: this field is required", param=param)
    return Tool("", wire=wire)


def _tool_choice(value: str | dict[str, Any] | None) -> ToolChoice | None:
    """None for what only OpenAI's family has (allowed tools, custom tools): that stays in `extra`."""
    match value:
        case "auto" | "none" | "required":
            return ToolChoice(value)
        case {"type": "function", "function": {"name": str(name)}} if name:
            return ToolChoice("named", name)
        case {"name": str(name), **rest} if name and not rest:
            return ToolChoice("named", name)
        case _:
            return None


def _output(value: dict[str, Any] | None) -> Output | None:
    match value:
        case {"type": "json_object"}:
            return Output("json")
        case {"type": "json_schema", "json_schema": {"schema": dict()} as given}:
            try:
                return msgspec.convert({**_without_nulls(given), "kind": "schema"}, Output)
            except msgspec.ValidationError as error:
                param = "response_format.json_schema"
                raise refuse("bad_request", f"{param}: {error}", param=param) from error
        case _:
            return None


def _without_nulls(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def encode_chat(call: Call, model: str, dialect: Dialect, *, stream: bool) -> bytes:
    """The body for a provider. Raises ModelFailure (unsupported) for what cannot be said in OpenAI's words.

    Usage of a stream is asked for always where the provider can tell it; the client sees it only if it asked.
    """
    if not call.messages:
        raise refuse("unsupported", "this provider answers one text prompt at a time and no token ids; send one prompt")
    own = call.family == "openai"
    messages = encode_messages(call.messages, call.family, developer=dialect.developer)
    body: dict[str, Any] = {"model": model, "messages": messages}
    if own:
        body = {**call.extra, **body}
    if call.task == "complete":
        body = {name: value for name, value in body.items() if name not in COMPLETIONS_ONLY}
        if call.sampling.echo:
            call.trace.warn("the prompt is not echoed: this provider only chats")
    put_sampling(body, call, max_tokens=dialect.max_tokens)
    if call.tools and not (own and call.extra.get("functions")):
        body["tools"] = [_encode_tool(tool, call.family) for tool in call.tools]
        if call.tool_choice is not None:
            body["tool_choice"] = _encode_tool_choice(call.tool_choice)
    if call.output is not None:
        body["response_format"] = _encode_output(call.output)
    put_stream(body, dialect, stream=stream)
    return finished(body, call, dialect)


def put_stream(body: dict[str, Any], dialect: Dialect, *, stream: bool) -> None:
    """Asks for a stream, and for its usage where the provider can tell it."""
    options: dict[str, Any] = body.pop("stream_options", None) or {}
    if stream:
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = {**options, "include_usage": True}


def finished(body: dict[str, Any], call: Call, dialect: Dialect) -> bytes:
    """Leaves out what the provider lacks, and says so in the trace."""
    for name in dialect.lacks.intersection(body):
        del body[name]
        call.trace.warn(f"left out {name}: {call.target or body['model']} has no such field")
    return msgspec.json.encode(body)


def put_sampling(body: dict[str, Any], call: Call, *, max_tokens: str) -> None:
    """Writes what the call says of sampling, in OpenAI's words."""
    sampling = call.sampling
    values = _same(sampling)
    if values.count(None) < len(values):
        body.update((name, value) for name, value in zip(_SAME, values, strict=True) if value is not None)
    if sampling.thinking_budget is not None and sampling.reasoning_effort is None:
        call.trace.warn("left out the thinking budget: OpenAI's format has an effort instead")
    if call.family == "anthropic":
        body.pop("service_tier", None)  # its tiers have other names
    if sampling.max_tokens is not None:
        body[max_tokens] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.n != 1:
        body["n"] = sampling.n
    if sampling.logprobs:
        body["logprobs"] = True


def _encode_tool(tool: Tool, family: Family) -> Any:
    if tool.wire is not None and family == "openai":
        return tool.wire
    if not tool.name:
        raise refuse(
            "unsupported",
            f"a tool of this call exists in the {family} format only; choose a provider of that format or leave it out",
        )
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _encode_tool_choice(choice: ToolChoice) -> Any:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _encode_output(output: Output) -> dict[str, Any]:
    if output.kind == "json":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": output.name or "answer", "schema": output.schema or {}}
    if output.description:
        schema["description"] = output.description
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}
