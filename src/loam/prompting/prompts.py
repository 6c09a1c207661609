"""A prompt as a file: what is said, to which model, with which variables; and its hash, by which it is known for ever.

Pure. Knows the file's form and the core's messages; not where prompts are kept (`loam.gateway.prompt_shelf`).
Invariants: the hash is of everything that shapes a call and of nothing else; a placeholder is a name and never code.

```
+++
model = "fast"
temperature = 0.2
[variables]
product = {type = "choice", choices = ["Loam", "Clay"]}
ticket = {max_length = 8000}
+++
You answer customers of {{product}} in at most three sentences.

+++ user
{{ticket}}
```
"""

import json
import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct, structs

from loam.core.calls import Sampling
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Message, say
from loam.prompting.variables import NOTE, Variable, checked, written

INPUT = "input"
"""The placeholder for the client's last user message, which then stands here and not at the end."""

NAME = r"[a-z0-9][a-z0-9_.-]{0,99}"
LABEL = r"[a-z][a-z0-9_-]{0,49}"
HASH = r"[0-9a-f]{8,64}"
IGNORE = re.compile(r"^\s*(?:#|<!--)\s*loam:\s*ignore\b(.*?)(?:-->)?\s*$")
"""A line for the linter, which no model sees."""

_PLACEHOLDER = re.compile(r"\\\{\{|\{\{\s*([a-z_][a-z0-9_]*)\s*\}\}|\{\{")
_TURN = re.compile(r"^\+\+\+ *(system|user|assistant) *$")
_FENCE = "+++"

Speaker = Literal["system", "user", "assistant"]


class Turn(Struct, frozen=True):
    """What one role says."""

    role: Speaker
    text: str


class Defaults(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How answers are drawn where the client does not say."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None


class Front(Defaults, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What stands between the first two `+++` lines, as TOML. `schema` is a table, or JSON in a text."""

    name: str = ""
    description: str = ""
    model: str = ""
    schema: dict[str, Any] | str | None = None
    variables: dict[str, Variable] = {}


class Prompt(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a version is. `variables` holds every placeholder but `input`, declared or not."""

    model: str
    turns: tuple[Turn, ...]
    description: str = ""
    defaults: Defaults = Defaults()
    schema: dict[str, Any] | None = None
    variables: dict[str, Variable] = {}

    @property
    def hash(self) -> str:
        """SHA-256 of all that is in it, in hexadecimal."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def takes_input(self) -> bool:
        return any(INPUT in placeholders(turn.text) for turn in self.turns)

    def messages(self, given: Mapping[str, Any], *, question: str = "") -> tuple[Message, ...]:
        """The turns with their values. Raises ModelFailure (bad_request) for a missing, unknown or ill-typed one."""
        values: dict[str, Any] = {**checked(self.variables, given), INPUT: question}
        said = [say(turn.role, _filled(turn.text, self._declared(turn), values)) for turn in self.turns]
        if not any(self._declared(turn)[name].fenced for turn in self.turns for name in placeholders(turn.text)):
            return tuple(said)
        if said and said[0].role == "system":
            return (say("system", f"{said[0].text}\n\n{NOTE}"), *said[1:])
        return (say("system", NOTE), *said)

    def _declared(self, turn: Turn) -> dict[str, Variable]:
        """The client's message is a user's word in a user's turn, and data elsewhere."""
        return {**self.variables, INPUT: Variable(trusted=turn.role == "user")}

    def sampling(self, asked: Sampling) -> Sampling:
        """What the client asked for, and the defaults where it did not say."""
        missing = {
            name: value
            for name, value in structs.asdict(self.defaults).items()
            if value not in (None, ()) and getattr(asked, name) in (None, ())
        }
        return structs.replace(asked, **missing) if missing else asked


def placeholders(text: str) -> list[str]:
    """The names of a text's placeholders, in order, each once."""
    return list(dict.fromkeys(found[1] for found in _PLACEHOLDER.finditer(text) if found[1]))


def parsed(text: str) -> tuple[str, Prompt]:
    """The name that a prompt's file gives itself (often none) and what it says. Raises ModelFailure (bad_request)."""
    head, body, first = divided(text)
    front = _front(head)
    turns = tuple(Turn(role, said) for role, said, _ in spoken(body) if said)
    if not turns:
        raise _refused("the prompt says nothing: write its text below the `+++` lines")
    _check_placeholders(body, first)
    if not front.model:
        raise _refused('the prompt names no model: write `model = "…"` between two `+++` lines at its top')
    if INPUT in front.variables:
        raise _refused(f"the variable {INPUT!r} is the client's last message; call yours otherwise")
    names = [name for turn in turns for name in placeholders(turn.text) if name != INPUT]
    variables = {**front.variables, **{name: front.variables.get(name, Variable()) for name in names}}
    defaults = Defaults(**{name: getattr(front, name) for name in Defaults.__struct_fields__})
    prompt = Prompt(
        model=front.model,
        turns=turns,
        description=front.description,
        defaults=defaults,
        schema=schema_of(front.schema),
        variables=variables,
    )
    return front.name, prompt


def divided(text: str) -> tuple[str, str, int]:
    """Front matter, body, and the number of the body's first line. Raises ModelFailure where the front has no end."""
    lines = text.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    if lines[0].rstrip() != _FENCE:
        return "", "\n".join(lines), 1
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise _refused("the front matter has no end: close it with a line `+++`")
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]), end + 2


def spoken(body: str) -> list[tuple[Speaker, str, int]]:
    """Who says what, and on which line of the body (from 0) it begins. What stands before a `+++ ROLE` is system."""
    turns: list[tuple[Speaker, list[str], int]] = [("system", [], 0)]
    for number, line in enumerate(body.split("\n")):
        if found := _TURN.match(line):
            turns.append((cast("Speaker", found[1]), [], number + 1))
        elif not IGNORE.match(line):
            turns[-1][1].append(line)
    return [(role, "\n".join(lines).strip(), start) for role, lines, start in turns]


def schema_of(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """A JSON Schema from what the front matter has. Raises ModelFailure (bad_request)."""
    if not isinstance(given, str):
        return given
    try:
        found = json.loads(given)
    except ValueError as error:
        raise _refused(f"`schema` is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise _refused("`schema` must be a JSON object")
    return cast("dict[str, Any]", found)


def front_of(head: str) -> Front:
    """The front matter, read. Raises ModelFailure (bad_request)."""
    return _front(head)


def _front(head: str) -> Front:
    try:
        return msgspec.convert(tomllib.loads(head), Front)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _refused(f"the front matter cannot be read: {error}") from None


def _check_placeholders(body: str, first: int) -> None:
    for found in _PLACEHOLDER.finditer(body):
        if found[0] == "{{":
            line = first + body.count("\n", 0, found.start())
            raise _refused(f"line {line}: a placeholder is {{{{name}}}}, in small letters; for two braces write \\{{{{")


def _filled(text: str, declared: Mapping[str, Variable], values: Mapping[str, Any]) -> str:
    def value(found: "re.Match[str]") -> str:
        name = found[1]
        if not name:
            return "{{"
        start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
        alone = text[start : end if end >= 0 else len(text)].strip() == found[0]
        return written(name, declared[name], values[name], alone=alone)

    return _PLACEHOLDER.sub(value, text)


def _refused(message: str) -> ModelFailure:
    return refuse("bad_request", message, param="text", code="prompt_text")
