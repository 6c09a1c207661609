"""A prompt as the linter sees it: who says what on which line, where variables and examples stand, which schema holds.

Pure. Knows Loam's prompt files, plain templates of other tools ({{x}}, {x}, ${x}) and OpenAI-style messages as JSON.
Does not judge. Invariant: every line it names exists in the text it was made from.
"""

import json
import re
from functools import cached_property
from typing import Any, cast

from msgspec import Struct

from loam.core.errors import ModelFailure
from loam.prompting.lint.examples import Example, examples
from loam.prompting.lint.sentences import Sentence, sentences
from loam.prompting.lint.words import WORDS
from loam.prompting.prompts import IGNORE, Front, divided, front_of, schema_of, spoken
from loam.prompting.variables import Variable

_SLOT = re.compile(
    r"\{\{\{?[ \t]*(?P<double>[A-Za-z_][\w.]*)[ \t]*\}\}\}?|\$\{(?P<shell>[A-Za-z_]\w*)\}|"
    r"(?<![{$\w\"'])\{(?P<single>[A-Za-z_]\w*(?:\.\w+|\[[^\[\]{}\n]*\]|\(\))*)\}(?!\})|<<(?P<angle>[A-Za-z_]\w*)>>"
)
_YAML = re.compile(r"\A---[ \t]*\n(?:[\w.-]+[ \t]*:.*\n|[ \t-].*\n)*?---[ \t]*\n")


class Slot(Struct, frozen=True):
    """A placeholder: `start` and `end` in its passage's text, `line` in the file."""

    name: str
    start: int
    end: int
    line: int


class Passage(Struct, frozen=True, dict=True):
    """What one role says. `told` says whether it is an instruction of the prompt's author."""

    role: str
    text: str
    line: int
    told: bool = True
    flat: bool = False
    """Whether its line breaks are written as \\n, so that all of it stands on one line of the file."""

    def at(self, offset: int) -> int:
        """The file's line of a character."""
        return self.line if self.flat else self.line + self.text.count("\n", 0, offset)

    @cached_property
    def slots(self) -> list[Slot]:
        return [
            Slot(next(name for name in found.groups() if name), found.start(), found.end(), self.at(found.start()))
            for found in _SLOT.finditer(self.text)
        ]

    @cached_property
    def examples(self) -> list[Example]:
        return examples(self.text)

    @cached_property
    def prose(self) -> str:
        """The text with its examples blanked out, character for character."""
        pieces: list[str] = []
        place = 0
        for one in self.examples:
            pieces += [self.text[place : one.start], re.sub(r"[^\n]", " ", self.text[one.start : one.end])]
            place = max(place, one.end)
        return "".join([*pieces, self.text[place:]])

    def sentences(self) -> list[Sentence]:
        """The author's own, their lines counted in the file."""
        return [Sentence(one.text, self.line if self.flat else self.line + one.line) for one in sentences(self.prose)]


class Ignore(Struct, frozen=True):
    """A comment that silences rules on its line and the next."""

    line: int
    rules: tuple[str, ...]
    reason: str


class Sheet(Struct, frozen=True, kw_only=True, dict=True):
    """`declared` are a Loam file's variables, `None` elsewhere; `finished`: messages that will be sent as they are."""

    passages: tuple[Passage, ...]
    schema: dict[str, Any] | None = None
    json_mode: bool = False
    declared: dict[str, Variable] | None = None
    finished: bool = False
    ignores: tuple[Ignore, ...] = ()
    problem: str = ""

    @property
    def told(self) -> list[Passage]:
        return [passage for passage in self.passages if passage.told]

    @cached_property
    def sentences(self) -> list[Sentence]:
        return [sentence for passage in self.told for sentence in passage.sentences()]

    @cached_property
    def examples(self) -> list[tuple[Passage, Example]]:
        return [(passage, example) for passage in self.told for example in passage.examples]

    @cached_property
    def english(self) -> bool:
        """Whether the instructions are in English, or too few words to tell."""
        words = re.findall(r"[^\W\d_]+", self.text.lower())
        ours, theirs = (sum(word in few for word in words) for few in (WORDS.english, WORDS.foreign))
        other = sum(ord(word[0]) > 0x24F for word in words)  # letters beyond the Latin ones
        return not (theirs >= 3 and theirs > ours) and other * 2 <= len(words)

    @cached_property
    def text(self) -> str:
        """All instructions, without their examples."""
        return "\n\n".join(passage.prose for passage in self.told)


