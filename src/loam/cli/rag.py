"""`loam rag`: how well a collection is searched, answered from and cited."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from rich.progress import Progress

from loam.cli.examining import Examination, Judging, Ranked, Way, each
from loam.cli.reach import Gateway, gateway
from loam.cli.show import console, show
from loam.evaluation.answers import Answered, AnswerScores, answer_intervals, answer_scores, foreign_questions
from loam.evaluation.intervals import Interval
from loam.evaluation.questions import Question
from loam.evaluation.ranking import intervals, summary
from loam.grounding.checks.coverage import Line
from loam.grounding.checks.words_only import weigh

_collection = click.option("--in", "collection", required=True, help="The collection.")
_number = click.option("--number", default=100, show_default=True, help="How many questions to make.")
_seed = click.option("--seed", default=0, show_default=True, help="The same seed draws the same questions.")
_writer = click.option(
    "--write-with", "writer", default="", help="A model that writes the questions; without it patterns do."
)


@click.group(name="rag")
def command() -> None:
    """Measure how well a collection is searched, answered from and cited."""


@command.command()
@_collection
@_number
@_seed
@_writer
def questions(collection: str, number: int, seed: int, writer: str) -> None:
    """Print questions that the collection answers, one JSON object a line, to be read over and kept.

    Patterns turn statements around, so their questions share words with their answers, which flatters word search.
    """
    with gateway() as reached:
        for question in Examination(reached, collection).questions(number, seed, writer):
            click.echo(msgspec.json.encode(question).decode())


@command.command()
@_collection
@click.option(
    "--questions",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="As `loam rag questions` prints them.",
)
@_number
@_seed
@_writer
@click.option("--model", default="", help="Who answers; without it, whom the settings name.")
@click.option("--judge", default="", help="A model that judges faithfulness; without it the checks of words do.")
@click.option("--k", default=10, show_default=True, type=click.IntRange(1, 30), help="How far down a result counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def eval(
    collection: str,
    file: Path | None,
    model: str,
    judge: str,
    k: int,
    *,
    as_json: bool,
    **drawn: Any,
) -> None:
    """Search, ask and score: recall, nDCG and MRR of every way to search; answers, citations (ALCE), refusals.

    Citations and faithfulness are judged by the checks of words that ship with Loam, whoever answers; faithfulness by a
    model, where --judge names one. Questions on other matters come along, to see whether they are declined. Each figure
    stands with the interval in which it lies with 95 % confidence.
    """
    with gateway() as reached:
        examined = Examination(reached, collection, model)
        asked = _read(file) if file else examined.questions(**drawn)
        if not asked:
            raise click.UsageError("there is no question: the patterns found none; give --questions or --write-with")
        known = [question for question in asked if question.path]
        asked += [] if any(not question.path for question in asked) else foreign_questions()
        searched = [_searched(examined, way, known, k) for way in get_args(Way)]
        answers: list[Answered] = _shown("asking", asked, examined.ask)
        judging = Judging(reached, judge) if judge else None
        scores = answer_scores(answers, _supports, judging)
        within = answer_intervals(answers, _supports, judging)
    if judging is not None and judging.mute:
        click.echo(f"{judge} gave no verdict {judging.mute} times; that counts as unsupported", err=True)
    if as_json:
        told = {**msgspec.to_builtins(scores), "within": msgspec.to_builtins(within)}
        click.echo(json.dumps({"questions": len(known), "search": searched, "answers": told}, indent=2))
    else:
        _tell(searched, scores, within, k)


@command.command()
@_collection
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(collection: str, text: str, *, as_json: bool) -> None:
    """Hold TEXT (or, for "-", what is piped in) against the documents, sentence by sentence.

    Exit status 1 where a sentence is not supported.
    """
    with gateway() as reached:
        found = _checked(reached, collection, sys.stdin.read() if text == "-" else text)
    rows = [{**one, "source": _source(one)} for one in found]
    show(rows, ("verdict", "text", "score", "source"), as_json=as_json, empty="There is no sentence.")
    if any(one["verdict"] not in ("supported", "free") for one in found):
        raise SystemExit(1)


@command.command()
@_collection
@click.argument("call_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def replay(collection: str, call_id: str, *, as_json: bool) -> None:
    """Judge the sentences of the call CALL_ID again: by the documents and the checks as they are now.

    A sentence that was held back is judged too. Exit status 1 where a verdict is another one now.
    """
    with gateway() as reached:
        checks = _recorded(reached.get(f"/loam/v1/calls/{call_id}")["response"])
        again = [_checked(reached, collection, one["text"]) for one in checks]
    rows: list[dict[str, Any]] = []
    for one, now in zip(checks, again, strict=True):
        verdict = now[0]["verdict"] if now else ""
        rows.append({"then": one["verdict"], "now": verdict, "text": one["text"], "checker": one["checker"]})
    show(rows, ("then", "now", "text", "checker"), as_json=as_json, empty="No verdict is on record for this call.")
    if any(row["then"] != row["now"] for row in rows):
        raise SystemExit(1)


def _recorded(response: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The verdicts in a body that the ledger kept; none where it kept no text."""
    kept: dict[str, Any] = (response or {}).get("content") or {}
    choices: list[dict[str, Any]] = kept.get("choices", [])
    return [check for choice in choices for check in choice.get("checks", ())]


