"""JSON in what a model wrote: all of it, in a code block, or the first value amid words; and of half a value, half.

Knows JSON and how models wrap it; knows no schema. Pure.
Invariant: what is found is JSON to the letter, as the model wrote it; nothing is mended.
"""

import re
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

_BLOCK = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_TRIES = 20  # values that are looked for amid words
_PAIRS = {"{": "}", "[": "]"}


class Found(Struct, frozen=True):
    """A JSON value, and the text that it was read from."""

    value: Any
    text: str


def json_in(text: str) -> Found | None:
    """The JSON value that a text holds; None where it holds none.

    ```python
    json_in('Here you are: {"a": 1}').text  # '{"a": 1}'
    ```
    """
    whole = _read(text)
    if whole is not None:
        return whole
    for block in _BLOCK.findall(text):
        if (found := _read(block)) is not None:
            return found
    for opened in islice(re.finditer(r"[{\[]", text), _TRIES):
        scan = _scan(text, opened.start())
        if not scan.pending and (found := _read(text[opened.start() : scan.end])) is not None:
            return found
    return None


def _read(text: str) -> Found | None:
    plain = text.strip().removeprefix("\ufeff")
    try:
        return Found(msgspec.json.decode(plain), plain)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class _Scan(Struct):
    """How far a value was read: what still has to be closed, and `whole`, where its last whole member ends."""

    pending: list[str]
    end: int
    whole: int
    in_string: bool = False
    escaped: bool = False

    def spell(self, sign: str) -> None:
        """Reads a sign of a string, or the quotes around it."""
        if self.escaped or (self.in_string and sign == "\\"):
            self.escaped = not self.escaped
        elif sign == '"':
            self.in_string = not self.in_string


def _scan(text: str, start: int) -> _Scan:
    """Reads brackets and strings from `start` until the value closes, or a bracket closes what was not open."""
    scan = _Scan([], len(text), start)
    for place in range(start, len(text)):
        sign = text[place]
        if scan.in_string or sign == '"':
            scan.spell(sign)
        elif sign in _PAIRS:
            scan.pending.append(_PAIRS[sign])
            scan.whole = place + 1
        elif sign in "]}":
            if scan.pending[-1] != sign:
                return scan
            scan.pending.pop()
            scan.whole = scan.end = place + 1
            if not scan.pending:
                return scan
        elif sign == ",":
            scan.whole = place
    return scan


def partial(text: str) -> Any:
    """As much of an unfinished value as is certain: whole members, and the text of a string so far. None: nothing yet.

    ```python
    partial('{"a": 1, "b": [2, "th')  # {"a": 1, "b": [2, "th"]}
    ```
    """
    start = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=-1)
    if start < 0:
        return None
    scan = _scan(text, start)
    closing = "".join(reversed(scan.pending))
    tries: list[str] = []
    if scan.in_string:
        tries.append(f'{_without_escape(text[start:])}"{closing}')
    elif text.endswith('"'):
        tries.append(text[start:] + closing)
    tries.append(text[start : scan.whole] + closing)
    for attempt in tries:
        try:
            return msgspec.json.decode(attempt)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
    return None


def _without_escape(text: str) -> str:
    """The text without an escape that is begun and not ended, or half of a pair of surrogates."""
    return re.sub(
        r"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?\\(?:u[0-9a-fA-F]{0,3})?$|\\u[dD][89abAB][0-9a-fA-F]{2}$", "", text
    )
