"""How well passages are found: Loam's ways of searching beside LlamaIndex's and Chroma's defaults, on one encoder.

    python -m bench.peers retrieval                                # once: the peers, in an environment of their own
    .bench/retrieval/venv/bin/python -m bench.retrieval [--data ../shared/data] [--heads FOLDER] [--write FILE]

All are given the same files and the same fp32 MiniLM; vectors and readings are kept in `.bench/`, so times are without
encoder and heads. Headings as queries flatter every word search, for they stand in the text.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.peers import HOME, RETRIEVAL
from bench.retrieval_data import TUNING, Corpus, Hit, Query, handbook, own, squad, web
from bench.retrieval_kept import RememberingEncoder, RememberingHeads
from bench.retrieval_peers import Chroma, LlamaIndex, Waiting, hit
from loam.core.ports import SearchOptions
from loam.evaluation.ranking import RankingScores, summary
from loam.grounding.encoder import adapter
from loam.grounding.encoder.encoder import LocalEncoder
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.opening import HEADS
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.port import Encoder, Heads
from loam.grounding.encoder.weights import find_minilm
from loam.grounding.ground import GroundSettings
from loam.grounding.index import Index
from loam.grounding.ingest import ingest_folder
from loam.grounding.retrieve import Retrieval
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import Store

K = 10
RERANK = GroundSettings().rerank
CACHE = HOME / "retrieval"
_DEEP = 60  # hits asked for, so that ten different files are among them


class System(Protocol):
    name: str

    async def search(self, question: str, limit: int) -> list[Hit]: ...


@dataclass(frozen=True)
class Outcome:
    """What a system found: different files, and which hits hold the right section; and how long it took."""

    files: list[str]
    sections: list[str]
    seconds: float


@dataclass(frozen=True)
class Row:
    """`file` scores the list of different files, `section` the list of hits by whether they hold the right section."""

    system: str
    file: RankingScores
    section: RankingScores | None
    gains: list[float]
    p50_ms: float


async def searched(system: System, queries: Sequence[Query]) -> dict[Query, Outcome]:
    found: dict[Query, Outcome] = {}
    for query in queries:
        started = time.perf_counter()
        await system.search(query.text, K)
        seconds = time.perf_counter() - started
        hits = await system.search(query.text, _DEEP)
        sections = [_RIGHT if hit.fits(query) else str(place) for place, hit in enumerate(hits)]
        found[query] = Outcome(list(dict.fromkeys(hit.path for hit in hits)), sections, seconds)
    return found


def row(name: str, found: dict[Query, Outcome], queries: Sequence[Query]) -> Row:
    files = [(found[query].files, {query.path}) for query in queries]
    sections = [(found[query].sections, {_RIGHT}) for query in queries]
    headed = any(query.heading for query in queries)
    return Row(
        name,
        summary(files, K),
        summary(sections, K) if headed else None,
        [summary([one], K).ndcg for one in (sections if headed else files)],
        1000 * statistics.median(found[query].seconds for query in queries),
    )


_RIGHT = "right"


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
_TIME = "p50 ms, models aside"


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
    by_scores, by_ranks = Retrieval(store, encoder, heads), Retrieval(store, encoder, settings=RANKS)
    found: list[System] = [
        Loam("BM25", by_scores, SearchOptions("lexical")),
        Loam("dense", by_scores, SearchOptions("dense")),
        Loam("hybrid by ranks (RRF)", by_ranks, SearchOptions("hybrid")),
        Loam("hybrid", by_scores, SearchOptions("hybrid")),
    ]
    return [*found, Loam("hybrid + rerank", by_scores, SearchOptions("hybrid", rerank=RERANK))] if heads else found


RANKS = SearchSettings(fusion="ranks", phrases=0)


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
    every = list(dict.fromkeys(query for queries in corpus.sets.values() for query in queries))
    found = {system.name: await searched(system, every) for system in systems}
    await index.close()
    return {
        name: [row(system, outcomes, queries) for system, outcomes in found.items()]
        for name, queries in corpus.sets.items()
    }


CORPORA = ("handbook", "own", "squad", "web")


def corpora(data: Path, place: Path, names: Sequence[str] = CORPORA) -> Iterator[Corpus]:
    made = {"handbook": handbook, "squad": squad, "web": web}
    for name in names:
        yield own() if name == "own" else made[name](data, place / name)


@dataclass(frozen=True)
class Models:
    encoder: RememberingEncoder
    heads: RememberingHeads | None
    worker: Worker

    @classmethod
    def open(cls, place: Path, folder: Path) -> "Models":
        CACHE.mkdir(parents=True, exist_ok=True)
        worker, weights = Worker(), find_minilm(place)
        encoder = LocalEncoder(Source(weights=weights, cache=CACHE, backend="fp32"), worker)
        files = [adapter.read(file, weights) for file in sorted(folder.glob("*.safetensors"))]
        heads = PairHeads(Source(weights=weights, cache=CACHE), files, worker) if files else None
        return cls(
            RememberingEncoder(encoder, CACHE / "vectors.npz"),
            RememberingHeads(heads, CACHE / "readings.npz") if heads else None,
            worker,
        )

    def save(self) -> None:
        self.encoder.save()
        if self.heads:
            self.heads.save()


async def run(made: Iterator[Corpus], place: Path, models: Models, most: int) -> list[str]:
    heads = f"`{models.heads.id}`" if models.heads else "none"
    lines = [f"Encoder: `{models.encoder.id}`. Heads: {heads}. Peers: {', '.join(RETRIEVAL)}."]
    for corpus in made:
        for name, rows in (await compared(corpus.of_at_most(most), place, models.encoder, models.heads)).items():
            seen = ", which choices were made on" if name in TUNING else ""
            lines += ["", f"## {corpus.name}: {len(rows[0].gains)} {name}{seen}", "", *markdown(table(rows))]
            print("\n".join(lines[-len(rows) - 5 :]), flush=True)
        models.save()
    models.worker.close()
    return [*lines, ""]


def markdown(rows: list[list[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{' --- |' * len(rows[0])}", *body]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent.parent / "shared" / "data")
    parser.add_argument("--heads", type=Path, default=HEADS, help="the folder with the trained heads")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=CORPORA)
    parser.add_argument("--most", type=int, default=1000, help="queries a set at most")
    parser.add_argument("--write", type=Path, help="put the tables under the first lines of this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Models.open(Path(folder), chosen.heads)
        lines = asyncio.run(run(corpora(chosen.data, Path(folder), chosen.corpora), Path(folder), models, chosen.most))
    if chosen.write:
        told = chosen.write.read_text("utf-8").partition(PRINTED)[0] if chosen.write.exists() else ""
        chosen.write.write_text("\n".join([told + PRINTED, "", *lines]), "utf-8")


PRINTED = "<!-- Printed by `python -m bench.retrieval`; change the program, not what follows. -->"


if __name__ == "__main__":
    main()
