"""OpenAI's Responses requests: a client's body to a Call, and what a conversation comes to.

Knows the items of `input` and the fields around them. Does not know where conversations are kept, and has no provider:
every call is answered through another format, so a field that nothing can honour leaves a warning or is refused.
Invariant: adjacent items of the assistant (thoughts, text, function calls) are one message, as other formats have it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, structs
from msgspec.json import Decoder

from loam.core.calls import PROMPT, Answer, Call, Controls, Output, Sampling, Tool, ToolChoice
from loam.core.errors import refuse
from loam.core.messages import Audio, Document, Image, Message, Part, Text, ToolCall, ToolResult
from loam.wire.openai_responses_reasoning import thought_of
from loam.wire.reading import Fields, convert, read

Json = dict[str, Any]
Content = str | list[Json]
Tokens = Annotated[int, Meta(ge=0, le=2**31)]


class _Said(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class _FunctionCall(Struct):
    call_id: str
    name: str
    arguments: str


class _FunctionOutput(Struct):
    call_id: str
    output: Content


class _Text(Struct):
    text: str


class _Refusal(Struct):
    refusal: str


class _Image(Struct):
    image_url: str | None = None
    detail: str | None = None


class _File(Struct):
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Sound(Struct):
    data: str
    format: str


class _Audio(Struct):
    input_audio: _Sound


class _Tool(Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class _Choice(Struct):
    type: str
    name: str = ""


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    schema: Json | None = None
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class _TextConfig(Struct):
    format: _Format | None = None


class _Prompt(Struct):
    id: Annotated[str, Meta(min_length=1)]
    version: str | None = None
    variables: dict[str, str | Json] | None = None


class _Reasoning(Struct):
    effort: str | None = None


_text = Decoder(str)
_word = Decoder(str | None)
_flag = Decoder(bool | None)
_number = Decoder(float | None)
_count = Decoder(Tokens | None)
_raws = Decoder(list[Raw] | None)
_words = Decoder(list[str] | None)
_input = Decoder(str | list[Json])
_tool = Decoder(_Tool)
_choice = Decoder(Literal["auto", "none", "required"] | _Choice | None)
_text_config = Decoder(_TextConfig | None)
_prompt = Decoder(_Prompt | None)
_reasoning = Decoder(_Reasoning | None)

_REFUSED = {
    "background": "answers are not made in the background; leave it out and wait, or stream",
    "conversation": "conversations are kept by response; send previous_response_id",
}
_UNDERSTOOD = frozenset(
    {"instructions", "previous_response_id", "store", "metadata", "text", "reasoning", "include", "user", "truncation"}
    | {"stream_options", "safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    | {"prompt"}
)
_ECHOED: dict[str, Decoder[Any]] = {
    "previous_response_id": _word,
    "store": _flag,
    "metadata": Decoder(dict[str, str] | None),
    "safety_identifier": _word,
    "prompt_cache_key": _word,
}
"""Fields that are shown again in the answer, and so must have the form that an SDK expects there."""
_MODES: dict[str, Literal["auto", "none", "required"]] = {"auto": "auto", "none": "none", "required": "required"}
_LOGPROBS = "message.output_text.logprobs"


def decode_response(body: bytes, call_id: str) -> Call:
    """A request to /v1/responses. Raises ModelFailure (bad_request, unsupported) with the field in `param`."""
    fields = Fields(body)
    prompt = fields.look("prompt", _prompt)
    model = fields.need("model", _text) if prompt is None else _name_of(prompt, fields.take("model", _word))
    instructions = fields.look("instructions", _word)
    messages = _messages(fields.need("input", _input) if prompt is None else fields.take("input", _input) or [])
    tools = tuple(_decode_tool(raw, f"tools[{i}]") for i, raw in enumerate(fields.take("tools", _raws) or ()))
    choice = fields.take("tool_choice", _choice)
    text = fields.look("text", _text_config)
    sampling = _sampling(fields)
    stream = bool(fields.take("stream", _flag))
    controls = _controls(fields)
    if prompt is not None and prompt.variables:
        given = {name: _value(name, value) for name, value in prompt.variables.items()}
        controls = structs.replace(controls, variables={**given, **controls.variables})
    for name, decoder in _ECHOED.items():
        fields.look(name, decoder)
    call = Call(
        id=call_id,
        model=model,
        messages=(Message("system", (Text(instructions),)), *messages) if instructions else messages,
        tools=tools,
        tool_choice=None if choice is None else _tool_choice(choice),
        output=None if text is None or text.format is None else _output(text.format),
        sampling=sampling,
        stream=stream,
        family="responses",
        extra=fields.rest(),
        controls=controls,
        body=body,
    )
    _check(call)
    return call


def _name_of(prompt: _Prompt, model: str | None) -> str:
    """The prompt as a model. Raises ModelFailure where the request names another one besides."""
    name = PROMPT + prompt.id + (f"@{prompt.version}" if prompt.version else "")
    if model not in (None, name):
        raise refuse("bad_request", f"model: the prompt {prompt.id!r} says whom to ask; leave it out", param="model")
    return name


def _value(name: str, value: str | Json) -> str:
    match value:
        case str(text) | {"type": "input_text", "text": str(text)}:
            return text
        case _:
            param = f"prompt.variables.{name}"
            raise refuse("unsupported", f"{param}: only text can stand for a variable here", param=param)


def continue_from(call: Call, earlier: tuple[Message, ...]) -> Call:
    """The call with an earlier conversation before its input; its own instructions stay first."""
    own = _instructed(call)
    return structs.replace(call, messages=(*call.messages[:own], *earlier, *call.messages[own:]))


def conversation_after(call: Call, answer: Answer) -> tuple[Message, ...]:
    """What was said, with the answer, ready to be stored; instructions hold for one call only and are left out."""
    said = tuple(structs.replace(message, wire=None) for message in call.messages[_instructed(call) :])
    choice = answer.choices[0] if answer.choices else None
    if choice is None:
        return said
    refusal = (Text(choice.refusal),) if choice.refusal else ()
    parts = (*choice.parts, *refusal)
    return (*said, Message("assistant", parts)) if parts else said


def _instructed(call: Call) -> int:
    """How many of the call's messages, at their beginning, are its instructions."""
    return 1 if call.extra.get("instructions") else 0


