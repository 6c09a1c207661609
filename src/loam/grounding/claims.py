"""A model's answer, as it comes in, to sentences with the numbers that they cite.

Pure. Knows the two shapes that `loam.grounding.prompt` asks for: text with `[3.2]` marks, and JSON.
Invariant: feeding an answer piece by piece gives the same claims as feeding it whole.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from loam.grounding.sentences import sentences

_ID = r"\d{1,3}(?:\.\d{1,4})?"
_MARK = re.compile(rf"[ \t]*[\[【]\s*({_ID}(?:\s*[,;]\s*{_ID})*)\s*[\]】]")
_OPEN_MARK = re.compile(r"[ \t]*(?:[\[【][\d\s.,;]*)?\Z")
_DRESS = re.compile(r"\s*(?:[-*•+|]|\d{1,3}[.)]|`{3,}[a-z]{0,10})?\s*")
_BLANK = re.compile(r"\S+")
_NOTHING = " \t\r\n\"'“”‘’([*_-•|>`#"


class Claim(Struct, frozen=True):
    """One sentence of an answer. `shown` is `text` with its list marker or bars, `lead` the white space before it."""

    text: str
    shown: str
    lead: str
    cites: tuple[str, ...]
    whole: bool = True
    """Whether the sentence had ended; False for the rest of an answer that broke off."""


class Marked:
    """Takes text with marks; gives each sentence as soon as the next one begins."""

    def __init__(self) -> None:
        self._raw = ""

    def feed(self, text: str) -> list[Claim]:
        self._raw += text
        hold = _OPEN_MARK.search(self._raw)
        return self._taken(hold.start() if hold else len(self._raw), last=False)

    def end(self) -> list[Claim]:
        return self._taken(len(self._raw), last=True)

    def _taken(self, until: int, *, last: bool) -> list[Claim]:
        plain = _unmarked(self._raw[:until])
        found = list(sentences(plain.text))
        undecided = 0 if last or not found else 1 if _begun(plain.text, found[-1].start) else 2
        complete = found[: max(0, len(found) - undecided)]
        claims: list[Claim] = []
        position = 0
        for sentence in complete:
            start = sentence.outer_start
            end = start + len(plain.text[start : sentence.outer_end].rstrip())
            marks = (mark for mark in plain.marks if mark.belongs(plain.text, position, end))
            cites = tuple(dict.fromkeys(id for mark in marks for id in mark.ids))
            said, lead = plain.text[sentence.start : sentence.end], _BLANK.sub("", plain.text[position:start])
            shown = _dressed(plain.text[start:end], said)
            claims.append(Claim(said, shown, lead, cites, whole=_ended(plain.text, end)))
            position = end
        if claims:
            self._raw = self._raw[plain.raw(position) :]
        return claims


class _Mark(Struct, frozen=True):
    """Numbers that stood at `place` of the text without marks; `size` letters were cut out there."""

    place: int
    size: int
    ids: tuple[str, ...]

    def belongs(self, text: str, start: int, end: int) -> bool:
        """Whether the mark is one of the sentence whose lead begins at `start`: behind it, or before it on its line."""
        leads = self.place == 0 or text[self.place - 1] == "\n"
        if leads and not text[self.place : self.place + 1].strip("\n"):
            leads = False
        return start <= self.place < end if leads else start < self.place <= end


class _Plain(Struct, frozen=True):
    text: str
    marks: list[_Mark]

    def raw(self, place: int) -> int:
        """Where `place` was before the marks were cut out; marks at the place itself are behind it."""
        return place + sum(mark.size for mark in self.marks if mark.place <= place)


def _unmarked(raw: str) -> _Plain:
    parts: list[str] = []
    marks: list[_Mark] = []
    length = position = 0
    for match in _MARK.finditer(raw):
        parts.append(raw[position : match.start()])
        length += match.start() - position
        marks.append(_Mark(length, len(match.group()), tuple(re.findall(_ID, match[1]))))
        position = match.end()
    return _Plain("".join([*parts, raw[position:]]), marks)


def _dressed(outer: str, said: str) -> str:
    """The sentence with what stands around it, if that is a marker, bars or a fence and no word in disguise."""
    before, _, after = outer.partition(said)
    return outer if _DRESS.fullmatch(before) and _DRESS.fullmatch(after) else said


def _begun(text: str, start: int) -> bool:
    """Whether enough of a sentence is there to know that it is one."""
    return bool(text[start:].lstrip(_NOTHING))


def _ended(text: str, end: int) -> bool:
    return (
        text[:end].rstrip("\"'”’)]*_ ").endswith((".", "!", "?", ":", "…", "。", "！", "？", "|", "`"))
        or "\n" in text[end:]
    )


class _Said(Struct):
    text: str
    cites: list[str] = []


class Listed:
    """Takes `{"sentences": [{"text", "cites"}]}`; gives each text's sentences as soon as its object is whole."""

    def __init__(self) -> None:
        self._object = ""
        self._depth = 0
        self._quoted = self._escaped = False
        self._any = False
        self.broken = 0
        """Objects that were none of this shape."""

    def feed(self, text: str) -> list[Claim]:
        return [claim for letter in text for claim in self._letter(letter)]

    def end(self) -> list[Claim]:
        self.broken += bool(self._object)
        return []

    def _letter(self, letter: str) -> Sequence[Claim]:
        if self._depth >= 2:
            self._object += letter
        if self._quoted:
            self._escaped, self._quoted = letter == "\\" and not self._escaped, letter != '"' or self._escaped
            return ()
        if letter == '"':
            self._quoted = True
        elif letter == "{":
            self._depth += 1
            self._object = letter if self._depth == 2 else self._object
        elif letter == "}":
            self._depth -= 1
            if self._depth == 1:
                return self._claims()
        return ()

    def _claims(self) -> list[Claim]:
        said, self._object = self._object, ""
        try:
            one = msgspec.json.decode(said, type=_Said)
        except (msgspec.MsgspecError, UnicodeError):
            self.broken += 1
            return []
        marked = Marked()
        claims = [*marked.feed(one.text), *marked.end()]
        claims = [
            msgspec.structs.replace(claim, cites=tuple(dict.fromkeys((*claim.cites, *one.cites))), whole=True)
            for claim in claims
        ]
        if claims and self._any:
            claims[0] = msgspec.structs.replace(claims[0], lead=claims[0].lead or " ")
        self._any = self._any or bool(claims)
        return claims


class Claims:
    """Takes an answer in either shape: one that begins with a brace is JSON."""

    def __init__(self) -> None:
        self._start = ""
        self._reader: Marked | Listed | None = None

    def feed(self, text: str) -> list[Claim]:
        if self._reader is not None:
            return self._reader.feed(text)
        self._start += text
        begun = self._start.lstrip()
        if not begun or (begun.startswith("`") and len(begun) < len("```json {")):
            return []
        self._reader = Listed() if begun.removeprefix("```json").lstrip().startswith("{") else Marked()
        return self._reader.feed(self._start)

    def end(self) -> list[Claim]:
        reader = self._reader or Marked()
        early = reader.feed(self._start) if self._reader is None else []
        return [*early, *reader.end()]
