"""Fits how the reader's scores become probabilities, on squad-val; export puts it into the file's card.

    PYTHONPATH=src python -m recipes.heads.calibrate --data DATA/qa --heads FOLDER --out JSON

FOLDER holds files that were exported without a calibration. Two numbers a head: they move thresholds, and change no
order, so no AUROC and no best F1. Needs no torch.
"""

import argparse
import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from recipes.heads.claims import Question
from recipes.heads.corpus import Lookalikes, human, rows
from recipes.heads.weigh import logistic

from loam.grounding.encoder import adapter
from loam.grounding.encoder.adapter import Adapter
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.weights import find_minilm

LOOKALIKES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    minilm = find_minilm(arguments.heads)
    adapters = [adapter.read(file, minilm) for file in sorted(arguments.heads.glob("*.safetensors"))]
    assert not any(one.card.get("calibration") for one in adapters), "these files are calibrated already"
    questions = human(rows(arguments.data / "squad-val.jsonl.xz"))
    source = Source(weights=minilm, cache=arguments.heads / "graphs", threads=1)
    spans, ranks = asyncio.run(scores(questions, source, adapters))
    found = {"span": fitted(spans), "rank": fitted(ranks)}
    arguments.out.write_text(json.dumps(found) + "\n", "utf-8")
    print(found)


async def scores(
    questions: Sequence[Question], source: Source, adapters: Sequence[Adapter]
) -> tuple[list[tuple[float, bool]], list[tuple[float, bool]]]:
    """Margins with whether the passage answers, and ranks with whether it is the one that the question is about."""
    worker = Worker()
    heads = PairHeads(source, adapters, worker)
    index = Lookalikes(list(dict.fromkeys(question.passage for question in questions)))
    spans: list[tuple[float, bool]] = []
    ranks: list[tuple[float, bool]] = []
    for question in questions:
        near = [index.passages[number] for number in index.best(question.text, LOOKALIKES + 1)]
        others = [passage for passage in near if passage != question.passage][:LOOKALIKES]
        own, *rest = await heads.read(question.text, [question.passage, *(others if question.spans else [])])
        spans.append((_score(own.answerable), bool(question.spans)))
        if question.spans:
            ranks += [(_score(own.relevance), True), *((_score(one.relevance), False) for one in rest)]
    worker.close()
    return spans, ranks


def fitted(rows_: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Temperature and shift, both labels of equal weight."""
    bias, slope = logistic(np.array([[score] for score, _ in rows_]), np.array([float(right) for _, right in rows_]))
    return {"temperature": round(1 / slope, 3), "shift": round(-bias / slope, 3)}


def _score(probability: float) -> float:
    inside = min(1 - 1e-12, max(1e-12, probability))
    return math.log(inside / (1 - inside))


if __name__ == "__main__":
    main()
