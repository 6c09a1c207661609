"""Bytes with a name to a Document: which formats there are, and who reads them.

Knows file name endings. Knows no folder, no database, and of the formats only the names of their modules in
`loam.grounding.formats`, which are imported when a file of their kind is read. Does no I/O but for the process that
reads what a parser may choke on.
Invariant: whatever the bytes are, the outcome is a Document or a DocumentError that says what to do.
"""

import re
from pathlib import PurePosixPath

from msgspec import Struct

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document
from loam.grounding.formats.apart import read_apart, read_here
from loam.grounding.formats.sniff import ADVICE, check_kind
from loam.grounding.formats.source import Source

CANON = "1"
"""The version of the canonical form; a change of it makes every document be taken in anew."""

_CODE = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .vue .svelte .java .kt .kts .scala .groovy .go .rs .c .h .cc .cpp .cxx .hpp "
    ".cs .swift .m .mm .rb .php .pl .pm .lua .r .jl .dart .ex .exs .erl .hs .clj .ml .zig .sh .bash .zsh .fish "
    ".ps1 .bat .sql .graphql .proto .tf .css .scss .less .yaml .yml .toml .ini .cfg .conf .properties .xml .xsd .gradle"
)
_PARSER_MAY_SQUARE = 32 * 2**10  # bytes: below, the worst HTML costs the parser about a second


class Format(Struct, frozen=True):
    """A family of files: `module` reads those with these endings.

    Files of more than `here` bytes are read in a process of their own: none by default.
    """

    kind: str
    module: str
    endings: tuple[str, ...]
    here: int = 2**63


KINDS = (
    Format("Markdown", "markup", (".md", ".markdown")),
    Format("text", "plain", (".txt", ".text", ".log", ".rst", ".tex", ".latex", ".adoc", ".asciidoc", ".org")),
    Format("HTML", "html", (".html", ".htm", ".xhtml"), here=_PARSER_MAY_SQUARE),
    Format("PDF", "pdf", (".pdf",), here=0),
    Format("Word", "word", (".docx",), here=0),
    Format("PowerPoint", "slides", (".pptx",), here=0),
    Format("Excel", "sheets", (".xlsx", ".xlsm"), here=0),
    Format("CSV", "csv_rows", (".csv", ".tsv")),
    Format("EPUB", "epub", (".epub",), here=0),
    Format("e-mail", "mail", (".eml",), here=_PARSER_MAY_SQUARE),
    Format("JSON", "json_values", (".json", ".jsonl", ".ndjson")),
    Format("source code", "code", tuple(_CODE.split())),
)
FORMATS = {ending: kind for kind in KINDS for ending in kind.endings}
_NOTHING = "there is no text in it; leave it out or give it some"
READS = ", ".join(f"{kind.kind} ({kind.endings[0]})" for kind in KINDS)
"""What Loam reads, for messages."""


def supported(name: str) -> bool:
    """Whether the name's ending is one that Loam reads."""
    return PurePosixPath(name).suffix.lower() in FORMATS


def read_document(name: str, data: bytes) -> Document:
    """Reads one file's bytes; the name's ending decides the format.

    Raises DocumentError for other formats, for bytes that are not what the ending says, and for documents without a
    word in them.
    """
    path = PurePosixPath(name)
    ending = path.suffix.lower()
    kind = FORMATS.get(ending)
    if kind is None:
        advice = ADVICE.get(ending, "save the document as one of these, or leave it out")
        raise DocumentError(
            f"{name}: files ending in {ending or 'nothing'!r} cannot be read; Loam reads {READS}; {advice}"
        )
    source = Source(name, _title_of(path), data)
    if not data.strip():
        raise source.refuse(_NOTHING)
    check_kind(source, ending)
    document = (read_here if len(data) <= kind.here else read_apart)(kind.module, source)
    if not document.sections:
        raise source.refuse(_NOTHING)
    return document


def _title_of(path: PurePosixPath) -> str:
    """`travel/going-out-of-office.md` is called "Going out of office"; an index is called like its folder."""
    stem = path.parent.name if path.stem in ("index", "README") and path.parent.name else path.stem
    words = " ".join(re.split(r"[-_\s]+", stem)).strip()
    return words[:1].upper() + words[1:] if words else path.name