def _check(call: Call) -> None:
    """Refuses what must not be left undone, and warns of what is left undone."""
    for name, why in _REFUSED.items():
        if call.extra.get(name):
            raise refuse("unsupported", f"{name}: {why}", param=name)
    if call.extra.get("truncation") == "auto":
        call.trace.warn("truncation: the input is never cut here")
    for name in call.extra.keys() - _UNDERSTOOD - _REFUSED.keys():
        call.trace.warn(f"{name} has no effect here")


def _controls(fields: Fields) -> Controls:
    controls, user = fields.controls(), fields.look("user", _word)
    return structs.replace(controls, user=user) if user and not controls.user else controls


def _sampling(fields: Fields) -> Sampling:
    reasoning = fields.look("reasoning", _reasoning)
    top = fields.take("top_logprobs", _count)
    included = fields.look("include", _words) or ()
    return Sampling(
        max_tokens=fields.take("max_output_tokens", _count),
        temperature=fields.take("temperature", _number),
        top_p=fields.take("top_p", _number),
        logprobs=bool(top) or _LOGPROBS in included,
        top_logprobs=top,
        reasoning_effort=reasoning.effort if reasoning else None,
        service_tier=fields.take("service_tier", _word),
        parallel_tool_calls=fields.take("parallel_tool_calls", _flag),
    )


def _decode_tool(wire: Raw, path: str) -> Tool:
    tool = read(wire, _tool, path)
    if tool.type != "function":
        what = f"{path}: a {tool.type!r} tool runs at its provider only, and can't be had here; send functions"
        raise refuse("unsupported", what, param=f"{path}.type")
    if not tool.name:
        raise refuse("bad_request", f"{path}.name: this field is required", param=f"{path}.name")
    return Tool(tool.name, tool.description or "", tool.parameters, tool.strict, wire)


