"""What the shipped heads reach on questions and claims that no training saw, run as Loam runs them: no torch.

Everything comes from squad-val, three articles kept out of training; the reranker's corpus also holds squad-train's
passages. The claims are made from squad-val by the rules of recipes/heads, the same for the same seed.

    python -m bench.heads DATA/qa [--heads FOLDER] [--backend nb8] [--json OUT] [--page bench/HEADS.md]
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.heads.claims import Claim
from recipes.heads.corpus import human, rows
from recipes.heads.metrics import Answered, Point, auroc, balanced, best, gain, point, reciprocal, refusing
from recipes.heads.verdicts import labelled

from bench.heads_page import page
from bench.heads_runs import Runs, Timed
from loam.grounding.encoder import adapter
from loam.grounding.encoder.opening import HEADS
from loam.grounding.encoder.weights import find_minilm

SUPPORTED = ("verbatim", "paraphrase", "abstractive")
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
VERDICTS = ("supported", "weak", "unsupported", "contradicted", "free")
SEED = 20
MOST_LOST, LEAST_REFUSED = 0.15, 0.70


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with squad-val.jsonl.xz and squad-train.jsonl.xz")
    parser.add_argument("--heads", type=Path, default=HEADS)
    parser.add_argument("--backend", default="nb8", choices=("nb8", "fp32", "int8", "numpy"))
    parser.add_argument("--parts", default="read,verify,rank")
    parser.add_argument("--ranked", type=int, default=150, help="questions for the reranker; 20 passages each")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments))
    text = page(figures)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if arguments.page:
        arguments.page.write_text(text, "utf-8")


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of the parts asked for."""
    with tempfile.TemporaryDirectory() as cache:
        weights = find_minilm(Path(cache))
        files = [adapter.read(file, weights) for file in sorted(arguments.heads.glob("*.safetensors"))]
        runs = Runs(weights, files, Path(cache), arguments.backend)
        held_out = human(rows(arguments.data / "squad-val.jsonl.xz"))
        sizes = {file.name: file.stat().st_size for file in sorted(arguments.heads.glob("*.safetensors"))}
        figures: dict[str, Any] = {"backend": arguments.backend, "bytes": sizes}
        figures["runs"] = {file.name: file.card["run"] for file in files}
        if "read" in arguments.parts:
            figures["read"] = reading(await runs.read(held_out))
        if "verify" in arguments.parts:
            figures["verify"] = await verifying(runs, labelled(held_out, seed=SEED))
        if "rank" in arguments.parts:
            seen = human(rows(arguments.data / "squad-train.jsonl.xz"))
            passages = list(dict.fromkeys(question.passage for question in [*held_out, *seen]))
            asked = random.Random(SEED).sample([q for q in held_out if q.spans], arguments.ranked)
            figures["rank"] = ranking(await runs.rank(asked, passages), len(passages))
        runs.close()
        return figures


def reading(timed: Timed[list[Answered]]) -> dict[str, Any]:
    """Exact match and F1 at chosen thresholds on the probability that the passage answers, and the curve."""
    outcomes = timed.found
    chosen: dict[str, Point] = {
        "best F1": best(outcomes),
        f"best F1 that loses at most {MOST_LOST:.0%}": best(outcomes, most_lost=MOST_LOST),
        f"declines {LEAST_REFUSED:.0%} of the unanswerable": refusing(outcomes, LEAST_REFUSED),
    }
    answerable = [outcome for outcome in outcomes if outcome.gold]
    alone = point(answerable, float("-inf"))
    apart = auroc([o.margin for o in answerable], [o.margin for o in outcomes if not o.gold])
    return {
        "questions": len(outcomes),
        "answerable": len(answerable),
        "never declining, answerable only": {"exact": alone.exact, "f1": alone.f1},
        "auroc": apart,
        "points": {name: _shown(found) for name, found in chosen.items()},
        "curve": [_shown(point(outcomes, threshold)) for threshold in CURVE],
        "ms a question": timed.milliseconds,
    }


def _shown(found: Point) -> dict[str, float]:
    return {name: round(getattr(found, name), 4) for name in ("threshold", "exact", "f1", "refused", "lost")}


async def verifying(runs: Runs, claims: Sequence[Claim]) -> dict[str, Any]:
    """By words alone, by the head alone on the lines that words chose, by the ladder of both."""
    ways = {
        "words": await runs.ladder(claims, heads=False),
        "head": await runs.head(claims),
        "ladder": await runs.ladder(claims, heads=True),
    }
    tables = {way: by_kind(claims, timed.found.scores, 0.5) for way, timed in ways.items()}
    return {
        "claims": len(claims),
        "ways": tables,
        "verdicts": {way: verdicts(claims, ways[way].found.verdicts) for way in ("words", "ladder")},
        "ms a sentence": {way: timed.milliseconds for way, timed in ways.items()},
    }


def by_kind(claims: Sequence[Claim], scores: Sequence[float], threshold: float) -> dict[str, dict[str, float]]:
    """AUROC and balanced accuracy of each kind: the supported kinds against all claims that are not supported, the
    others against the verbatim claims (`auroc`) and against all supported ones (`auroc_all`).
    """
    found: dict[str, list[float]] = {}
    for claim, score in zip(claims, scores, strict=True):
        found.setdefault(claim.kind, []).append(score)
    said = [score for kind in SUPPORTED for score in found[kind]]
    unsaid = [score for kind in found if kind not in SUPPORTED for score in found[kind]]
    table: dict[str, dict[str, float]] = {}
    for kind, own in sorted(found.items()):
        if kind in SUPPORTED:
            row = {"auroc": auroc(own, unsaid), "balanced": balanced(own, unsaid, threshold)}
        else:
            row = {"auroc": auroc(found["verbatim"], own), "auroc_all": auroc(said, own)}
            row["balanced"] = balanced(said, own, threshold)
        table[kind] = {"claims": len(own), **row}
    table["abstractive, right or wrong"] = {
        "claims": len(found["abstractive"]) + len(found["abstractive-wrong"]),
        "auroc": auroc(found["abstractive"], found["abstractive-wrong"]),
        "balanced": balanced(found["abstractive"], found["abstractive-wrong"], threshold),
    }
    table["all"] = {"claims": len(claims), "auroc": auroc(said, unsaid), "balanced": balanced(said, unsaid, threshold)}
    return {kind: {name: round(value, 4) for name, value in row.items()} for kind, row in table.items()}


def verdicts(claims: Sequence[Claim], found: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many claims of each kind got which verdict."""
    table: dict[str, dict[str, int]] = {}
    for claim, verdict in zip(claims, found, strict=True):
        row = table.setdefault(claim.kind, dict.fromkeys(VERDICTS, 0))
        row[verdict] += 1
    return dict(sorted(table.items()))


def ranking(places: dict[str, list[int | None]], passages: int) -> dict[str, Any]:
    """nDCG@10 and reciprocal rank of the passage that a question was asked of."""
    rows = {way: {"ndcg@10": round(gain(row), 4), "mrr@10": round(reciprocal(row), 4)} for way, row in places.items()}
    return {"questions": len(next(iter(places.values()))), "passages": passages, "ways": rows}


if __name__ == "__main__":
    main()
