"""Source code, and settings that are written like it.

Knows how common languages open a function or a type, by one look at the line; parses nothing, for a parser of code is
no place for strangers' files (Python's own can be made to crash). Sections are the functions and types, named as the
code names them; what stands between two of them counts to the one before.
Invariant: every line that is not blank is in the document as it was, in order.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import Source, tidy

_BEFORE = (
    r"(?P<indent>[ \t]{0,8})(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe"
    r"|override|open|data|sealed|virtual|inline|const|extern|local|pub(?:\([\w: ]+\))?)[ \t]+)*"
)
_NAME = r"[ \t]+(?:\([^()]*\)[ \t]*)?(?P<name>[\w.:$\"`~]+)(?=[^\n]*[({:=<;]|[ \t]*$)"
_WORDS = (
    "class|function\\*?|func|fn|fun|def|sub|interface|struct|enum|trait|impl|module|namespace|object|record|protocol"
    "|message|service|defmodule|type"
)
_OPENING = re.compile(f"{_BEFORE}(?:{_WORDS}){_NAME}")
_OPENINGS: dict[str, re.Pattern[str]] = {
    ".py": re.compile(f"{_BEFORE}(?:def|class){_NAME}"),
    ".sql": re.compile(
        r"(?P<indent>)create[ \t]+(?:or[ \t]+replace[ \t]+|temp(?:orary)?[ \t]+|unique[ \t]+)*(?:table|view|function"
        r"|procedure|trigger|index|type)[ \t]+(?:if[ \t]+not[ \t]+exists[ \t]+)?(?P<name>[\w.\"`\[\]]+)",
        re.IGNORECASE,
    ),
}
"""How a function or type opens, where it is not as in `_OPENING`."""
_SETTINGS = (".css", ".scss", ".less", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".xml", ".xsd")
_C_FUNCTION = re.compile(r"(?P<indent>)[A-Za-z_][\w*&:<>, \t]*[ \t*&](?P<name>[\w~:]+)[ \t]*\([^;={}]*\)?[^;={}]*\{?$")
_C_LIKE = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".m", ".mm")
_BELONGS = re.compile(r"[ \t]*(?:[@#*]|//|/\*|--|\[)")  # comments and marks above a function are part of it
_LINE = 300  # characters: no opening is longer, and no pattern meets a line that is
_FENCE = 1200  # characters: about as much as a passage holds


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text."""
    found = decoded(source)
    writer = Writer()
    if found.remark:
        writer.remark(found.remark)
    ending = PurePosixPath(source.name).suffix.lower()
    patterns = [] if ending in _SETTINGS else [_OPENINGS.get(ending, _OPENING)]
    if ending in _C_LIKE:
        patterns.append(_C_FUNCTION)
    held: list[str] = []
    for line in found.text.split("\n"):
        opening = _opening(line, patterns)
        if opening:
            above = _above(held)
            _write(writer, held[:above])
            held = held[above:]
            writer.section(2 if opening["indent"] else 1, tidy(opening["name"]).strip(':"`'))
        held.append(line)
    _write(writer, held)
    return writer.document(source.name.rsplit("/", 1)[-1])


def _opening(line: str, patterns: list[re.Pattern[str]]) -> re.Match[str] | None:
    if len(line) > _LINE:
        return None
    return next((found for pattern in patterns if (found := pattern.match(line))), None)


def _above(lines: list[str]) -> int:
    """How many of the lines come before the comments that stand right above what is to follow."""
    count = len(lines)
    while count and _BELONGS.match(lines[count - 1]):
        count -= 1
    return count


def _write(writer: Writer, lines: list[str]) -> None:
    for stretch in _stretches(lines):
        text = "\n".join(stretch).strip("\n").rstrip()
        if text.strip():
            writer.code(text)


def _stretches(lines: list[str]) -> Iterator[list[str]]:
    """The lines in stretches that a passage can hold whole, ending at blank lines where there are some."""
    held: list[str] = []
    size = 0
    for line in lines:
        if size > _FENCE or (size > _FENCE // 2 and not line.strip()):
            yield held
            held, size = [], 0
        held.append(line)
        size += len(line) + 1
    yield held
