"""Fits how the reader's looks at a passage and the checks by words are weighed when it must answer or decline.

    PYTHONPATH=src python -m recipes.heads.decline --data DATA/qa --heads FOLDER
        --out src/loam/grounding/checks/answered.toml

Fitted on squad-train's articles with unanswerable questions that people wrote, never on squad-val. The head has seen
these questions in training and is surer of them than of others, so the probabilities come out too bold: what is learned
is how the signals weigh against each other; thresholds are chosen elsewhere. Prints the AUROC of articles left out of
the fit, then of each signal by itself. Needs no torch.
"""

import argparse
import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recipes.heads.claims import Question
from recipes.heads.corpus import human, rows
from recipes.heads.metrics import auroc
from recipes.heads.weigh import fitted, shown

from loam.grounding.encoder import adapter
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.weights import find_minilm
from loam.grounding.rereading import signals

SIGNALS = ("passage", "sentence", "around", "values", "denial", "sides")
SEED, FOLDS = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".training/graphs"))
    parser.add_argument("--most", type=int, default=2400, help="questions; they are drawn by a fixed seed")
    arguments = parser.parse_args()
    minilm = find_minilm(arguments.cache)
    files = [adapter.read(file, minilm) for file in sorted(arguments.heads.glob("*.safetensors"))]
    worker = Worker()
    heads = PairHeads(Source(weights=minilm, cache=arguments.cache, threads=1), files, worker)
    questions = asked(human(rows(arguments.data / "squad-train.jsonl.xz")), arguments.most)
    table = asyncio.run(signs(questions, heads))
    worker.close()
    right = np.array([float(bool(question.spans)) for question in questions])
    print("AUROC of articles left out:", round(left_out(table, right, [one.title for one in questions]), 4))
    for name, column in zip(SIGNALS, table.T, strict=True):
        print(name, round(auroc(list(column[right > 0]), list(column[right == 0])), 4))
    run = next(file.card["run"] for file in files if "span.weight" in file.arrays)
    told = f"recipes/heads/decline.py, fitted on {len(questions)} questions of squad-train"
    arguments.out.write_text(shown(run, told, fitted(table, right, SIGNALS)), "utf-8")
    print(arguments.out.read_text("utf-8"))


def asked(questions: Sequence[Question], most: int) -> list[Question]:
    """A draw from the articles that have unanswerable questions too."""
    mixed = {question.title for question in questions if not question.answerable}
    found = [question for question in questions if question.title in mixed and question.origin.startswith("squad2")]
    return random.Random(SEED).sample(found, min(most, len(found)))


async def signs(questions: Sequence[Question], heads: PairHeads) -> NDArray[np.float64]:
    """A row a question, in the order of SIGNALS."""
    table: list[list[float]] = []
    for question in questions:
        (reading,) = await heads.read(question.text, [question.passage])
        found = await signals(heads, question.text, question.passage, reading)
        table.append([found[name] for name in SIGNALS])
    return np.array(table)


def left_out(table: NDArray[np.float64], right: NDArray[np.float64], titles: Sequence[str]) -> float:
    """The AUROC of questions whose articles their weights were not fitted on."""
    fold = np.array([sorted(set(titles)).index(title) % FOLDS for title in titles])
    scores = np.zeros(len(right))
    for number in range(FOLDS):
        weights = fitted(table[fold != number], right[fold != number], SIGNALS)
        scores[fold == number] = table[fold == number] @ [weights.get(name, 0.0) for name in SIGNALS] + weights["bias"]
    return auroc(list(scores[right > 0]), list(scores[right == 0]))


if __name__ == "__main__":
    main()
