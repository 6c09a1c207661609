"""How well passages are found and how well the reader answers, on questions whose answer is known.

Two sets: headings of the whole 18F handbook put as queries (give its archive and the queries as arguments; the query
stands in the document, which flatters), and our own questions on the part that comes with Loam, in other words than the
pages use, beside questions that the pages do not answer. The held-out ones were written last and chose no weight.

    python -m bench.reader [HANDBOOK.tar.gz QUERIES.jsonl]
"""

import asyncio
import json
import statistics
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loam.core.answers import collect
from loam.core.calls import Call, Passage
from loam.core.messages import say
from loam.core.ports import SearchOptions
from loam.grounding.encoder.choice import open_encoder
from loam.grounding.encoder.settings import EncoderSettings
from loam.grounding.evidence import Evidence, best
from loam.grounding.index import MIGRATIONS, Index
from loam.grounding.ingest import HANDBOOK, ingest_folder
from loam.grounding.prompt import DECLINED
from loam.grounding.reader import LEAST_SUPPORT, NAME, Reader
from loam.grounding.retrieve import Retrieval
from loam.storage.database import Database

QUESTIONS = Path(__file__).with_name("reader_questions.jsonl")
THRESHOLDS = (0.4, 0.5, LEAST_SUPPORT, 0.7, 0.8)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def answered(question: str, passages: Sequence[Passage], least: float = LEAST_SUPPORT) -> Evidence | None:
    found = best(question, passages)
    return found if found is not None and found.support >= least else None


async def headings(index: Index, queries: list[dict[str, Any]], console: Console) -> None:
    table = Table(
        "queries", "number", "right file @1", "@5", "quote: right file", "right section", "declined", "p50 ms"
    )
    for kind in ("question heading", "long heading"):
        chosen = [query for query in queries if query["kind"] == kind]
        first = five = file = section = declined = 0
        times: list[float] = []
        for query in chosen:
            started = time.perf_counter()
            passages = await index.search("all", query["query"], 10)
            times.append(time.perf_counter() - started)
            files = list(dict.fromkeys(passage.url for passage in passages))
            first += query["path"] in files[:1]
            five += query["path"] in files[:5]
            found = answered(query["query"], passages[:8])
            declined += found is None
            if found is not None and found.passage.url == query["path"]:
                file += 1
                section += query["section"].strip("# ") in found.passage.section
        size = len(chosen)
        shares = [percent(count, size) for count in (first, five, file, section, declined)]
        table.add_row(kind, str(size), *shares, f"{1000 * statistics.median(times):.2f}")
    console.print("Headings of the whole handbook as queries", table)


async def questions(index: Index, console: Console) -> None:
    asked = rows(QUESTIONS)
    found = [(row, await index.search("slice", row["question"], 8)) for row in asked]
    for held_out in (False, True):
        table = Table("least support", "right", "wrong", "declined", "off topic declined", "near miss declined")
        chosen = [pair for pair in found if pair[0].get("held_out", False) is held_out]
        answerable = [pair for pair in chosen if pair[0]["kind"] == "answerable"]
        inside = sum(any(a in p.text for p in passages for a in row["answers"]) for row, passages in answerable)
        for least in THRESHOLDS:
            quotes = [(row, answered(row["question"], passages, least)) for row, passages in answerable]
            right = sum(got is not None and any(a in got.quote for a in row["answers"]) for row, got in quotes)
            declined = sum(got is None for _, got in quotes)
            rest = [
                (
                    sum(
                        answered(row["question"], passages, least) is None
                        for row, passages in chosen
                        if row["kind"] == k
                    ),
                    sum(row["kind"] == k for row, _ in chosen),
                )
                for k in ("off topic", "near miss")
            ]
            size = len(answerable)
            shares = [percent(count, size) for count in (right, size - right - declined, declined)]
            table.add_row(f"{least:.2f}", *shares, *(percent(*pair) for pair in rest))
        title = f"{len(answerable)} questions, {'held out' if held_out else 'used while the reader was made'}"
        console.print(f"{title}; the answer is in the passages for {percent(inside, len(answerable))}", table)
    started = time.perf_counter()
    for row, passages in found:
        best(row["question"], passages)
    console.print(f"reading: {1000 * (time.perf_counter() - started) / len(found):.2f} ms a question")


async def shipped(index: Index, folder: Path, console: Console) -> None:
    """The same questions to the reader as it ships: hybrid search, passages read again, and the trained heads' say."""
    opened = open_encoder(EncoderSettings(), folder)
    if opened.heads is None:
        console.print(f"not asked with trained heads: {opened.notice}")
        return
    await ingest_folder(index, "shipped", HANDBOOK, encoder=opened.encoder)
    retrieval, reader = Retrieval(index, opened.encoder, opened.heads), Reader(opened.heads)
    counts: Counter[tuple[bool, str, str]] = Counter()
    for row in rows(QUESTIONS):
        found = await retrieval.look("shipped", row["question"], 8, options=SearchOptions(rerank=16))
        call = Call(id="call", model=NAME, messages=(say("user", row["question"]),), passages=found.passages)
        said = (await collect(reader.answer(call))).text
        right = any(answer in said for answer in row.get("answers", ()))
        outcome = "declined" if said == DECLINED else "right" if right else "wrong"
        counts[row.get("held_out", False), row["kind"], outcome] += 1
    table = Table("as it ships", "questions", "right", "wrong", "declined")
    for held_out in (False, True):
        for kind in ("answerable", "near miss", "off topic"):
            outcomes = [counts[held_out, kind, outcome] for outcome in ("right", "wrong", "declined")]
            whole = sum(outcomes)
            title = f"{kind}, held out" if held_out else kind
            table.add_row(title, str(whole), *(percent(count, whole) for count in outcomes))
    console.print(table)
    opened.close()


async def main(arguments: list[str]) -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        database = await Database.open(Path(folder) / "documents.db", MIGRATIONS)
        index = Index(database)
        started = time.perf_counter()
        report = await ingest_folder(index, "slice", HANDBOOK)
        first = time.perf_counter() - started
        started = time.perf_counter()
        await ingest_folder(index, "slice", HANDBOOK)
        again = time.perf_counter() - started
        console.print(
            f"ingest: {report.collection.documents} documents, {report.collection.passages} passages in {first:.2f} s "
            f"({report.collection.passages / first:.0f} passages/s); unchanged again: {1000 * again:.1f} ms"
        )
        await questions(index, console)
        await shipped(index, Path(folder), console)
        if len(arguments) == 2:
            with tarfile.open(arguments[0]) as archive:
                archive.extractall(Path(folder) / "pages", filter="data")
            await ingest_folder(index, "all", Path(folder) / "pages")
            await headings(index, rows(Path(arguments[1])), console)
        await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
