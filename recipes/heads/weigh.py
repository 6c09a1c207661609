"""Fits how the checks by words and the verify head are weighed together, on claims no head was trained on.

    PYTHONPATH=src python -m recipes.heads.weigh --made .training --heads FOLDER
        --out src/loam/grounding/checks/support.toml

Needs no torch: logistic regression by Newton's method, a little ridge, both labels of equal weight. Weights that would
speak against a check that is for the sentence are set to nothing and the rest fitted again.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from recipes.heads.claims import Claim
from recipes.heads.ladder import checked

from loam.grounding.checks.support import feature
from loam.grounding.encoder import adapter
from loam.grounding.encoder.adapter import Adapter
from loam.grounding.encoder.heads import PairHeads
from loam.grounding.encoder.passes import Source, Worker
from loam.grounding.encoder.weights import find_minilm
from loam.grounding.verify import Checkers

WORDS = ("numbers", "names", "denial", "sides", "places", "order", "whole", "coverage", "pairs")
AGAINST = ("denied",)
SIGNALS = (*WORDS, "head", *AGAINST)
_RIDGE = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = (arguments.made / "weighing.jsonl").read_bytes().splitlines()
    claims = [msgspec.json.decode(row, type=Claim) for row in rows]
    minilm = find_minilm(arguments.made)
    heads = [adapter.read(file, minilm) for file in sorted(arguments.heads.glob("*.safetensors"))]
    source = Source(weights=minilm, cache=arguments.made / "graphs", threads=1)
    table = asyncio.run(signals(claims, source, heads))
    run = next(file.card["run"] for file in heads if "verify.weight" in file.arrays)
    supported = np.array([claim.label == "supported" for claim in claims], np.float64)
    weights = fitted(table, supported)
    told = f"recipes/heads/weigh.py, fitted on {len(claims)} claims of passages that no head was trained on"
    arguments.out.write_text(shown(run, told, weights), "utf-8")
    print(arguments.out.read_text("utf-8"))


async def signals(claims: Sequence[Claim], source: Source, adapters: Sequence[Adapter]) -> NDArray[np.float64]:
    """A row of features a claim, in the order of SIGNALS."""
    worker = Worker()
    heads = PairHeads(source, adapters, worker)
    found = [await checked(claim, Checkers()) for claim in claims]
    quotes = [" ".join(citation.quote for citation in one.evidence) for one in found]
    pairs = [(claim.text, quote or claim.evidence) for claim, quote in zip(claims, quotes, strict=True)]
    judged = await heads.verify(pairs)
    worker.close()
    rows = [
        [feature(name, one.signals.get(name, 0.0)) for name in WORDS]
        + [feature("head", round(other.supported, 3)), feature("denied", round(other.contradicted, 3))]
        for one, other in zip(found, judged, strict=True)
    ]
    return np.array(rows)


def fitted(
    table: NDArray[np.float64],
    supported: NDArray[np.float64],
    columns: Sequence[str] = SIGNALS,
    against: Sequence[str] = AGAINST,
) -> dict[str, float]:
    """The bias under "bias" and a weight for every column that helps."""
    kept = list(range(len(columns)))
    while True:
        found = logistic(table[:, kept], supported)
        wrong = [
            place
            for place, weight in zip(kept, found[1:], strict=True)
            if (weight > 0) == (columns[place] in against) and weight
        ]
        if not wrong:
            names = ["bias", *(columns[place] for place in kept)]
            return {name: round(float(weight), 3) for name, weight in zip(names, found, strict=True)}
        worst = max(wrong, key=lambda place: abs(found[1 + kept.index(place)]))
        kept.remove(worst)


def logistic(table: NDArray[np.float64], supported: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bias first. Both labels weigh the same, however many there are."""
    rows = np.hstack([np.ones((len(table), 1)), table])
    worth = np.where(supported > 0, 0.5 / supported.mean(), 0.5 / (1 - supported.mean()))
    ridge = np.diag([0.0, *[_RIDGE] * table.shape[1]])
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-np.clip(rows @ weights, -60, 60)))
        slope = rows.T @ (worth * (likely - supported)) + ridge @ weights
        bend = (rows * (worth * likely * (1 - likely))[:, None]).T @ rows + ridge + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def shown(run: str, made: str, weights: dict[str, float]) -> str:
    """The TOML file that `loam.grounding.checks` reads; `made` says by whom and from what."""
    told = [f"{name} = {weight}" for name, weight in weights.items() if name != "bias"]
    return "\n".join(
        [
            f"# Printed by {made}.",
            f'head = "{run}"',
            f"bias = {weights['bias']}",
            "",
            "[weights]",
            *told,
            "",
        ]
    )


if __name__ == "__main__":
    main()
