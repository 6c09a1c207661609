"""A whole shared drive through the front door: `loam ingest FOLDER --into drive` against a gateway that runs."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.program import Done, Program, Served
from tests.grounding import corpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
GATEWAY_MIB = 320
COMMAND_MIB = 200


class Drive(NamedTuple):
    """The folder, what must be told of it, what the first run said, and the gateway."""

    folder: Path
    told: dict[str, str]
    first: Done
    program: Program
    served: Served

    def run(self) -> Done:
        return self.program.run("ingest", str(self.folder), "--into", "drive", "--json")

    def documents(self) -> dict[str, dict[str, Any]]:
        listed = self.served.get("/loam/v1/collections/drive/documents?limit=1000")["documents"]
        return {entry["path"]: entry for entry in listed}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    place = tmp_path_factory.mktemp("drive")
    folder = place / "shared"
    told = corpus.write(folder)
    if os.geteuid() == 0 and shutil.which("setpriv") is None:  # the administrator reads everything
        (folder / "odd" / "secret.md").unlink()
        del told["odd/secret.md"]
    program = Program(place)
    with program.serving() as served:
        first = program.run("ingest", str(folder), "--into", "drive", "--json")
        yield Drive(folder, told, first, program, served)
    (folder / corpus.HUGE).unlink()


def problems(done: Done) -> list[str]:
    return [*done.report["problems"], *(error["message"] for error in done.report["errors"])]


def test_all_that_can_be_read_goes_in(drive: Drive) -> None:
    assert drive.first.status == 0, drive.first.err
    assert len(corpus.GOOD) + len(drive.told) >= 60
    assert sorted(drive.documents()) == sorted(corpus.GOOD)
    assert drive.first.report["added"] == len(corpus.GOOD)
    assert drive.first.report["skipped"] == 1  # tool.exe


def test_each_file_that_cannot_go_in_is_told_once_with_its_reason(drive: Drive) -> None:
    said = problems(drive.first)
    for name, why in drive.told.items():
        about = [line for line in said if line.removeprefix("'").removeprefix('"').startswith(name)]
        assert len(about) == 1, (name, said)
        assert why in about[0], about[0]
        assert len(about[0]) < 400
    assert len(said) == len(drive.told)


@pytest.mark.parametrize("name", corpus.GOOD)
def test_passages_and_their_pages_are_true_to_the_character(drive: Drive, name: str) -> None:
    where = f"/loam/v1/collections/drive/documents/{drive.documents()[name]['id']}"
    stored = drive.served.get(where)
    passages = drive.served.get(f"{where}/passages")["passages"]
    assert passages
    for passage in passages:
        assert stored["text"][passage["start"] : passage["end"]] == passage["text"]
    good = corpus.GOOD[name]
    [holding, *_] = [passage for passage in passages if good.phrase in passage["text"]]
    if good.page is None:
        assert holding.get("page") is None
    else:
        at = holding["start"] + holding["text"].index(good.phrase)
        assert sum(begin <= at for begin in stored["pages"]) == good.page


def test_what_was_guessed_is_remarked(drive: Drive) -> None:
    remarks = {remark["path"]: remark["message"] for remark in drive.first.report["remarks"]}
    assert "Windows-1252, which is a guess" in remarks["notes/latin.txt"]
    assert "Windows-1252, which is a guess" in remarks["tables/semicolons.csv"]
    assert "no text on 1 of 2 pages" in remarks["pdf/two-columns.pdf"]


def test_neither_the_large_file_nor_the_bombs_take_memory(drive: Drive) -> None:
    assert drive.served.peak_mib < GATEWAY_MIB
    assert 0 < drive.first.peak_mib < COMMAND_MIB


def test_nothing_from_outside_or_hidden_came_along(drive: Drive) -> None:
    for words in ("xyzzy", "hidden", "nobody+may+read"):
        found = drive.served.get(f"/loam/v1/collections/drive/search?q={words}&limit=5")["passages"]
        assert not [one for one in found if any(word in one["text"].lower() for word in words.split("+"))]


def test_files_that_say_the_same_are_found_once(drive: Drive) -> None:
    found = drive.served.get("/loam/v1/collections/drive/search?q=turnover&limit=20")["passages"]
    assert [one["url"].partition("/")[0] for one in found if "Turnover rose" in one["text"]] == ["pdf"]


def test_answers_cite_to_the_character(drive: Drive) -> None:
    for question, quote, page in (
        ("Which valve does step 9 use?", "Step 9 uses valve V-63 only.", 9),
        ("What must visitors wear?", "Visitors wear a green badge.", None),
        ("Where does the warehouse move?", "The warehouse moves to the harbour district in September.", 3),
        ("From when do we offer the post?", "We offer the post from 1 March.", None),
    ):
        body = {"model": "rag:drive", "messages": [{"role": "user", "content": question}], "loam": {"metadata": True}}
        answer = drive.served.send("/v1/chat/completions", body)
        [citation] = answer["loam"]["citations"]
        assert (citation["quote"], citation.get("page")) == (quote, page)
        stored = drive.served.get(f"/loam/v1/collections/drive/documents/{citation['document_id']}")
        assert stored["text"][citation["start"] : citation["end"]] == quote


def test_a_second_run_finds_nothing_to_do(drive: Drive) -> None:
    before = drive.served.get("/loam/v1/collections/drive/revision")
    again = drive.run().report
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    assert again["unchanged"] == len(corpus.GOOD)
    assert drive.served.get("/loam/v1/collections/drive/revision") == before
