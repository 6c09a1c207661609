"""A Call to the body of a Messages request, for a provider.

Knows the fields of Anthropic's requests and what the API refuses in them; what stands in `content` is known to
`anthropic_blocks`. Invariants: a call that came in this format and that no stage changed leaves with every message,
tool and unknown field as its client wrote it; a wish that can't be sent is refused or leaves a warning.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from loam.core.calls import Call, Tool
from loam.core.errors import refuse
from loam.core.messages import Message, Thinking, ToolCall
from loam.wire.anthropic_blocks import Block, Content, blocks_of, legal_name
from loam.wire.anthropic_schema import accepted

_CHOICES = {"auto": "auto", "required": "any", "named": "tool", "none": "none"}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = {"auto": "auto", "default": "standard_only"}
_NO_WORD = ("min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias")
_COUNTED = ("cache_control", "output_config", "speed", "thinking")
_LEAST_THINKING = 1024
_BRACE = ord("{")
_JSON = "Answer with one JSON object and nothing else."

_content = Decoder(str | list[Block] | None)


def encode_messages(call: Call, model: str, *, stream: bool, default_max_tokens: int) -> bytes:
    """The body for a provider. Raises ModelFailure (unsupported, bad_request) for what Anthropic has no word for."""
    if call.sampling.n > 1:
        raise refuse("unsupported", "Anthropic gives one answer a call; ask n times, with n = 1", param="n")
    if call.sampling.logprobs:
        raise refuse("unsupported", "Anthropic gives no log probabilities; leave logprobs out", param="logprobs")
    limit = call.sampling.max_tokens
    body = _prompt(call, model)
    body["max_tokens"] = default_max_tokens if limit is None else limit
    body["stream"] = stream
    body.update(_sampling(call))
    if call.family == "anthropic":
        body = {**call.extra, **body}
    else:
        _add_thinking(call, body)
    return _encode(body)


def encode_count(call: Call, model: str) -> bytes:
    """The body for a provider's /v1/messages/count_tokens. Raises ModelFailure like `encode_messages`."""
    body = _prompt(call, model)
    if call.family == "anthropic":
        said = call.extra if call.task == "count" else {n: v for n, v in call.extra.items() if n in _COUNTED}
        body = {**said, **body}
    return _encode(body)


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except RecursionError as error:
        raise refuse("bad_request", "the request is nested too deeply") from error


def _prompt(call: Call, model: str) -> dict[str, Any]:
    """What the model reads: the fields that count as input tokens."""
    shape = _shape(call)
    system, turns = _system(call, shape.instruction), _turns(call)
    if not turns and system is not None:  # other formats allow a system message alone; here a user must speak
        system, turns = None, [{"role": "user", "content": system}]
    body: dict[str, Any] = {"model": model, "messages": turns}
    if system is not None:
        body["system"] = system
    if tools := _tools(call):
        body["tools"] = tools
        body["tool_choice"] = _choice(call) if call.tools else {"type": "none"}
    if shape.config:
        body["output_config"] = shape.config
    return {name: value for name, value in body.items() if value is not None}


class _Shape(Struct):
    """How the form of the answer is asked for: in fields, or else in words."""

    config: dict[str, Any]
    instruction: str = ""


def _shape(call: Call) -> _Shape:
    native = call.family == "anthropic"
    config: dict[str, Any] = dict(call.extra.get("output_config", {})) if native else {}
    if effort := call.sampling.reasoning_effort:
        known = effort if native else _EFFORTS.get(effort)
        if known is not None:
            config["effort"] = known
        elif effort != "none":
            call.trace.warn(f"Anthropic has no reasoning effort {effort!r}; it was left out")
    if call.output is None:
        return _Shape(config)
    asked = call.output.schema
    if asked is None:
        return _Shape(config, _JSON)
    schema = asked if native else accepted(asked)
    if schema is None:
        call.trace.warn("Anthropic can't enforce this JSON Schema; it was asked for in words")
        return _Shape(config, f"{_JSON} It must fit this JSON Schema: {_encode(asked).decode()}")
    config["format"] = {"type": "json_schema", "schema": schema}
    return _Shape(config)


def _system(call: Call, instruction: str) -> Raw | str | list[Any] | None:
    native = call.family == "anthropic"
    messages = [message for message in call.messages if message.role == "system" and not _in_place(message, native)]
    if native and len(messages) == 1 and not instruction:
        return messages[0].wire or messages[0].text
    if native and any(message.wire is not None for message in messages):
        said = [message.text if message.wire is None else _content.decode(message.wire) or "" for message in messages]
        blocks = [block for value in (*said, instruction) for block in _system_blocks(value)]
        return blocks or None
    return "\n\n".join(text for text in (*(message.text for message in messages), instruction) if text) or None


def _system_blocks(value: Content) -> list[Block]:
    if not isinstance(value, str):
        return value
    return [{"type": "text", "text": value}] if value.strip() else []


def _in_place(message: Message, native: bool) -> bool:
    """A system message that stood among the messages has an object for `wire`; the `system` field's value is none."""
    return native and message.wire is not None and memoryview(message.wire)[0] == _BRACE


