"""How fast documents go in and are found: 10,000 passages in, once more unchanged, and searches among many.

    python -m bench.peers retrieval                              # once: the peers, in an environment of their own
    .bench/retrieval/venv/bin/python -m bench.ingest [--passages 10000] [--shelves 100000 1000000] [--write]
    .bench/retrieval/venv/bin/python -m bench.ingest --passages 200 --shelves 1000000 --keep FOLDER

Machines are shared, so each row says how many cores other programs had meanwhile; `a core` is what one whole core does:
passages by the processor time that was spent on them, however long that took. `nb8` is the default, `int8` the option
for bulk (`grounding.encoder.backend`).
"""

import argparse
import asyncio
import os
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ingest_data import BOOKS, fill, grown, shelf, write_books
from bench.measure import busy_s, table
from bench.peers import HOME, INGESTION
from loam.core.ports import SearchOptions
from loam.grounding.encoder.choice import open_encoder
from loam.grounding.encoder.port import Encoder
from loam.grounding.encoder.settings import Backend, EncoderSettings
from loam.grounding.index import Index
from loam.grounding.ingest import Progress, ingest_folder
from loam.grounding.retrieve import Retrieval
from loam.grounding.store import Change, texts_of

CACHE = HOME / "ingest"
REPORT = Path(__file__).with_name("INGEST.md")
_AGAIN = 5
_SETTLED = 2.5  # seconds: a file that is younger than two has no stamp yet
_AT_ONCE = 2000  # articles of a shelf that are stored at a time
_QUESTIONS = (
    "When was the {} built?", "Who was the first to describe the {}?", "How many people live near the {}?",
    "Why did the {} change its name?", "What is the difference between a {} and a trait?",
)  # fmt: skip
_THINGS = (
    "old harbour", "crop circle", "parental leave policy", "borrow checker", "railway bridge", "Norman castle",
    "solar eclipse", "chess opening", "time off request", "generic type", "volcanic island", "jazz festival",
    "closure", "travel card", "football club", "river delta", "performance review", "mutable reference",
    "steam engine", "butterfly species",
)  # fmt: skip


@dataclass
class Spent:
    """What something took: elapsed time, this process's processor time, and the cores that others had meanwhile."""

    wall: float = 0
    own: float = 0
    others: float = 0


@contextmanager
def spending() -> Iterator[Spent]:
    spent = Spent()
    began, own, busy = time.perf_counter(), _own(), busy_s()
    yield spent
    spent.wall, spent.own = time.perf_counter() - began, _own() - own
    spent.others = max(0.0, busy_s() - busy - spent.own) / spent.wall


def _own() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass
class Taken:
    """One way of taking a folder in, and of finding it unchanged."""

    system: str
    chunks: int
    first: Spent
    again: float
    stages: dict[str, float] = field(default_factory=dict)

    def row(self, characters: int) -> list[str]:
        first = self.first
        return [
            self.system,
            f"{self.chunks:,}",
            f"{first.wall:.1f}",
            f"{self.chunks / first.wall:.1f}",
            f"{self.chunks / first.own:.1f}",
            f"{characters / first.own / 1000:.0f}",
            f"{first.others:.2f}",
            f"{self.again:.3f}",
            f"{first.wall / self.again:,.0f}",
        ]


_HEAD = ["system", "chunks", "s", "chunks/s", "chunks/s a core", "kB/s a core", "cores of others", "again s", "again ×"]


def encoder_of(backend: Backend) -> Encoder:
    opened = open_encoder(EncoderSettings(backend=backend), CACHE)
    if opened.encoder is None:
        raise SystemExit(opened.notice)
    return opened.encoder


