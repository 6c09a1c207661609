"""Which settings of search find best, on the sets that choices may be made on: see `TUNING` in bench/retrieval_data.py.

    .bench/retrieval/venv/bin/python -m bench.retrieval_tuning [--data ../shared/data] [--heads FOLDER] [--most 100]

Each line is a variant of the settings, with nDCG@10 of every set and their mean. The heads were trained on squad-train,
QED and ClapNQ, so what they should weigh is measured on the first two sets alone.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import fmean

from bench.peers import HOME
from bench.retrieval import RERANK, Loam, Models, corpora, row, searched
from bench.retrieval_data import TUNING
from loam.core.ports import SearchOptions
from loam.grounding.encoder.opening import HEADS
from loam.grounding.index import Index
from loam.grounding.ingest import ingest_folder
from loam.grounding.retrieve import Retrieval
from loam.grounding.search_settings import SearchSettings

ALONE = SearchSettings(phrases=0)
VARIANTS = {
    "ranks (RRF, k = 60)": SearchSettings(fusion="ranks", phrases=0),
    "scores": ALONE,
    **{f"scores, pairs {weight}": SearchSettings(phrases=weight) for weight in (0.05, 0.1, 0.15, 0.2, 0.3)},
}
UNSEEN = TUNING[:2]
WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 10.0)


async def run(data: Path, place: Path, models: Models, most: int) -> None:
    gains: dict[str, dict[str, float]] = {}
    for whole in corpora(data, place):
        corpus = whole.only(TUNING).of_at_most(most)
        index = await Index.open(place / f"{corpus.folder.name}.db")
        await ingest_folder(index, "all", corpus.folder, encoder=models.encoder)
        systems = [
            Loam("words", Retrieval(index), SearchOptions("lexical")),
            Loam("vectors", Retrieval(index, models.encoder), SearchOptions("dense")),
        ]
        for name, settings in VARIANTS.items():
            systems.append(Loam(name, Retrieval(index, models.encoder, settings=settings), SearchOptions()))
        for weight in WEIGHTS if models.heads and set(corpus.sets) & set(UNSEEN) else ():
            retrieval = Retrieval(index, models.encoder, models.heads, SearchSettings(heads=weight))
            systems.append(Loam(f"heads {weight}", retrieval, SearchOptions(rerank=RERANK)))
        for name, queries in corpus.sets.items():
            for system in systems:
                figures = row(system.name, await searched(system, queries), queries).gains
                gains.setdefault(system.name, {})[name] = fmean(figures)
        await index.close()
        models.save()
    models.worker.close()
    print(f"| variant | {' | '.join(TUNING)} | mean |\n|{' --- |' * (len(TUNING) + 2)}")
    for system, found in gains.items():
        shown = " | ".join(f"{found[name]:.3f}" if name in found else "" for name in TUNING)
        print(f"| {system.removeprefix('Loam, ')} | {shown} | {fmean(found.values()):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent.parent / "shared" / "data")
    parser.add_argument("--heads", type=Path, default=HEADS)
    parser.add_argument("--most", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Models.open(Path(folder), chosen.heads)
        asyncio.run(run(chosen.data, Path(folder), models, chosen.most))


if __name__ == "__main__":
    main()
