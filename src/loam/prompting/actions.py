"""One turn of ReAct as a JSON object: the shapes it may have, what is wrong with one, and what it comes to.

Knows tools by their names and schemas; asks nobody. Pure. Invariant: a turn without problems holds calls of tools that
were offered, each with arguments that fit the client's own schema of it, or an answer, and never both.
"""

from typing import Any, cast

import msgspec
from msgspec import Struct

from loam.core.calls import Call, Tool
from loam.core.errors import ModelFailure, refuse
from loam.prompting.fitting import LISTS, MAPS, SCHEMAS
from loam.prompting.schemas import Problem, Schema, Schemas

MOST = 8
"""Calls of tools in one turn, where the client allows several."""
_OBJECT: dict[str, Any] = {"type": "object"}


class Asked(Struct, frozen=True):
    """A tool that a turn calls; `arguments` is JSON text."""

    name: str
    arguments: str


class Turn(Struct, frozen=True):
    """What a turn comes to; `answer` is None where tools are called."""

    thought: str
    asked: tuple[Asked, ...]
    answer: str | None


class Actions:
    """The turns that a call allows: `choice` and `parallel_tool_calls` are the client's words, in OpenAI's sense.

    Raises ModelFailure: bad_request where the call names a tool that it does not bring, or a schema that is none.
    """

    def __init__(self, call: Call, schemas: Schemas, *, max_thought: int | None = None) -> None:
        self.tools = _offered(call)
        self._of = {tool.name: _compiled(tool, schemas) for tool in self.tools}
        self.may_answer = call.tool_choice is None or call.tool_choice.mode not in ("required", "named")
        self.several = call.sampling.parallel_tool_calls is True
        self._max_thought = max_thought
        self._form: Schema | None = None
        if call.output is not None:
            self._form = schemas.get(_OBJECT if call.output.schema is None else call.output.schema)

    @property
    def word(self) -> str:
        """The member that holds what is to be done."""
        return "actions" if self.several else "action"

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a turn, for whoever holds a model to one: the thought first, so that it is thought."""
        definitions: dict[str, Any] = {}
        calls = [_call_of(tool, definitions) for tool in self.tools]
        one = calls[0] if len(calls) == 1 else {"anyOf": calls}
        done = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST} if self.several else one
        thought: dict[str, Any] = {"type": "string"}
        if self._max_thought is not None:
            thought["maxLength"] = self._max_thought
        turns = [_closed({"thought": thought, self.word: done})]
        if self.may_answer:
            answer = {"type": "string"} if self._form is None else _placed(self._form.source, "answer", definitions)
            turns.append(_closed({"thought": thought, "answer": answer}))
        schema: dict[str, Any] = turns[0] if len(turns) == 1 else {"anyOf": turns}
        return {**schema, "$defs": definitions} if definitions else schema

    def problems(self, value: Any, most: int = 10) -> tuple[Problem, ...]:
        """What is wrong with a turn, the first `most` places; only what the tool that it names asks for is told."""
        if not isinstance(value, dict):
            return (Problem("", f"it must be an object with {self._wanted}"),)
        turn = cast("dict[str, Any]", value)
        others = turn.keys() - {"thought", "answer", self.word}
        found = [Problem(f"/{name}", "no such member is wanted") for name in sorted(others)]
        if not isinstance(turn.get("thought", ""), str):
            found.append(Problem("/thought", "it must be a text"))
        if ("answer" in turn) == (self.word in turn):
            found.append(Problem("", f"it must have {self._wanted}, one of the two"))
        elif "answer" in turn:
            found += self._answer(turn["answer"])
        else:
            found += self._actions(turn[self.word])
        return tuple(found[:most])

    def turn(self, value: dict[str, Any]) -> Turn:
        """What a turn without problems comes to."""
        thought = value.get("thought", "")
        if "answer" in value:
            answer = value["answer"]
            return Turn(thought, (), answer if self._form is None else msgspec.json.encode(answer).decode())
        actions = value[self.word] if self.several else [value[self.word]]
        asked = [Asked(each["tool"], msgspec.json.encode(each["arguments"]).decode()) for each in actions]
        return Turn(thought, tuple(asked), None)

    @property
    def _wanted(self) -> str:
        return f'"{self.word}" or "answer"' if self.may_answer else f'"{self.word}"'

    def _answer(self, answer: Any) -> list[Problem]:
        if not self.may_answer:
            return [Problem("/answer", f"a tool must be called now: {', '.join(self._of)}")]
        if self._form is not None:
            return _under("/answer", self._form.problems(answer))
        return [] if isinstance(answer, str) else [Problem("/answer", "it must be a text")]

    def _actions(self, done: Any) -> list[Problem]:
        if not self.several:
            return self._action(done, "/action")
        actions = cast("list[Any]", done) if isinstance(done, list) else []
        if not 1 <= len(actions) <= MOST:
            return [Problem("/actions", f"it must be a list of 1 to {MOST} actions")]
        return [problem for at, each in enumerate(actions) for problem in self._action(each, f"/actions/{at}")]

    def _action(self, action: Any, at: str) -> list[Problem]:
        given = cast("dict[str, Any]", action) if isinstance(action, dict) else {}
        if given.keys() != {"tool", "arguments"}:
            return [Problem(at, 'it must be an object of "tool" and "arguments"')]
        name, arguments = given["tool"], given["arguments"]
        if not isinstance(name, str) or name not in self._of:
            return [Problem(f"{at}/tool", f"there is no such tool to call; there are: {', '.join(self._of)}")]
        if not isinstance(arguments, dict):
            return [Problem(f"{at}/arguments", "they must be an object")]
        return _under(f"{at}/arguments", self._of[name].problems(arguments))


def _under(at: str, problems: tuple[Problem, ...]) -> list[Problem]:
    return [Problem(at + problem.at, problem.message) for problem in problems]


def _offered(call: Call) -> tuple[Tool, ...]:
    """The tools that may be called. Raises ModelFailure (unsupported, bad_request)."""
    if not all(tool.name for tool in call.tools):
        what = "a tool of this call is run by one provider's own servers, and can't be called in text; leave it out"
        raise refuse("unsupported", what, param="tools")
    choice = call.tool_choice
    if choice is None or choice.mode != "named":
        return call.tools
    named = tuple(tool for tool in call.tools if tool.name == choice.name)
    if not named:
        raise refuse(
            "bad_request", f"tool_choice names {choice.name!r}, which is none of the tools", param="tool_choice"
        )
    return named


def _compiled(tool: Tool, schemas: Schemas) -> Schema:
    """The client's own schema of a tool, which its calls are held to."""
    try:
        return schemas.get(_OBJECT if tool.parameters is None else tool.parameters)
    except ModelFailure as error:
        what = error.failure.message.partition(": ")[2]
        raise refuse(
            "bad_request", f"the parameters of the tool {tool.name} can't be used: {what}", param="tools"
        ) from error