def _tool_choice(choice: str | _Choice) -> ToolChoice:
    if isinstance(choice, _Choice):
        if choice.type != "function":
            raise refuse("unsupported", f"tool_choice: {choice.type!r} can't be chosen here", param="tool_choice.type")
        if not choice.name:
            raise refuse("bad_request", "tool_choice.name: this field is required", param="tool_choice.name")
        return ToolChoice("named", choice.name)
    return ToolChoice(_MODES[choice])


def _output(said: _Format) -> Output | None:
    match said.type:
        case "text":
            return None
        case "json_object":
            return Output("json")
        case "json_schema":
            if said.schema is None:
                raise refuse("bad_request", "text.format.schema: this field is required", param="text.format.schema")
            return Output("schema", said.schema, said.name, said.description or "", said.strict)


def _messages(said: str | list[Json]) -> tuple[Message, ...]:
    if isinstance(said, str):
        return (Message("user", (Text(said),)),)
    messages: list[Message] = []
    for index, item in enumerate(said):
        message = _item(item, f"input[{index}]")
        if messages and messages[-1].role == message.role == "assistant":
            messages[-1] = Message("assistant", (*messages[-1].parts, *message.parts))
        else:
            messages.append(message)
    return tuple(messages)


def _item(item: Json, path: str) -> Message:
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    reader = _ITEMS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        what = "send the item itself, or previous_response_id" if kind == "item_reference" else "leave it out"
        raise refuse("unsupported", f"{path}: an item of type {kind!r} can't be read here; {what}", param=path)
    return reader(item, path)


def _message(item: Json, path: str) -> Message:
    said = convert(item, _Said, path)
    role = "system" if said.role == "developer" else said.role
    return Message(role, _parts(said.content, f"{path}.content"))


def _function_call(item: Json, path: str) -> Message:
    said = convert(item, _FunctionCall, path)
    return Message("assistant", (ToolCall(said.call_id, said.name, said.arguments),))


def _function_output(item: Json, path: str) -> Message:
    said = convert(item, _FunctionOutput, path)
    parts = _parts(said.output, f"{path}.output")
    plain = tuple(part for part in parts if isinstance(part, (Text, Image, Document)))
    if len(plain) < len(parts):
        what = f"{path}.output: a function's output is text, pictures and files"
        raise refuse("bad_request", what, param=f"{path}.output")
    return Message("tool", (ToolResult(said.call_id, plain),))


def _reasoning_item(item: Json, path: str) -> Message:
    return Message("assistant", (thought_of(item, path),))


_ITEMS: dict[str, Callable[[Json, str], Message]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_output,
    "reasoning": _reasoning_item,
}


def _parts(content: Content, path: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def _part(part: Json, path: str) -> Part:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return Text(convert(part, _Text, path).text)
        case "refusal":
            return Text(convert(part, _Refusal, path).refusal)
        case "input_image":
            return _image(convert(part, _Image, path), path)
        case "input_file":
            return _document(convert(part, _File, path), path)
        case "input_audio":
            sound = convert(part, _Audio, path).input_audio
            return Audio(sound.data, sound.format)
        case kind:
            raise refuse("bad_request", f"{path}.type: {kind!r} is not known", param=f"{path}.type")


def _image(said: _Image, path: str) -> Image:
    if not said.image_url:
        what = f"{path}.image_url: send the picture or its address; stored files can't be reached from here"
        raise refuse("unsupported", what, param=f"{path}.image_url")
    given, detail = _given(said.image_url), said.detail or ""
    if given.data:
        return Image(data=given.data, media_type=given.media_type, detail=detail)
    return Image(url=said.image_url, detail=detail)


def _document(said: _File, path: str) -> Document:
    title = said.filename or ""
    if said.file_data:
        given = _given(said.file_data)
        return Document(data=given.data or said.file_data, media_type=given.media_type, title=title)
    if said.file_url:
        return Document(url=said.file_url, title=title)
    what = f"{path}: send the file's data or address; stored files can't be reached from here"
    raise refuse("unsupported", what, param=path)


class _Given(Struct):
    """What a data: URL holds; nothing for any other address."""

    media_type: str = ""
    data: str = ""


def _given(url: str) -> _Given:
    head, found, data = url.partition(";base64,")
    return _Given(head.removeprefix("data:"), data) if found and head.startswith("data:") else _Given()
