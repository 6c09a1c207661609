"""A conversation with tools, told in text: what was called as turns of ReAct, what came back as fenced observations.

Knows messages and the words of a turn; knows no model. Pure. Invariant: what a tool said stands between marks that it
does not contain, in a message that the model did not write; nothing else of the conversation is changed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from loam.core.messages import Message, Part, Text, Thinking, ToolCall, ToolResult
from loam.prompting.variables import NOTE, fenced

OBSERVED = "Observation"


def told(
    messages: Sequence[Message], *, turns: bool, several: bool = False, formed: bool = False
) -> tuple[Message, ...]:
    """The messages as a model without tool calling reads them.

    `turns`: it is asked for turns, so its earlier answers are shown as such, `formed` ones as the values they are.
    `several`: a turn holds a list of actions.
    """
    names = {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}
    said: list[Message] = []
    for message in messages:
        turned = message
        if any(isinstance(part, ToolResult) for part in message.parts):
            turned = Message("user", tuple(_observed(message.parts, names)))
        elif message.role == "assistant" and (turns or has_tools([message])):
            turned = _turn(message, several=several, formed=formed)
        follows = bool(said) and said[-1].role == turned.role == "user" and _observes(said[-1])
        if follows:  # some templates want the roles to take turns
            said[-1] = Message("user", (*said[-1].parts, Text("\n\n"), *turned.parts))
        elif turned.parts:
            said.append(turned)
    return tuple(said)


def has_tools(messages: Iterable[Message]) -> bool:
    """Whether a conversation has calls of tools or results in it."""
    return any(isinstance(part, ToolCall | ToolResult) for message in messages for part in message.parts)


def _observes(message: Message) -> bool:
    first = message.parts[0] if message.parts else None
    return message.wire is None and isinstance(first, Text) and first.text.startswith(f"{OBSERVED} of ")


def _observed(parts: Iterable[Part], names: dict[str, str]) -> Iterable[Part]:
    for part in parts:
        if not isinstance(part, ToolResult):
            yield part
            continue
        name = names.get(part.call_id, "a tool")
        text = "".join(inner.text for inner in part.parts if isinstance(inner, Text))
        failed = " (it failed)" if part.is_error else ""
        yield Text(f"{OBSERVED} of {name}{failed}:\n{fenced(name, text, alone=True)}\n")
        yield from (inner for inner in part.parts if not isinstance(inner, Text))


def _turn(message: Message, *, several: bool, formed: bool) -> Message:
    """What the assistant said, in the words that it is asked to speak in; pictures and the like stay as they are."""
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    thoughts = [part.text for part in message.parts if isinstance(part, Thinking) and part.text]
    turn: dict[str, Any]
    if calls:
        turn = {"thought": "\n".join([*thoughts, *([message.text] if message.text else [])])}
        actions = [{"tool": call.name, "arguments": _value(call.arguments or "{}")} for call in calls]
        turn |= {"actions": actions} if several or len(actions) > 1 else {"action": actions[0]}
    elif message.text:
        turn = {"thought": "\n".join(thoughts), "answer": _value(message.text) if formed else message.text}
    else:
        return message
    others = tuple(part for part in message.parts if not isinstance(part, Text | Thinking | ToolCall))
    return Message("assistant", (Text(msgspec.json.encode(turn).decode()), *others), message.name)


def _value(text: str) -> Any:
    """JSON as the value that it is; what is none stays a text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def instruction(tools: Iterable[tuple[str, str, Any]], *, several: bool, may_answer: bool) -> str:
    """How turns are written, and which tools there are: name, what it does, and the schema of its arguments."""
    action = '{"tool": "NAME", "arguments": {…}}'
    call = f'{{"thought": "…", "actions": [{action}, …]}}' if several else f'{{"thought": "…", "action": {action}}}'
    lines = [
        "You act by tools. Each turn you write one JSON object and nothing else: what you think, and a call of a tool,",
        call,
    ]
    lines += ["or, when you know enough, the answer:", '{"thought": "…", "answer": "…"}'] if may_answer else []
    lines.append(f"{OBSERVED}s of calls are given to you; never write or guess one. {NOTE}")
    lines.append("Tools:")
    for name, does, parameters in tools:
        schema = msgspec.json.encode(parameters or {"type": "object"}).decode()
        lines.append(f"{name}: {does} {schema}" if does else f"{name}: {schema}")
    return "\n".join(lines)