async def loam(folder: Path, file: Path, backend: Backend) -> Taken:
    encoder = encoder_of(backend)
    await encoder.embed(["open the weights"])
    index = await Index.open(file)
    seen: list[tuple[str, float]] = []

    def tell(progress: Progress) -> None:
        if not seen or seen[-1][0] != progress.stage:
            seen.append((progress.stage, time.perf_counter()))

    with spending() as first:
        began = time.perf_counter()
        report = await ingest_folder(index, "all", folder, encoder=encoder, on_progress=tell)
        ended = time.perf_counter()
    marks = [began, *(at for _, at in seen[1:]), ended]
    stages = {name: after - before for (name, _), before, after in zip(seen, marks, marks[1:], strict=False)}
    times: list[float] = []
    for _ in range(_AGAIN):
        with spending() as again:
            unchanged = await ingest_folder(index, "all", folder, encoder=encoder)
        assert (unchanged.added, unchanged.changed, unchanged.removed) == (0, 0, 0)
        times.append(again.wall)
    await index.close()
    return Taken(f"Loam, {backend}", report.collection.passages, first, min(times), stages)


def peer(folder: Path, place: Path, *, tokens: int) -> Taken:
    peers: Any = import_module("bench.ingest_peers")  # only where they are installed
    pipeline = peers.opened(folder, place, encoder_of("nb8"), tokens=tokens)
    with spending() as first:
        pipeline.run()
    chunks = pipeline.chunks
    with spending() as again:
        pipeline.run()
    name = "LlamaIndex's cuts" if tokens == 1024 else f"cut at {tokens} tokens"
    return Taken(f"LlamaIndex + Chroma, nb8, {name}", chunks, first, again.wall)


@dataclass(frozen=True)
class Known:
    """An encoder that has read the questions before: what is measured is all that is beyond it."""

    inner: Encoder
    known: dict[str, NDArray[np.float32]]

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def size(self) -> int:
        return self.inner.size

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.known[text] for text in texts])


async def searched(data: Path, place: Path, passages: int, real: NDArray[np.float32]) -> list[list[str]]:
    """Fills a collection with so many passages and grown vectors, then asks it."""
    encoder = encoder_of("nb8")
    questions = [form.format(thing) for form in _QUESTIONS for thing in _THINGS]
    known = Known(encoder, dict(zip(questions, await encoder.embed(questions), strict=True)))
    file = place / f"shelf-{passages}.db"
    index = await Index.open(file)
    with spending() as filling:
        held = await _filled(index, data, passages, real, encoder.id)
    retrieval = Retrieval(index, known)
    with spending() as opening:
        while (await retrieval.look("all", questions[0], 10)).notes:
            await asyncio.sleep(1)
    rows: list[list[str]] = []
    for mode in ("lexical", "dense", "hybrid"):
        options = SearchOptions(mode)
        times: list[float] = []
        with spending() as spent:
            for question in questions * 2:
                began = time.perf_counter()
                found = await retrieval.look("all", question, 10, options=options)
                times.append(1000 * (time.perf_counter() - began))
                assert len(found.passages) == 10
        steps = statistics.quantiles(times, n=20)
        rows.append([f"{held:,}", mode, f"{steps[9]:.1f}", f"{steps[18]:.1f}", f"{spent.others:.2f}"])
    await index.close()
    rows[-1] += [f"{filling.wall:.0f}", f"{opening.wall:.1f}", f"{file.stat().st_size / 2**20:,.0f}"]
    return [row + [""] * (len(_SEARCHED) - len(row)) for row in rows]


_SEARCHED = ["passages", "search", "p50 ms", "p95 ms", "cores of others", "filled in s", "ready in s", "file MiB"]


async def _filled(index: Index, data: Path, passages: int, real: NDArray[np.float32], encoder: str) -> int:
    kept = {one.name: one.passages for one in await index.collections()}.get("all", 0)
    if kept >= passages:
        return kept
    source, held = shelf(data), 0
    while held < passages:
        taken = list(islice(source, _AT_ONCE))
        digests = list(dict.fromkeys(text.digest for one in taken for text in texts_of(one)))
        await index.stage(encoder, digests, grown(real, len(digests), seed=held))
        held = (await index.apply("all", Change("shelf", taken, encoder=encoder))).passages
    return held


