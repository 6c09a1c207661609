"""The figures of `bench.heads` as a page. Knows no measurement."""

from collections.abc import Iterable, Sequence
from typing import Any

_OPENING = """\
# The shipped heads, measured

Printed by `python -m bench.heads DATA/qa`, which runs the files of `src/loam/grounding/heads` with ONNX Runtime on one
thread, without torch. Questions, passages and claims come from three articles of SQuAD that no training saw
(squad-val); it chose thresholds, and between checkpoints. The claims are made by the rules of `recipes/heads`, whose
authors wrote the checks by words too: those checks look better here than on text by strangers."""


def page(figures: dict[str, Any]) -> str:
    """The whole page; parts that were not measured are missing."""
    sizes, runs = figures["bytes"], figures["runs"]
    files = [f"`{name}` ({size / 1e6:.2f} MB; {runs[name.partition('.')[0]]})" for name, size in sizes.items()]
    parts = [_OPENING, f"Files and the runs that they come from: {', '.join(files)}. Back end: {figures['backend']}."]
    for name, shown in (("read", _reading), ("verify", _verifying), ("rank", _ranking)):
        if name in figures:
            parts += shown(figures[name])
    return "\n\n".join(parts) + "\n"


def _reading(read: dict[str, Any]) -> list[str]:
    alone = read["never declining, answerable only"]
    columns = ("threshold", "exact", "f1", "refused", "lost")
    points = [[name, *(f"{row[column]:.3f}" for column in columns)] for name, row in read["points"].items()]
    points += [["curve", *(f"{row[column]:.3f}" for column in columns)] for row in read["curve"]]
    heads = ("", "least probability", "exact", "F1", "unanswerable declined", "answerable declined")
    said = (
        f"{read['questions']} questions, {read['answerable']} of them answerable. The answerable ones alone, never "
        f"declining: exact {alone['exact']:.3f}, F1 {alone['f1']:.3f}. Answerable told from unanswerable: AUROC "
        f"{read['auroc']:.3f}. {read['ms a question']:.1f} ms of processor time a question and passage. "
        "Probabilities are those of `loam.grounding.rereading`, which also reads the sentence of the span alone and "
        "between its neighbours."
    )
    return ["## Reader", said, _table(heads, points)]


def _verifying(verify: dict[str, Any]) -> list[str]:
    ways = verify["ways"]
    kinds = next(iter(ways.values()))
    auroc = [[kind, row["claims"], *(_figure(ways[way][kind], "auroc") for way in ways)] for kind, row in kinds.items()]
    hard = [
        [kind, row["claims"], *(_figure(ways[way][kind], "auroc_all") for way in ways)]
        for kind, row in kinds.items()
        if "auroc_all" in row
    ]
    even = [
        [kind, row["claims"], *(_figure(ways[way][kind], "balanced") for way in ways)] for kind, row in kinds.items()
    ]
    spent = ", ".join(f"{way} {value:.1f} ms" for way, value in verify["ms a sentence"].items())
    heads = ("", "claims", *ways)
    parts = ["## Verifier", f"{verify['claims']} claims. Processor time a sentence: {spent}."]
    parts += ["AUROC: supported kinds against all that are not supported, the others against verbatim claims."]
    parts += [_table(heads, auroc), "AUROC against all supported kinds, paraphrased and abstractive ones too:"]
    parts += [_table(heads, hard), "Balanced accuracy at a score of 0.5:", _table(heads, even)]
    for way, table in verify["verdicts"].items():
        columns = list(next(iter(table.values())))
        rows = [[kind, *(row[column] for column in columns)] for kind, row in table.items()]
        parts += [f"Verdicts by {way}:", _table(("", *columns), rows)]
    return parts


def _ranking(rank: dict[str, Any]) -> list[str]:
    rows = [[way, *(f"{value:.3f}" for value in row.values())] for way, row in rank["ways"].items()]
    columns = list(next(iter(rank["ways"].values())))
    said = f"{rank['questions']} questions; BM25's best 20 of {rank['passages']} passages put in order again."
    return ["## Reranker", said, _table(("", *columns), rows)]


def _figure(row: dict[str, float], name: str) -> str:
    return f"{row[name]:.3f}" if name in row else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
