"""`loam ingest` as a person uses it: again and again, watching, interrupted, and with the gateway killed under it."""

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.cli.program import Program, Served
from tests.grounding.formats import made

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals as Unix has them")
COLLECTION = "/loam/v1/collections/docs"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def served(program: Program) -> Iterator[Served]:
    with program.serving() as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    for number in range(5):
        (root / f"{number}.md").write_text(f"# Rule {number}\n\nRule {number} allows {number + 10} days.\n")
    return root


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    ending = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ending
        time.sleep(0.05)


def paths(served: Served) -> list[str]:
    try:
        return [entry["path"] for entry in served.get(f"{COLLECTION}/documents")["documents"]]
    except HTTPError as error:
        if error.code != 404:
            raise
        return []


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    added, changed, unchanged, removed = (report[name] for name in ("added", "changed", "unchanged", "removed"))
    return added, changed, unchanged, removed


def slow_files(folder: Path, count: int, words: str) -> None:
    """Each is read in a process of its own, so that taking them in lasts."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        heading = f"Paper {number}"
        (folder / f"{number}.docx").write_bytes(made.word(headings=[(heading, f"{words} {number}.")]))


def test_a_folder_is_mirrored_run_by_run(program: Program, served: Served, folder: Path) -> None:
    def ingest() -> tuple[int, int, int, int]:
        done = program.run("ingest", str(folder), "--into", "docs", "--json")
        assert done.status == 0, done.err
        return counts(done.report)

    assert ingest() == (5, 0, 0, 0)
    revision = served.get(f"{COLLECTION}/revision")
    for path in folder.iterdir():
        path.touch()  # another time, the same bytes
    assert ingest() == (0, 0, 5, 0)
    assert served.get(f"{COLLECTION}/revision") == revision

    (folder / "0.md").unlink()
    (folder / "1.md").rename(folder / "moved.md")
    (folder / "2.md").write_text("# Rule 2\n\nRule 2 is gone.\n")
    assert ingest() == (1, 1, 2, 2)
    assert paths(served) == ["2.md", "3.md", "4.md", "moved.md"]
    assert not [
        one for one in served.get(f"{COLLECTION}/search?q=rule&limit=20")["passages"] if "12 days" in one["text"]
    ]


def test_copies_are_stored_and_found_once(program: Program, served: Served, folder: Path) -> None:
    text = "Travel is booked by the office two weeks ahead, and receipts are kept for the whole year by everyone. " * 4
    (folder / "a.md").write_text(text + "Ask the desk.")
    (folder / "b.md").write_text(text + "Ask the desk.")
    (folder / "c.md").write_text(text + "Ask at the desk.")
    (folder / "d.md").write_text(text.replace("two weeks", "three weeks") + "Ask the desk.")
    report = program.run("ingest", str(folder), "--into", "docs", "--json").report
    assert report["collection"]["documents"] == 9
    found = served.get(f"{COLLECTION}/search?q=receipts+kept+by+everyone&limit=20")["passages"]
    travel = [one["url"] for one in found if "receipts" in one["text"]]
    assert len(travel) == 2  # one of a, b and c; and d, for it says another number
    assert "d.md" in travel


def test_watching_takes_in_what_changes_and_ctrl_c_ends_it(program: Program, served: Served, folder: Path) -> None:
    watching = program.start("ingest", str(folder), "--into", "docs", "--watch", "--interval", "0.2")
    until(lambda: len(paths(served)) == 5)
    (folder / "new.md").write_text("New.")
    (folder / "0.md").unlink()
    until(lambda: paths(served) == ["1.md", "2.md", "3.md", "4.md", "new.md"])
    (folder / "new.md").write_text("Newer.")
    until(lambda: "Newer." in str(served.get(f"{COLLECTION}/search?q=newer")))
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "5 added" in out
    assert "Traceback" not in err
    assert len(paths(served)) == 5


def test_ctrl_c_leaves_the_collection_as_it_was_and_the_next_run_completes(
    program: Program, served: Served, folder: Path, tmp_path: Path
) -> None:
    assert program.run("ingest", str(folder), "--into", "docs", "--source", "s").status == 0
    before = served.get(COLLECTION)
    many = tmp_path / "many"
    slow_files(many, 40, "A slow one,")
    running = program.start("ingest", str(many), "--into", "docs", "--source", "s")
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert served.get(COLLECTION) == before
    done = program.run("ingest", str(many), "--into", "docs", "--source", "s", "--json")
    assert counts(done.report) == (40, 0, 0, 5)


def test_ctrl_c_without_a_gateway_lets_the_folder_go(program: Program, tmp_path: Path) -> None:
    slow_files(tmp_path / "many", 160, "A slow one,")
    running = program.start("ingest", str(tmp_path / "many"), "--into", "docs")
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, "Traceback" in err) == (130, False)
    with program.serving() as served:
        assert paths(served) == []


def test_a_terminal_sees_how_far_it_is(program: Program, served: Served, tmp_path: Path) -> None:
    slow_files(tmp_path / "many", 8, "A slow one,")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loam", "ingest", str(tmp_path / "many"), "--into", "docs"],
        env={**program.environment, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(30) == 0
    assert b"reading" in seen
    assert b"%" in seen
    assert b"8 added" in seen


def test_a_file_beyond_what_a_request_may_hold_is_told(tmp_path: Path, folder: Path) -> None:
    program = Program(tmp_path, LOAM_GROUNDING__INGEST__MAX_DOCUMENT_BYTES=str(10**9))
    with (folder / "large.txt").open("wb") as file:
        for _ in range(60):
            file.write(b"Forty hours of leave are forty hours.\n" * 27_000)
    with program.serving() as served:
        done = program.run("ingest", str(folder), "--into", "docs", "--json")
        assert (done.status, len(paths(served))) == (0, 5), done.err
    said = [*done.report["problems"], *(error["message"] for error in done.report["errors"])]
    [told] = [line for line in said if line.startswith("large.txt")]
    assert "http.max_body" in told


@pytest.mark.timeout(300)
def test_kill_9_at_any_point_serves_one_whole_revision_and_loses_nothing(program: Program, tmp_path: Path) -> None:
    """The gateway dies at random points of a run that replaces everything; it then serves all of the old or the new."""
    place = tmp_path / "paper"
    slow_files(place, 8, "Old words,")
    whole: dict[str, set[str]] = {}
    with program.serving() as served:
        began = time.monotonic()
        assert program.run("ingest", str(place), "--into", "docs").status == 0
        takes = time.monotonic() - began
        whole["Old"] = texts(served)
    slow_files(place, 8, "New words,")
    dice = random.Random(20261130)
    survived = 0
    for _ in range(5):
        with program.serving() as served:
            running = program.start("ingest", str(place), "--into", "docs")
            time.sleep(dice.uniform(0.1, 0.7) * takes)
            served.process.kill()
            served.process.wait()
            _, err = running.communicate(timeout=60)
            assert "Traceback" not in err
        with program.serving() as served:
            now = texts(served)
            assert now in (whole["Old"], {text.replace("Old", "New") for text in whole["Old"]})
            survived += now == whole["Old"]
    assert survived  # else it was never killed in time
    with program.serving() as served:
        done = program.run("ingest", str(place), "--into", "docs", "--json")
        assert done.status == 0
        assert texts(served) == {text.replace("Old", "New") for text in whole["Old"]}
        assert sum(counts(done.report)) == 8


def texts(served: Served) -> set[str]:
    """Every passage of the collection, each where it says, and found by its words."""
    found: set[str] = set()
    for entry in served.get(f"{COLLECTION}/documents")["documents"]:
        where = f"{COLLECTION}/documents/{entry['id']}"
        stored = served.get(where)["text"]
        for passage in served.get(f"{where}/passages")["passages"]:
            assert stored[passage["start"] : passage["end"]] == passage["text"]
            found.add(passage["text"])
    hits = served.get(f"{COLLECTION}/search?q=words&limit=50")["passages"]
    assert {one["text"] for one in hits} == found
    return found


def test_a_search_shows_where_each_passage_stands_and_how_it_begins(
    program: Program, served: Served, tmp_path: Path
) -> None:
    place = tmp_path / "long"
    place.mkdir()
    (place / "leave.md").write_text("# Leave\n\n## Carry over\n\n" + "Leave is carried over. " * 60)
    assert program.run("ingest", str(place), "--into", "docs").status == 0
    found = program.run("search", "carried over", "--in", "docs", "--limit", "1")
    head, text, where, *_ = found.out.splitlines()
    assert head.endswith("  Leave › Carry over")
    assert text.startswith("    Leave is carried over. ")
    assert text.endswith(" …")
    assert len(text) < 330
    assert where.startswith("    leave.md, characters ")
    assert program.run("search", "zebras", "--in", "docs", "--mode", "lexical").out == "Nothing matches.\n"
