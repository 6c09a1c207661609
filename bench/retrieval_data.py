"""What is searched and what should be found: the 18F handbook with its headings as queries, SQuAD with its questions.

Every system is given the same files and cuts them in its own way, so a hit is judged by what it covers: the file, and
the headings that its stretch of the file stands under.
"""

import json
import lzma
import random
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from loam.grounding.terms import words

_SEED = 7
_ANCHOR = re.compile(r"\{#.*\}\s*$")


@dataclass(frozen=True)
class Query:
    """`heading` is empty where finding the file is all there is to find."""

    text: str
    path: str
    heading: str = ""


@dataclass(frozen=True)
class Hit:
    path: str
    headings: frozenset[str] = frozenset()

    def fits(self, query: Query) -> bool:
        return self.path == query.path and (not query.heading or query.heading in self.headings)


@dataclass(frozen=True)
class Corpus:
    """`sets` are the queries by the name they have in the table."""

    name: str
    folder: Path
    sets: dict[str, list[Query]]
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heading:
    """The stretch of a Markdown file that stands under a heading, subsections and all."""

    name: str
    start: int
    end: int


def handbook(data: Path, folder: Path) -> Corpus:
    with tarfile.open(data / "docs" / "18f-handbook.tar.gz") as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / member.name).write_bytes(file.read())
    sets: dict[str, list[Query]] = {"question headings": [], "all headings": []}
    for row in map(json.loads, (data / "docs" / "18f-handbook-queries.jsonl").read_text("utf-8").splitlines()):
        query = Query(row["query"], row["path"], folded(row["section"]))
        sets["all headings"].append(query)
        if row["kind"] == "question heading":
            sets["question headings"].append(query)
    return Corpus("18F handbook", folder, sets)


def squad(data: Path, folder: Path, *, sample: int = 600) -> Corpus:
    """One file a passage, the passages of both halves together; answerable questions only."""
    rows = {half: _rows(data / "qa" / f"squad-{half}.jsonl.xz") for half in ("val", "train")}
    folder.mkdir(parents=True)
    files: dict[str, str] = {}
    for row in (row for half in rows.values() for row in half):
        if row["context"] not in files:
            files[row["context"]] = f"passage-{len(files):04d}.txt"
            (folder / files[row["context"]]).write_text(row["context"], "utf-8")
    asked = {
        half: [Query(row["question"], files[row["context"]]) for row in found if row["answerable"]]
        for half, found in rows.items()
    }
    seen = random.Random(_SEED).sample(asked["train"], sample)
    return Corpus("SQuAD passages", folder, {"squad-val questions": asked["val"], "squad-train questions": seen})


def headings(text: str) -> list[Heading]:
    """The headings of a Markdown text as its author wrote them."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    tokens = MarkdownIt().parse(text)
    found = [
        (int(token.tag[1]), folded(_shown(tokens[place + 1])), starts[token.map[0]])
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.markup.startswith("#") and token.map
    ]
    return [
        Heading(
            name, start, next((later for upper, _, later in found[place + 1 :] if upper <= level), max(len(text), 1))
        )
        for place, (level, name, start) in enumerate(found)
    ]


def over(found: list[Heading], start: int, end: int) -> frozenset[str]:
    """The headings whose text a stretch shares."""
    return frozenset(heading.name for heading in found if heading.start < end and start < heading.end)


def folded(heading: str) -> str:
    """A heading as its words, whatever marks its author put around them."""
    return " ".join(words(_ANCHOR.sub("", heading)))


def _shown(inline: Token) -> str:
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def _rows(path: Path) -> list[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