def _call_of(tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    arguments = _placed({**_OBJECT, **(tool.parameters or {})}, tool.name, definitions)
    return _closed({"tool": {"const": tool.name}, "arguments": arguments})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _placed(schema: Any, name: str, definitions: dict[str, Any]) -> Any:
    """A schema as it stands inside a larger one: by itself, or where it refers to itself as one of `definitions`."""
    if not isinstance(schema, dict):
        return schema
    plain = {word: value for word, value in cast("dict[str, Any]", schema).items() if word not in ("$schema", "$id")}
    if b'"$ref"' not in msgspec.json.encode(plain):
        return plain
    at = f"{len(definitions)}_{''.join(sign for sign in name if sign.isalnum() or sign in '_-')}"
    definitions[at] = rebased(plain, f"#/$defs/{at}")
    return {"$ref": f"#/$defs/{at}"}


def rebased(schema: Any, at: str) -> Any:
    """The schema with its references into itself (`#`, `#/…`) leading to `at`, where it is going to stand."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for word, value in cast("dict[str, Any]", schema).items():
        if word == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            kept[word] = at + value[1:]
        elif word in MAPS and isinstance(value, dict):
            kept[word] = {name: rebased(one, at) for name, one in cast("dict[str, Any]", value).items()}
        elif word in LISTS and isinstance(value, list):
            kept[word] = [rebased(one, at) for one in cast("list[Any]", value)]
        else:
            kept[word] = rebased(value, at) if word in SCHEMAS else value
    return kept