def _turns(call: Call) -> list[Raw | Block]:
    """Messages in turns; tool results come first in the user's turn, which is where the API looks for them."""
    native = call.family == "anthropic"
    turns: list[Raw | Block] = []
    for message in call.messages:
        if native and message.wire is not None and (message.role != "system" or _in_place(message, native)):
            turns.append(message.wire)
        elif message.role != "system" and (blocks := blocks_of(message.parts, call.family)):
            role = "assistant" if message.role == "assistant" else "user"
            last = turns[-1] if turns else None
            if isinstance(last, dict) and last["role"] == role:
                last["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
    for turn in turns:
        if isinstance(turn, dict):
            turn["content"].sort(key=_follows_results)
    return turns


def _follows_results(block: Block) -> bool:
    return block["type"] != "tool_result"


def _tools(call: Call) -> list[Raw | Block]:
    """The tools; where only old calls of tools are told of, these are declared, because the API asks for that."""
    if call.tools:
        native = call.family == "anthropic"
        return [tool.wire if native and tool.wire is not None else _tool(call, tool) for tool in call.tools]
    if call.family == "anthropic":
        return []
    used = {part.name: None for message in call.messages for part in message.parts if isinstance(part, ToolCall)}
    return [{"name": legal_name(name), "input_schema": {"type": "object"}} for name in used]


def _tool(call: Call, tool: Tool) -> Block:
    if not tool.name:
        raise refuse("unsupported", f"Anthropic has no word for a tool of the {call.family} format", param="tools")
    block: Block = {"name": legal_name(tool.name)}
    if tool.description:
        block["description"] = tool.description
    schema = {"type": "object", **(tool.parameters or {"properties": {}})}
    if tool.strict and (strict := accepted(schema)) is not None:
        return {**block, "input_schema": strict, "strict": True}
    if tool.strict:
        call.trace.warn(f"Anthropic can't enforce the parameters of tool {tool.name!r}; strict was left out")
    return {**block, "input_schema": schema}


def _choice(call: Call) -> Block | None:
    parallel = call.sampling.parallel_tool_calls
    if call.tool_choice is None:
        return {"type": "auto", "disable_parallel_tool_use": True} if parallel is False else None
    choice: Block = {"type": _CHOICES[call.tool_choice.mode]}
    if call.tool_choice.name:
        choice["name"] = call.tool_choice.name
    if parallel is not None and call.tool_choice.mode != "none":
        choice["disable_parallel_tool_use"] = not parallel
    return choice


def _sampling(call: Call) -> dict[str, Any]:
    sampling = call.sampling
    words: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": sampling.stop or None,
        "service_tier": sampling.service_tier,
    }
    if call.family != "anthropic":
        _adapt(call, words)
    return {name: value for name, value in words.items() if value is not None}


def _adapt(call: Call, words: dict[str, Any]) -> None:
    """Fits another format's sampling to what the API takes, and says so in the trace."""
    warn = call.trace.warn
    _adapt_temperature(call, words)
    if (stops := words["stop_sequences"]) and not all(stop.strip() for stop in stops):
        warn("Anthropic takes no blank stop sequence; it was left out")
        words["stop_sequences"] = [stop for stop in stops if stop.strip()] or None
    if (tier := words["service_tier"]) is not None:
        words["service_tier"] = _TIERS.get(tier)
        if tier not in _TIERS:
            warn(f"Anthropic has no service tier {tier!r}; it was left out")
    for name in _NO_WORD:
        if getattr(call.sampling, name) is not None:
            warn(f"Anthropic has no word for {name}; it was left out")


def _adapt_temperature(call: Call, words: dict[str, Any]) -> None:
    for name in ("temperature", "top_p"):
        if words[name] == 1:  # the default, which the newest models refuse to be told
            words[name] = None
    if (temperature := words["temperature"]) is None:
        return
    words["temperature"] = min(max(temperature, 0.0), 1.0)
    if words["temperature"] != temperature:
        call.trace.warn(f"Anthropic's temperature ends at 1; {words['temperature']} was sent for {temperature}")
    if words["top_p"] is not None:
        call.trace.warn("Anthropic takes temperature or top_p, not both; top_p was left out")
        words["top_p"] = None


def _add_thinking(call: Call, body: dict[str, Any]) -> None:
    """Asks for thinking where a budget was named, unless the API would refuse it in this place."""
    asked = call.sampling.thinking_budget
    if asked is None:
        return
    budget = min(asked, body["max_tokens"] - 1)
    forced = call.tool_choice is not None and call.tool_choice.mode in ("required", "named")
    if budget < _LEAST_THINKING or forced or _lost_its_thought(call):
        call.trace.warn("Anthropic can't think here (too few tokens, a forced tool, or an earlier thought is missing)")
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    for name in ("temperature", "top_k"):
        if body.pop(name, None) is not None:
            call.trace.warn(f"Anthropic takes no {name} beside thinking; it was left out")


def _lost_its_thought(call: Call) -> bool:
    """Whether the last turn called a tool without the signed thought that must come before such a call."""
    for message in reversed(call.messages):
        if message.role == "assistant":
            thoughts = [part for part in message.parts if isinstance(part, Thinking)]
            called = any(isinstance(part, ToolCall) for part in message.parts)
            return called and not any(thought.signature or thought.redacted for thought in thoughts)
    return False
