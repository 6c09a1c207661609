"""Measures a heads file on questions and claims that no training saw, and prints the figures.

    PYTHONPATH=src python -m recipes.heads.evaluate --encoder FOLDER --data DATA/qa --heads FILE [--json OUT]

Everything comes from squad-val (three articles kept out of training); the reranker's corpus also holds squad-train's
passages, so that a question has 1,249 to choose from.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from recipes.heads.batches import Example, Pieces, padded
from recipes.heads.claims import LABELS, Claim, Pair, Question
from recipes.heads.corpus import Lookalikes, human, rows
from recipes.heads.file import Merged
from recipes.heads.metrics import Answered, Point, auroc, balanced, best, gain, point, reciprocal, refusing
from recipes.heads.verdicts import labelled

SETTINGS = {"pieces": 384, "first_pieces": 96}
SUPPORTED = {"verbatim", "paraphrase", "abstractive"}
LONGEST_ANSWER = 30


class Reader:
    """Runs a heads file over pairs, longest first so that batches hold little padding."""

    def __init__(self, heads: Path, encoder: Path, precision: torch.dtype) -> None:
        self._model = Merged(heads, encoder, precision)
        self.pieces = Pieces(encoder, SETTINGS)

    @torch.no_grad()
    def scores(self, examples: Sequence[Example]) -> list[dict[str, torch.Tensor]]:
        """The scores of each example, in their order; `span` cut to its pieces."""
        order = sorted(range(len(examples)), key=lambda number: len(examples[number].pieces))
        found: dict[int, dict[str, torch.Tensor]] = {}
        for first in range(0, len(order), 24):
            numbers = order[first : first + 24]
            batch = padded([examples[number] for number in numbers])
            scores = self._model(batch.pieces, batch.types, batch.mask)
            for row, number in enumerate(numbers):
                size = len(examples[number].pieces)
                span = scores["span"][row, :size].clone()
                found[number] = {
                    "span": span,
                    "rank": scores["rank"][row].clone(),
                    "verify": scores["verify"][row].clone(),
                }
        return [found[number] for number in range(len(examples))]


def best_span(example: Example, span: torch.Tensor) -> tuple[int, int, float]:
    """The best stretch in characters of the passage, and how far its score beats that of no answer."""
    first, last = example.first, len(example.pieces) - 1
    starts, ends = span[first:last, 0], span[first:last, 1]
    table = (starts[:, None] + ends[None, :]).triu().tril(LONGEST_ANSWER - 1)
    table = table.masked_fill(torch.ones_like(table).triu().tril(LONGEST_ANSWER - 1) == 0, -1e9)
    place = int(table.argmax())
    start, end = divmod(place, len(starts))
    margin = float(table[start, end] - span[0].sum())
    return example.offsets[start][0], example.offsets[end][1], margin


def read_all(reader: Reader, questions: Sequence[Question]) -> list[Answered]:
    """Each question put to its own passage."""
    examples = reader.pieces.pairs([Pair(q.text, q.passage, None, None, "") for q in questions], keep_offsets=True)
    found: list[Answered] = []
    for question, example, scores in zip(questions, examples, reader.scores(examples), strict=True):
        start, end, margin = best_span(example, scores["span"])
        gold = tuple(question.passage[slice(*span)] for span in question.spans)
        found.append(Answered(question.passage[start:end], margin, gold))
    return found


def rank_all(
    reader: Reader, questions: Sequence[Question], passages: list[str], most: int = 20
) -> dict[str, list[int | None]]:
    """The place of each question's passage among BM25's best: by BM25, by the head, by both ranks, by answerability."""
    index = Lookalikes(passages)
    places: dict[str, list[int | None]] = {"bm25": [], "head": [], "head+bm25": [], "answerable": []}
    for question in questions:
        numbers = index.best(question.text, most)
        pairs = [Pair(question.text, passages[number], None, None, "") for number in numbers]
        examples = reader.pieces.pairs(pairs, keep_offsets=True)
        scores = reader.scores(examples)
        ranks = [float(score["rank"]) for score in scores]
        margins = [best_span(example, score["span"])[2] for example, score in zip(examples, scores, strict=True)]
        by_rank = sorted(range(len(numbers)), key=lambda place: -ranks[place])
        both = sorted(range(len(numbers)), key=lambda place: -(1 / (10 + place) + 2 / (10 + by_rank.index(place))))
        by_margin = sorted(range(len(numbers)), key=lambda place: -margins[place])
        for name, order in (
            ("bm25", range(len(numbers))),
            ("head", by_rank),
            ("head+bm25", both),
            ("answerable", by_margin),
        ):
            texts = [passages[numbers[place]] for place in order]
            places[name].append(texts.index(question.passage) + 1 if question.passage in texts else None)
    return places


def judge_all(reader: Reader, claims: Sequence[Claim]) -> list[list[float]]:
    """The three probabilities of each claim."""
    return [score["verify"].softmax(-1).tolist() for score in reader.scores(reader.pieces.claims(claims))]


def by_kind(
    claims: Sequence[Claim], judged: Sequence[Sequence[float]], threshold: float
) -> dict[str, dict[str, float]]:
    """AUROC and balanced accuracy of each kind: the supported ones against all that are not, the rest against verbatim
    claims (`auroc`) and against all supported ones (`auroc_all`).
    """
    scores: dict[str, list[float]] = {}
    for claim, row in zip(claims, judged, strict=True):
        scores.setdefault(claim.kind, []).append(row[LABELS.index("supported")])
    said = [score for kind in scores if kind in SUPPORTED for score in scores[kind]]
    unsaid = [score for kind in scores if kind not in SUPPORTED for score in scores[kind]]
    found: dict[str, dict[str, float]] = {}
    for kind, own in sorted(scores.items()):
        row = {"claims": len(own), "mean": sum(own) / len(own)}
        if kind in SUPPORTED:
            row |= {"auroc": auroc(own, unsaid), "balanced": balanced(own, unsaid, threshold)}
        else:
            row |= {"auroc": auroc(scores["verbatim"], own), "auroc_all": auroc(said, own)}
            row |= {"balanced": balanced(said, own, threshold)}
        found[kind] = row
    abstractive = auroc(scores["abstractive"], scores["abstractive-wrong"])
    found["all"] = {"claims": len(claims), "auroc": auroc(said, unsaid), "balanced": balanced(said, unsaid, threshold)}
    found["abstractive vs abstractive-wrong"] = {"claims": 0, "auroc": abstractive}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--ranked", type=int, default=150, help="questions for the reranker; 20 passages each")
    parser.add_argument("--parts", default="read,verify,rank")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    figures = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of the parts asked for, printed as they come."""
    reader = Reader(arguments.heads, arguments.encoder, getattr(torch, arguments.precision))
    held_out = human(rows(arguments.data / "squad-val.jsonl.xz"))
    figures: dict[str, Any] = {}
    if "read" in arguments.parts:
        figures["read"] = _show_reading(read_all(reader, held_out))
    if "verify" in arguments.parts:
        claims = labelled(held_out, seed=20)
        figures["verify"] = by_kind(claims, judge_all(reader, claims), 0.5)
        for kind, row in figures["verify"].items():
            print(f"{kind:34}", " ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    if "rank" in arguments.parts:
        seen = human(rows(arguments.data / "squad-train.jsonl.xz"))
        passages = list(dict.fromkeys(question.passage for question in [*held_out, *seen]))
        chosen = random.Random(20).sample([q for q in held_out if q.spans], arguments.ranked)
        places = rank_all(reader, chosen, passages)
        figures["rank"] = {name: {"mrr@10": reciprocal(row), "ndcg@10": gain(row)} for name, row in places.items()}
        print(msgspec.json.format(msgspec.json.encode(figures["rank"])).decode())
    return figures


def _show_reading(outcomes: Sequence[Answered]) -> dict[str, Any]:
    chosen: dict[str, Point] = {
        "best": best(outcomes),
        "lost at most 15 %": best(outcomes, most_lost=0.15),
        "refused 70 %": refusing(outcomes, 0.70),
        "zero": point(outcomes, 0.0),
    }
    curve = [point(outcomes, threshold) for threshold in (-6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 6)]
    answerable = [outcome for outcome in outcomes if outcome.gold]
    alone = point(answerable, float("-inf"))
    print(f"answerable only, never declining: exact {alone.exact:.3f} f1 {alone.f1:.3f}")
    apart = auroc([o.margin for o in outcomes if o.gold], [o.margin for o in outcomes if not o.gold])
    print(f"answerable told from unanswerable: AUROC {apart:.3f}")
    for name, found in [*chosen.items(), *((f"curve {at.threshold:+}", at) for at in curve)]:
        print(
            f"{name:20} threshold {found.threshold:6.2f} exact {found.exact:.3f} f1 {found.f1:.3f} "
            f"refused {found.refused:.3f} lost {found.lost:.3f}",
            flush=True,
        )
    figures = {name: msgspec.structs.asdict(found) for name, found in chosen.items()}
    return (
        figures
        | {"answerable only": {"exact": alone.exact, "f1": alone.f1}, "auroc": apart}
        | {"curve": list(map(msgspec.structs.asdict, curve))}
    )


if __name__ == "__main__":
    main()