def vectors_in(file: Path) -> NDArray[np.float32]:
    """What the encoder made of the passages in an index."""
    connection = sqlite3.connect(file)
    found = [row[0] for row in connection.execute("SELECT vector FROM vectors")]
    connection.close()
    return np.frombuffer(b"".join(found), np.float16).astype(np.float32).reshape(len(found), -1)


class Report:
    """What is printed, and written part by part, so that a run that is broken off leaves what it found."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lines: list[str] = []

    def add(self, *lines: str) -> None:
        self._lines += [*lines, ""]
        print("\n".join([*lines, ""]), flush=True)
        if self._file:
            told = self._file.read_text("utf-8").partition(PRINTED)[0] if self._file.exists() else ""
            self._file.write_text("\n".join([told + PRINTED, "", *self._lines]), "utf-8")


async def run(data: Path, place: Path, shelved: Path, *, passages: int, shelves: Sequence[int], report: Report) -> None:
    handbook, whole = place / "handbook", place / "whole"
    write_books(data, handbook, BOOKS[:1])
    await asyncio.sleep(_SETTLED)
    if not passages:
        await _beside(handbook, place, report)
        return
    write_books(data, whole)
    fill(data, whole, passages)
    await asyncio.sleep(_SETTLED)
    characters = _size(whole)
    report.add(
        f"{os.cpu_count()} cores. Encoder: all-MiniLM-L6-v2, at most two threads. Peers: {', '.join(INGESTION)}.",
        "",
        f"## {sum(path.is_file() for path in whole.rglob('*')):,} files, {characters / 1e6:.1f} MB",
    )
    taken = [await loam(whole, place / f"{backend}.db", backend) for backend in ("nb8", "int8")]
    stages = ["reading", "embedding", "storing"]
    split = [[one.system, *(f"{one.stages.get(stage, 0):.1f}" for stage in stages)] for one in taken]
    report.add(table(_HEAD, [one.row(characters) for one in taken]), "", table(["seconds of which", *stages], split))
    real = vectors_in(place / "nb8.db")
    for size in shelves[:1]:
        report.add("## Searches beyond the encoder", "", table(_SEARCHED, await searched(data, shelved, size, real)))
    await _beside(handbook, place, report)
    for size in shelves[1:]:
        report.add(table(_SEARCHED, await searched(data, shelved, size, real)))


async def _beside(handbook: Path, place: Path, report: Report) -> None:
    """The peers, where they are installed, on the files that people wrote as files."""
    rows = [await loam(handbook, place / "handbook.db", "nb8")]
    if find_spec("llama_index") is not None:
        rows += [await asyncio.to_thread(peer, handbook, place / f"chroma-{size}", tokens=size) for size in (256, 1024)]
    told = [row.row(_size(handbook)) for row in rows]
    report.add("## The 18F handbook alone, beside LlamaIndex with Chroma", "", table(_HEAD, told))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HOME.parent.parent / "shared" / "data")
    parser.add_argument("--passages", type=int, default=10_000, help="0 for the comparison with the peers alone")
    parser.add_argument("--shelves", type=int, nargs="*", default=[100_000])
    parser.add_argument("--keep", type=Path, help="a folder that shelves are kept in, and found again")
    parser.add_argument("--write", action="store_true", help=f"put the tables under the first lines of {REPORT.name}")
    chosen: Any = parser.parse_args()
    report = Report(REPORT if chosen.write else None)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # not below .bench: LlamaIndex leaves hidden folders out
        kept = chosen.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        sizes = {"passages": chosen.passages, "shelves": chosen.shelves}
        asyncio.run(run(chosen.data, Path(folder), kept, **sizes, report=report))


PRINTED = "<!-- Printed by `python -m bench.ingest`; change the program, not what follows. -->"


if __name__ == "__main__":
    main()
