"""What a change costs, counted in the steps of SQLite's machine, which no busy neighbour changes."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from loam.grounding import changes, staging
from loam.grounding.documents import read_document
from loam.grounding.passages import cut
from loam.grounding.store import Change, Taken, texts_of
from loam.grounding.tables import MIGRATIONS
from loam.storage.migrations import migrate


def taken(first: int, count: int) -> list[Taken]:
    found: list[Taken] = []
    for number in range(first, first + count):
        document = read_document(f"{number}.md", f"# Rule {number}\n\nRule {number} says {number * 7}.".encode())
        found.append(Taken(f"{number}.md", document, tuple(cut(document)), content_hash=str(number)))
    return found


def steps(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(tick, 100)
    work()
    connection.set_progress_handler(None, 0)
    return count


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, MIGRATIONS)
    return connection


def staged(connection: sqlite3.Connection, documents: list[Taken]) -> Change:
    digests = [text.digest for one in documents for text in texts_of(one)]
    assert staging.unstaged(connection, "e", digests) == set(digests)
    staging.stage(connection, "e", [(digest, b"\0\0") for digest in digests])
    return Change("s", documents, encoder="e")


def test_twice_as_many_documents_cost_twice_as_much(tmp_path: Path) -> None:
    costs: list[int] = []
    for count in (200, 400):
        connection = opened(tmp_path / f"{count}.db")
        change = staged(connection, taken(0, count))
        costs.append(steps(connection, lambda: changes.apply(connection, "guide", change)))  # noqa: B023 - at once
        connection.close()
    assert costs[1] < 2.5 * costs[0]


def test_a_small_change_of_a_large_collection_costs_little(tmp_path: Path) -> None:
    connection = opened(tmp_path / "x.db")
    changes.apply(connection, "guide", staged(connection, taken(0, 1000)))
    late = taken(1000, 10)
    digests = [text.digest for one in late for text in texts_of(one)]
    looked = steps(connection, lambda: staging.unstaged(connection, "e", digests))
    assert looked < 10
    change = staged(connection, late)
    assert steps(connection, lambda: changes.apply(connection, "guide", change)) < 600
    connection.close()