def _checked(reached: Gateway, collection: str, text: str) -> list[dict[str, Any]]:
    return reached.send("POST", f"/loam/v1/collections/{collection}/checks", {"text": text})["checks"]


def _source(check: dict[str, Any]) -> str:
    """The first line that a sentence was held against, and where it stands."""
    if not check.get("evidence"):
        return ""
    first = check["evidence"][0]
    return f"{first['url']}, {first['start']}–{first['end']}: “{first['quote']}”"


def _read(file: Path) -> list[Question]:
    try:
        return [msgspec.json.decode(line, type=Question) for line in file.read_bytes().splitlines() if line.strip()]
    except msgspec.MsgspecError as error:
        raise click.UsageError(f"{file} is no list of questions: {error}") from error


def _searched(examined: Examination, way: Way, known: Sequence[Question], k: int) -> dict[str, Any]:
    found: list[Ranked | str] = _shown(f"searching, {way}", known, lambda question: examined.search(question, way, k))
    problems = [one for one in found if isinstance(one, str)]
    if problems:
        return {"way": way, "problem": problems[0]}
    lists = [one for one in found if not isinstance(one, str)]
    scores, within = summary(lists, k), intervals(lists, k)
    figures = {"recall": scores.recall, "ndcg": scores.ndcg, "mrr": scores.reciprocal_rank}
    named = zip(figures, ("recall", "ndcg", "reciprocal_rank"), strict=True)
    return {"way": way, **figures, "within": {short: msgspec.to_builtins(within[name]) for short, name in named}}


def _shown(title: str, asked: Sequence[Question], work: Callable[[Question], Any]) -> list[Any]:
    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task(title, total=len(asked))
        return each(asked, work, lambda done: bar.update(task, completed=done))


def _supports(sentence: str, texts: Sequence[str]) -> bool:
    return weigh(sentence, [Line(text) for text in texts], {}).band == "supported"


def _tell(searched: list[dict[str, Any]], scores: AnswerScores, within: dict[str, Interval], k: int) -> None:
    rows = [
        {
            "search": one["way"],
            **{
                f"{name}@{k}": _figure(one[name], Interval(**one["within"][name]))
                for name in ("recall", "ndcg", "mrr")
                if name in one
            },
            "note": one.get("problem", ""),
        }
        for one in searched
    ]
    show(rows, ("search", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}", "note"), as_json=False, empty="")
    facts = [
        (f"answered rightly, of {scores.answerable}", scores.right, "right"),
        ("answered from elsewhere", scores.wrong, "wrong"),
        ("declined", scores.declined, "declined"),
        (f"declined of {scores.foreign} on other matters", scores.refused, "refused"),
        ("citation recall (ALCE)", scores.citations.recall, "citation_recall"),
        ("citation precision (ALCE)", scores.citations.precision, "citation_precision"),
        ("faithfulness", scores.faithfulness, "faithfulness"),
    ]
    click.echo()
    show(
        [{"answers": title, "share": _figure(share, within[name])} for title, share, name in facts],
        ("answers", "share"),
        as_json=False,
        empty="",
    )


def _figure(share: float, within: Interval) -> str:
    return f"{share:.3f} ({within.low:.2f}–{within.high:.2f})"