def sheet(text: str) -> Sheet:
    """Reads a prompt of any known form; what cannot be read is one passage and a `problem`."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        found = _messages(text)
        if found is not None:
            return found
    if text.startswith("+++"):
        return _own(text)
    lines = text.split("\n")
    head = _YAML.match(text)
    skip = text.count("\n", 0, head.end()) if head else 0
    said = _without_comments(lines[skip:])
    return Sheet(passages=(Passage("system", said, skip + 1),), schema=_written_schema(said), ignores=_ignores(lines))


def _own(text: str) -> Sheet:
    """A file with Loam's front matter."""
    lines = text.split("\n")
    try:
        head, body, first = divided(text)
        front: Front = front_of(head)
        schema = schema_of(front.schema)
    except ModelFailure as error:
        return Sheet(passages=(Passage("system", text, 1),), problem=str(error), ignores=_ignores(lines))
    passages: list[Passage] = []
    rows = body.split("\n")
    starts = [start for _, _, start in spoken(body)]
    for (role, said, start), end in zip(spoken(body), [*(start - 1 for start in starts[1:]), len(rows)], strict=True):
        if said:
            passages.append(Passage(role, _without_comments(rows[start:end]), first + start))
    schema = schema if schema is not None else _written_schema(body)
    return Sheet(passages=tuple(passages), schema=schema, declared=front.variables, ignores=_ignores(lines))


def _written_schema(text: str) -> dict[str, Any] | None:
    """A JSON Schema of an object that stands in the text on lines of its own."""
    for found in re.finditer(r"^[ \t]*(?=\{)", text, re.MULTILINE):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(cast("dict[str, Any]", value).get("properties"), dict):
            return cast("dict[str, Any]", value)
    return None


def _without_comments(lines: list[str]) -> str:
    """The lines, with those for the linter left empty so that every other keeps its number."""
    return "\n".join("" if IGNORE.match(line) else line for line in lines)


def _ignores(lines: list[str]) -> tuple[Ignore, ...]:
    found: list[Ignore] = []
    for number, line in enumerate(lines, 1):
        if comment := IGNORE.match(line):
            rules, _, reason = comment[1].strip().partition(":")
            names = tuple(name for name in re.split(r"[,\s]+", rules.strip()) if name)
            found.append(Ignore(number, names, reason.strip()))
    return tuple(found)


def _messages(text: str) -> Sheet | None:
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    body = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    listed = cast("list[Any]", given if isinstance(given, list) else body.get("messages") or [])
    messages = [cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)]
    if not messages or "role" not in messages[0]:
        return None
    opens = "system" in body or any(one.get("role") in ("system", "developer") for one in messages)
    passages: list[Passage] = []
    given_system = body.get("system")
    if isinstance(given_system, str):
        passages.append(Passage("system", given_system, _line_of(text, given_system), flat=True))
    for number, one in enumerate(messages):
        role, said = str(one.get("role")), _said(one.get("content"))
        told = role in ("system", "developer") or (not opens and number == 0)
        passages.append(Passage(role, said, _line_of(text, said), told=told, flat=True))
    form = _object(body.get("response_format"))
    return Sheet(
        passages=tuple(passages),
        schema=_object(_object(form.get("json_schema")).get("schema")) or None,
        json_mode=form.get("type") == "json_object",
        finished=True,
    )


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _said(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Any]", content if isinstance(content, list) else [])
    return "\n".join(str(cast("dict[str, Any]", part).get("text", "")) for part in parts if isinstance(part, dict))


def _line_of(text: str, said: str) -> int:
    """The line of a JSON file on which a string stands; the first where it cannot be found."""
    places = (text.find(json.dumps(said, ensure_ascii=ascii_only)) for ascii_only in (False, True))
    return text.count("\n", 0, max(0, *places)) + 1
