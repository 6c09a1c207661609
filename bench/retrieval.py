"""How well passages are found: Loam's ways of searching beside LlamaIndex's and Chroma's defaults, on one encoder.

    python -m bench.peers retrieval                                # once: the peers, in an environment of their own
    .bench/retrieval/venv/bin/python -m bench.retrieval [--data ../shared/data] [--write bench/RETRIEVAL.md]

All are given the same files and the same fp32 MiniLM; vectors are kept in `.bench/`, so times are without the encoder.
Headings as queries flatter every word search, for they stand in the text. The shipped heads were trained on
squad-train and never saw squad-val.
"""

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.peers import HOME, RETRIEVAL
from bench.retrieval_data import Corpus, Hit, Query, handbook, squad
from bench.retrieval_peers import Chroma, LlamaIndex, Waiting, hit
from loam.core.ports import SearchOptions
from loam.evaluation.ranking import RankingScores, summary
from loam.grounding.encoder.encoder import LocalEncoder
from loam.grounding.encoder.passes import Source
from loam.grounding.encoder.port import Encoder, Heads
from loam.grounding.encoder.weights import find_minilm
from loam.grounding.encoder.worker import Worker
from loam.grounding.index import Index
from loam.grounding.ingest import ingest_folder
from loam.grounding.retrieve import Retrieval
from loam.grounding.store import Store

K = 10
RERANK = 30  # candidates that the heads read
CACHE = HOME / "retrieval"
_DEEP = 60  # hits asked for, so that ten different files are among them


class System(Protocol):
    name: str

    async def search(self, question: str, limit: int) -> list[Hit]: ...


class Remembering:
    """An encoder that keeps what it once made in a file, by the text's hash."""

    def __init__(self, inner: Encoder, file: Path) -> None:
        self._inner = inner
        self._file = file
        kept = np.load(file) if file.exists() else {"keys": np.zeros(0, "S32"), "vectors": np.zeros((0, inner.size))}
        self._known = dict(zip(kept["keys"].tolist(), kept["vectors"].astype(np.float32), strict=True))

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def size(self) -> int:
        return self._inner.size

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(f"{self.id}\n{text}".encode()).hexdigest()[:32].encode() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            made = await self._inner.embed(list(missing.values()))
            self._known.update(zip(missing, made, strict=True))
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, self.size), np.float32)

    def save(self) -> None:
        np.savez(self._file, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))


@dataclass(frozen=True)
class Row:
    """`file` scores the list of different files, `section` the list of hits by whether they hold the right section."""

    system: str
    file: RankingScores
    section: RankingScores | None
    gains: list[float]
    p50_ms: float


async def measured(system: System, queries: list[Query]) -> Row:
    files: list[tuple[list[str], set[str]]] = []
    sections: list[tuple[list[str], set[str]]] = []
    times: list[float] = []
    for query in queries:
        started = time.perf_counter()
        await system.search(query.text, K)
        times.append(time.perf_counter() - started)
        hits = await system.search(query.text, _DEEP)
        files.append((list(dict.fromkeys(hit.path for hit in hits)), {query.path}))
        sections.append((["right" if hit.fits(query) else str(place) for place, hit in enumerate(hits)], {"right"}))
    headed = any(query.heading for query in queries)
    judged = sections if headed else files
    return Row(
        system.name,
        summary(files, K),
        summary(sections, K) if headed else None,
        [summary([one], K).ndcg for one in judged],
        1000 * statistics.median(times),
    )


def interval(ahead: list[float], behind: list[float]) -> str:
    """95 % of the paired bootstrap of the difference in nDCG@10."""
    gaps = np.array(ahead) - np.array(behind)
    means = np.random.default_rng(1).choice(gaps, (2000, len(gaps))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{gaps.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def table(rows: list[Row]) -> list[list[str]]:
    ours = rows[-1]
    lines = [["system", *(f"{score} file" for score in _SCORES), *(_SCORES if ours.section else ()), _AHEAD, _TIME]]
    for row in rows:
        scores = [row.file, row.section] if row.section else [row.file]
        figures = [f"{figure:.3f}" for score in scores for figure in (score.ndcg, score.recall)]
        lines.append(
            [row.system, *figures, "" if row is ours else interval(ours.gains, row.gains), f"{row.p50_ms:.1f}"]
        )
    return lines


_SCORES = (f"nDCG@{K}", f"recall@{K}")
_AHEAD = "the last row's nDCG is ahead by (95 %)"
_TIME = "p50 ms, encoder aside"


class Loam:
    """One way of searching a collection."""

    def __init__(self, name: str, retrieval: Retrieval, options: SearchOptions) -> None:
        self.name = f"Loam, {name}"
        self._retrieval = retrieval
        self._options = options

    async def search(self, question: str, limit: int) -> list[Hit]:
        found = await self._retrieval.search("all", question, limit, options=self._options)
        return [hit(passage.url, passage.title, passage.section) for passage in found]


def ways(store: Store, encoder: Encoder, heads: Heads | None) -> list[System]:
    retrieval = Retrieval(store, encoder, heads)
    found: list[System] = [
        Loam("BM25", retrieval, SearchOptions("lexical")),
        Loam("dense", retrieval, SearchOptions("dense")),
        Loam("hybrid", retrieval, SearchOptions("hybrid")),
    ]
    return [*found, Loam("hybrid + rerank", retrieval, SearchOptions("hybrid", rerank=RERANK))] if heads else found


async def compared(corpus: Corpus, place: Path, encoder: Encoder, heads: Heads | None) -> dict[str, list[Row]]:
    """Every system over a corpus; Loam's last way is the last row."""
    index = await Index.open(place / f"{corpus.folder.name}.db")
    await ingest_folder(index, "all", corpus.folder, encoder=encoder)
    passages = [
        passage
        for entry in await index.documents("all", limit=100_000)
        for passage in await index.passages("all", entry.id)
    ]
    waiting = Waiting(encoder)
    systems = [
        LlamaIndex(corpus.folder, waiting),
        Chroma(passages, waiting, with_headings=False),
        Chroma(passages, waiting, with_headings=True),
        *ways(index, encoder, heads),
    ]
    rows = {name: [await measured(system, queries) for system in systems] for name, queries in corpus.sets.items()}
    await index.close()
    return rows


async def run(data: Path, place: Path) -> list[str]:
    worker = Worker()
    source = Source(weights=find_minilm(place), cache=CACHE, backend="fp32")
    encoder = Remembering(LocalEncoder(source, worker), CACHE / "vectors.npz")
    lines = [f"Encoder: `{encoder.id}`. Peers: {', '.join(RETRIEVAL)}.", ""]
    for corpus in (handbook(data, place / "handbook"), squad(data, place / "squad")):
        for name, rows in (await compared(corpus, place, encoder, None)).items():
            lines += [f"## {corpus.name}: {len(rows[0].gains)} {name}", "", *markdown(table(rows)), ""]
            print("\n".join(lines[-len(rows) - 5 :]), flush=True)
        encoder.save()
    worker.close()
    return lines


def markdown(rows: list[list[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{' --- |' * len(rows[0])}", *body]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent.parent / "shared" / "data")
    parser.add_argument("--write", type=Path, help="put the tables under the first lines of this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = asyncio.run(run(chosen.data, Path(folder)))
    if chosen.write:
        told = chosen.write.read_text("utf-8").partition(PRINTED)[0] if chosen.write.exists() else ""
        chosen.write.write_text("\n".join([told + PRINTED, "", *lines]), "utf-8")


PRINTED = "<!-- Printed by `python -m bench.retrieval`; change the program, not what follows. -->"


if __name__ == "__main__":
    main()
