"""What a model says, told apart: its thoughts, its calls of tools, and text.

Knows three forms of calls: Hermes's (`<tool_call>{"name": …, "arguments": …}</tool_call>`: Qwen, Hermes, many others),
Llama 3's (the whole answer is `{"name": …, "parameters": …}`) and Mistral's (`[TOOL_CALLS] [{…}]`).
Invariant: nothing is lost: what looked like a call and is none comes out as text, letter for letter.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from msgspec import Struct

from loam.core.calls import Delta, ToolDelta
from loam.engine.stops import overlap

Form = Literal["", "hermes", "llama", "mistral"]
_BEGIN, _END = "<tool_call>", "</tool_call>"
_THINK, _THOUGHT = "<think>", "</think>"
_MISTRAL = "[TOOL_CALLS]"
_PYTHON = "<|python_tag|>"


def form_of(template: str) -> Form:
    """Which form of calls a chat template teaches its model; empty where it knows no tools, or in a form of its own."""
    if "tools" not in template:
        return ""
    if _BEGIN in template:
        return "hermes"
    if _MISTRAL in template:
        return "mistral"
    return "llama" if '"parameters"' in template or _PYTHON in template else ""


class Called(Struct, frozen=True):
    name: str
    arguments: str


def read_calls(text: str) -> list[Called] | None:
    """The calls in a JSON object or list of them; None where it is not that, to the letter."""
    calls: list[Called] = []
    for part in re.split(r"(?<=\})\s*;\s*(?=\{)", text.strip()):  # Llama separates several by semicolons
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            return None
        for entry in cast("list[Any]", value) if isinstance(value, list) else [value]:
            call = _call(entry)
            if call is None:
                return None
            calls.append(call)
    return calls or None


def _call(entry: Any) -> Called | None:
    if not isinstance(entry, dict):
        return None
    known = cast("dict[str, Any]", entry)
    name = known.get("name")
    arguments = known.get("arguments", known.get("parameters", {}))
    if not isinstance(name, str) or not name or not isinstance(arguments, dict | str):
        return None
    return Called(name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))


def call_id(answer: str, index: int) -> str:
    """An id of nine letters and digits, as Mistral's template demands; the same answer has the same."""
    return hashlib.blake2s(f"{answer}/{index}".encode()).hexdigest()[:9]


class Parts:
    """Takes an answer's text piece by piece and gives deltas of `choice`.

    `form` says which calls to look for; `thinking` that the prompt ended inside a thought; `thinks` that a thought may
    stand at the beginning. `whole` takes the entire answer for a call, as when a grammar made it one.
    """

    def __init__(
        self,
        answer: str,
        choice: int,
        *,
        form: Form = "",
        thinks: bool = False,
        thinking: bool = False,
        whole: bool = False,
    ) -> None:
        self._answer = answer
        self._choice = choice
        self._form: Form = form
        self._where: Literal["start", "thought", "text", "call", "rest"] = "text"
        if thinking:
            self._where = "thought"
        elif thinks or form == "llama":
            self._where = "start"
        if whole:
            self._where = "rest"
        self._thinks = thinks
        self._fresh = thinking  # whether line ends at the beginning of a part are still to be dropped
        self._held = ""
        self.calls = 0
        """How many calls of tools came so far."""

    def add(self, text: str) -> list[Delta]:
        self._held += text
        return [delta for delta in self._deltas() if delta != Delta(choice=self._choice)]

    def _deltas(self) -> Iterator[Delta]:
        steps = {"start": self._start, "thought": self._thought, "text": self._text, "call": self._call}
        while self._where in steps:
            before = (self._where, self._held)
            yield from steps[self._where]()
            if (self._where, self._held) == before:
                return

    def _start(self) -> Iterator[Delta]:
        """The first letters say what an answer is: a thought, a call as a whole, or text."""
        begun = self._held.lstrip()
        marks = [_THINK] if self._thinks else []
        if self._form == "llama":
            marks += [_PYTHON, "{"]
        mark = next((mark for mark in marks if begun.startswith(mark)), None)
        if mark == _THINK:
            self._where, self._held, self._fresh = "thought", begun.removeprefix(_THINK), True
        elif mark is not None:
            self._where = "rest"
        elif begun and not any(mark.startswith(begun) for mark in marks):
            self._where, self._fresh = "text", False
        yield from ()

    def _thought(self) -> Iterator[Delta]:
        inside, found = self._upto(_THOUGHT)
        yield Delta(choice=self._choice, thinking=self._trimmed(inside))
        if found:
            self._where, self._fresh = "text", True

    def _text(self) -> Iterator[Delta]:
        mark = {"hermes": _BEGIN, "mistral": _MISTRAL}.get(self._form, "")
        inside, found = self._upto(mark) if mark else (self._taken(), False)
        yield Delta(choice=self._choice, text=self._trimmed(inside) if self._fresh else inside)
        if found:
            self._where = "call" if mark == _BEGIN else "rest"
            self._held = (mark if mark != _BEGIN else "") + self._held

    def _call(self) -> Iterator[Delta]:
        place = self._held.find(_END)
        if place < 0:
            return
        inside, self._held = self._held[:place], self._held[place + len(_END) :]
        self._where, self._fresh = "text", True
        yield from self._called(read_calls(inside), instead=f"{_BEGIN}{inside}{_END}")

    def _called(self, calls: Sequence[Called] | None, *, instead: str) -> Iterator[Delta]:
        if calls is None:
            self._fresh = False
            yield Delta(choice=self._choice, text=instead)
            return
        for call in calls:
            made = ToolDelta(self.calls, call_id(self._answer, self.calls), call.name, call.arguments)
            self.calls += 1
            yield Delta(choice=self._choice, tool=made)

    @property
    def thinking(self) -> bool:
        """Whether it is in the middle of a thought."""
        return self._where == "thought"

    def end(self) -> list[Delta]:
        """What is left when nothing more comes."""
        held, self._held = self._held, ""
        if self._where == "thought":
            return [Delta(choice=self._choice, thinking=held)] if held else []
        if self._where == "rest":
            calls = read_calls(held.strip().removeprefix(_MISTRAL).removeprefix(_PYTHON))
            return list(self._called(calls, instead=held))
        text = f"{_BEGIN}{held}" if self._where == "call" else held
        return [Delta(choice=self._choice, text=text)] if text else []

    def _upto(self, mark: str) -> tuple[str, bool]:
        """What stands before a mark, taken away with the mark; or all but what may become one."""
        place = self._held.find(mark)
        if place >= 0:
            inside, self._held = self._held[:place], self._held[place + len(mark) :]
            return inside, True
        kept = overlap(self._held, mark)
        inside, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return inside, False

    def _taken(self) -> str:
        taken, self._held = self._held, ""
        return taken

    def _trimmed(self, text: str) -> str:
        """Without the line ends that templates put around thoughts and calls, which are part of neither."""
        if self._fresh:
            text = text.lstrip("\n")
            self._fresh = not text
        return text
