"""What is searched and what should be found: the 18F handbook with its headings as queries, passages with questions.

`TUNING` names the sets that choices were made on; the others were looked at after. Every system is given the same files
and cuts them in its own way, so a hit is judged by what it covers: the file, and the headings that its stretch of the
file stands under.
"""

import hashlib
import json
import lzma
import random
import re
import tarfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from loam.grounding.ingest import HANDBOOK
from loam.grounding.terms import words

TUNING = ("headings of one half of the files", "own questions", "squad-train", "QED", "ClapNQ")
QUESTIONS = Path(__file__).with_name("reader_questions.jsonl")
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

    def of_at_most(self, most: int) -> "Corpus":
        """The same with so many queries a set; the samples of sets that share queries share them too."""
        return replace(self, sets={name: sorted(asked, key=_draw)[:most] for name, asked in self.sets.items()})

    def only(self, names: Collection[str]) -> "Corpus":
        return replace(self, sets={name: asked for name, asked in self.sets.items() if name in names})


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
    sets: dict[str, list[Query]] = {
        "headings of the other half of the files": [],
        "question headings": [],
        "headings": [],
        TUNING[0]: [],
    }
    for row in map(json.loads, (data / "docs" / "18f-handbook-queries.jsonl").read_text("utf-8").splitlines()):
        query = Query(row["query"], row["path"], folded(row["section"]))
        sets["headings"].append(query)
        sets[TUNING[0] if _first_half(row["path"]) else "headings of the other half of the files"].append(query)
        if row["kind"] == "question heading":
            sets["question headings"].append(query)
    return Corpus("18F handbook", folder, sets)


def squad(data: Path, folder: Path, *, sample: int = 300) -> Corpus:
    """One file a passage, the passages of both halves together; answerable questions only."""
    rows = {half: _rows(data / "qa" / f"squad-{half}.jsonl.xz") for half in ("val", "train")}
    files = _written(folder, [row for found in rows.values() for row in found])
    return Corpus(
        "SQuAD passages",
        folder,
        {"squad-val": _asked(rows["val"], files), "squad-train": _sampled(_asked(rows["train"], files), sample)},
    )


def web(data: Path, folder: Path, *, sample: int = 150) -> Corpus:
    """Questions that people asked a search engine before anybody chose a passage: they share few words with it."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _WEB}
    for row in _rows(data / "qa" / "other-train.jsonl.xz"):
        if row["source"] in rows:
            rows[row["source"]].append(row)
    files = _written(folder, [row for found in rows.values() for row in found])
    return Corpus(
        "Wikipedia passages",
        folder,
        {_WEB[source]: _sampled(_asked(found, files), sample) for source, found in rows.items()},
    )


def own() -> Corpus:
    """The part of the handbook that ships with Loam, asked about in other words than its pages use."""
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    return Corpus(
        "Handbook that ships",
        HANDBOOK,
        {TUNING[1]: [Query(row["question"], row["path"]) for row in rows if row.get("path")]},
    )


_WEB = {"qed-nq-dev": "QED", "clapnq-dev": "ClapNQ"}


def _written(folder: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    """The names of the files, one a passage, by what they hold."""
    folder.mkdir(parents=True)
    files: dict[str, str] = {}
    for row in rows:
        if row["context"] not in files:
            files[row["context"]] = f"passage-{len(files):04d}.txt"
            (folder / files[row["context"]]).write_text(row["context"], "utf-8")
    return files


def _asked(rows: list[dict[str, Any]], files: dict[str, str]) -> list[Query]:
    found = [Query(row["question"], files[row["context"]]) for row in rows if row["answerable"]]
    return list(dict.fromkeys(found))


def _sampled(queries: list[Query], sample: int) -> list[Query]:
    return random.Random(_SEED).sample(queries, min(sample, len(queries)))


def _draw(query: Query) -> bytes:
    return hashlib.sha256(f"{query.text} {query.path}".encode()).digest()


def _first_half(path: str) -> bool:
    return hashlib.sha256(path.encode()).digest()[0] < 128


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
