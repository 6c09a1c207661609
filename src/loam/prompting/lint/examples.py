"""The examples that a prompt shows: pairs of labelled lines, tagged blocks, arrows.

Pure. Knows how people write examples; not what makes one right. Invariant: a pair whose answer is empty is the place
for the model's answer and no example.
"""

import re

from msgspec import Struct

from loam.prompting.lint.words import WORDS

_LABEL = re.compile(r"^[ \t>*#-]*\**(?P<label>[A-Za-z][\w ]{0,24}?)(?: ?\d+)?\**:\**[ \t]*(?P<value>.*)$")
_TAGGED = re.compile(r"<(?P<tag>example|sample|shot)\b[^>]*>(?P<inner>.*?)</(?P=tag)>", re.IGNORECASE | re.DOTALL)
_ARROW = re.compile(r"^[ \t]*(?:[-*•][ \t]+)?(?P<input>\S.*?)\s*(?:->|=>|→)\s*(?P<output>\S.*)$", re.MULTILINE)

_JSON = re.compile(r"^(?:\{\s*[\"}]|\[\s*(?:[\"\d{\[\]-]|true|false|null))")
"""How a line of JSON begins, and a placeholder does not."""


class Example(Struct, frozen=True):
    """Where it stands in the text, and what it shows as the answer."""

    start: int
    end: int
    output: str


def examples(text: str) -> list[Example]:
    """Every example in a text, in order."""
    tagged = [Example(found.start(), found.end(), _output(found["inner"])) for found in _TAGGED.finditer(text)]
    if tagged:
        return tagged
    return _pairs(text) or _recurring(text) or _arrows(text)


def _output(inner: str) -> str:
    pairs = _pairs(inner)
    if pairs:
        return pairs[-1].output
    arrow = _ARROW.search(inner)
    return arrow["output"].strip() if arrow else inner.strip()


def _pairs(text: str) -> list[Example]:
    """Two labelled lines, the second one's label that of an answer; a heading between them parts them."""
    found: list[Example] = []
    opened: tuple[int, str] | None = None
    lines = text.split("\n")
    place = 0
    for number, line in enumerate(lines):
        labelled = _LABEL.match(line)
        label = labelled["label"].strip().lower() if labelled else ""
        if line.startswith("#"):
            opened = None
        elif labelled and opened and label in WORDS.answers and (label != "a" or opened[1] in ("q", "question")):
            output = _until_blank([labelled["value"], *lines[number + 1 :]])
            if output and not re.fullmatch(r"<.*>|\{\{?\w+\}?\}", output):
                end = place + len(line) + text[place + len(line) :].find(output.split("\n")[-1])
                found.append(Example(opened[0], max(end, place + len(line)), output))
            opened = None
        elif opened and _JSON.match(line) and not labelled and "\n\n" not in text[opened[0] : place]:
            output = _until_blank(lines[number:])
            found.append(Example(opened[0], place + len(output), output))
            opened = None
        elif labelled and label not in WORDS.answers and (labelled["value"].strip() or opened is None):
            opened = (place, label)
        place += len(line) + 1
    return found


def _recurring(text: str) -> list[Example]:
    """Blocks of two labelled lines under the same two labels, whatever these are called: Ticket, Department."""
    blocks: dict[tuple[str, str], list[Example]] = {}
    place = 0
    for block in re.split(r"(\n[ \t]*\n)", text):
        rows = [_LABEL.match(line) for line in block.split("\n")]
        first, second = (rows[0], rows[1]) if len(rows) == 2 else (None, None)
        if first and second and first["value"].strip() and not _slot(first["value"]) and second["value"].strip():
            pair = (first["label"].lower(), second["label"].lower())
            blocks.setdefault(pair, []).append(Example(place, place + len(block), second["value"].strip()))
        place += len(block)
    most = max(blocks.values(), key=len, default=list[Example]())
    return most if len(most) > 1 else []


def _slot(value: str) -> bool:
    return re.search(r"\{\{?[ \t]*\w+[ \t]*\}?\}", value) is not None


def _until_blank(lines: list[str]) -> str:
    """An answer's lines up to the first empty one or the next label."""
    taken: list[str] = []
    for number, line in enumerate(lines):
        if number and (not line.strip() or _LABEL.match(line)):
            break
        taken.append(line)
    return "\n".join(taken).strip()


def _arrows(text: str) -> list[Example]:
    """Lines with arrows, where a line before them speaks of examples."""
    head = re.search(r"\bexamples?\b[^\n]*:[ \t]*\n", text, re.IGNORECASE)
    if head is None:
        return []
    return [Example(f.start(), f.end(), f["output"].strip()) for f in _ARROW.finditer(text, head.end())]
