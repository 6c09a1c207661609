import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from loam.core.errors import DocumentError, ModelFailure
from loam.grounding.index import MIGRATIONS, Index
from loam.grounding.ingest import (
    HANDBOOK,
    IngestSettings,
    Progress,
    Upload,
    ingest_folder,
    ingest_texts,
)
from loam.storage.database import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "leave.md").write_text("# Leave\n\nFour hours of sick leave.")
    (root / "sub" / "travel.txt").write_text("Keep receipts.")
    return root


async def paths(index: Index) -> list[str]:
    return [entry.path for entry in await index.documents("guide")]


async def test_a_folder_is_mirrored(index: Index, folder: Path) -> None:
    seen: list[Progress] = []
    report = await ingest_folder(index, "guide", folder, on_progress=seen.append)
    assert (report.added, report.changed, report.unchanged, report.removed, report.errors) == (2, 0, 0, 0, ())
    assert seen == [Progress(1, 2, "leave.md"), Progress(2, 2, "sub/travel.txt"), Progress(0, 2, "", "storing")]
    assert await paths(index) == ["leave.md", "sub/travel.txt"]

    again = await ingest_folder(index, "guide", folder)
    assert (again.added, again.changed, again.unchanged, again.removed) == (0, 0, 2, 0)
    assert again.collection == report.collection

    (folder / "leave.md").write_text("# Leave\n\nNo leave.")
    (folder / "sub" / "travel.txt").unlink()
    (folder / "new.md").write_text("New.")
    third = await ingest_folder(index, "guide", folder)
    assert (third.added, third.changed, third.unchanged, third.removed) == (1, 1, 0, 1)
    assert third.collection.revision != report.collection.revision
    assert await paths(index) == ["leave.md", "new.md"]


async def test_a_mirrored_folder_leaves_other_sources_alone(index: Index, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "leave.md").write_text("Another leave.")
    await ingest_folder(index, "guide", folder)
    await ingest_folder(index, "guide", other)
    await ingest_texts(index, "guide", [Upload("up.md", b"Uploaded.")])
    (other / "leave.md").unlink()
    report = await ingest_folder(index, "guide", other)
    assert report.removed == 1
    assert await paths(index) == ["leave.md", "sub/travel.txt", "up.md"]


async def test_one_file_is_a_folder_of_one(index: Index, folder: Path) -> None:
    report = await ingest_folder(index, "guide", folder / "leave.md")
    assert report.added == 1
    assert await paths(index) == ["leave.md"]


async def test_each_bad_file_is_told_and_the_rest_goes_in(index: Index, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("Outside.")
    (folder / "picture.md").write_bytes(b"\x89PNG\x00")
    (folder / "tool.exe").write_bytes(b"MZ")
    (folder / "empty.md").touch()
    (folder / "report.pdf").write_bytes(b"%PDF")
    (folder / ".hidden.md").write_text("Hidden.")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("Hidden too.")
    (folder / "out.md").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.md")
    (folder / "sub" / os.fsdecode(b"bad\xff.md")).write_text("Badly named.")
    report = await ingest_folder(index, "guide", folder)
    assert await paths(index) == ["leave.md", "sub/travel.txt"]
    told = {error.path: error.message for error in report.errors}
    assert sorted(told) == sorted(
        ["picture.md", "tool.exe", "empty.md", "report.pdf", "out.md", "loop", "pipe.md", "sub/bad\\udcff.md"]
    )
    assert "not followed" in told["out.md"]
    assert "not followed" in told["loop"]
    assert "no regular file" in told["pipe.md"]
    assert "not UTF-8" in told["sub/bad\\udcff.md"]


async def test_a_file_that_no_longer_can_be_taken_in_leaves_but_one_that_cannot_be_read_stays(
    index: Index, folder: Path
) -> None:
    await ingest_folder(index, "guide", folder)
    (folder / "leave.md").write_bytes(b"\x00")
    (folder / "sub" / "travel.txt").unlink()
    (folder / "sub" / "travel.txt").mkdir()
    report = await ingest_folder(index, "guide", folder)
    assert report.removed == 2
    assert "binary" in report.errors[0].message

    (folder / "leave.md").write_text("Back.")
    await ingest_folder(index, "guide", folder)
    if os.geteuid() != 0:  # the administrator reads everything
        (folder / "leave.md").chmod(0)
        report = await ingest_folder(index, "guide", folder)
        assert "stays as it was" in report.errors[0].message
        assert await paths(index) == ["leave.md"]


async def test_a_file_may_be_so_large(index: Index, folder: Path) -> None:
    report = await ingest_folder(index, "guide", folder, settings=IngestSettings(max_document_bytes=20))
    (error,) = report.errors
    assert "leave.md: larger than 20 bytes" in error.message
    assert report.added == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [(IngestSettings(max_bytes=40), "more than 40 bytes"), (IngestSettings(max_documents=1), "more than 1 files")],
)
async def test_a_run_beyond_its_limits_changes_nothing(
    index: Index, folder: Path, settings: IngestSettings, told: str
) -> None:
    before = await ingest_folder(index, "guide", folder)
    (folder / "leave.md").write_text("x" * 30)
    with pytest.raises(DocumentError, match=told):
        await ingest_folder(index, "guide", folder, settings=settings)
    assert await index.collection("guide") == before.collection


async def test_nothing_to_take_in_makes_no_collection(index: Index, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(DocumentError, match="nothing to take in: Loam reads"):
        await ingest_folder(index, "guide", empty)
    (empty / "a.exe").touch()
    with pytest.raises(DocumentError, match=r"the first: a\.exe: files ending in '\.exe' cannot be read"):
        await ingest_folder(index, "guide", empty)
    for missing in (tmp_path / "missing", loop):
        with pytest.raises(DocumentError, match="cannot find"):
            await ingest_folder(index, "guide", missing)
    with pytest.raises(ModelFailure, match="no name for a collection"):
        await ingest_folder(index, "No Name", HANDBOOK)
    assert await index.collections() == ()


async def test_uploads_add_and_replace(index: Index) -> None:
    await ingest_texts(index, "guide", [Upload("a.md", b"One."), Upload("b/c.md", b"Two.")])
    report = await ingest_texts(index, "guide", [Upload("a.md", b"Three."), Upload("b/c.md", b"Two.")])
    assert (report.added, report.changed, report.unchanged, report.removed) == (0, 1, 1, 0)
    entries = await index.documents("guide")
    texts = [(await index.document("guide", entry.id)).text for entry in entries]
    assert texts == ["Three.", "Two."]


@pytest.mark.parametrize("name", ["", "/etc/passwd.md", "../x.md", "a/../../x.md", "a\x00.md", "\ud800.md", "a" * 1001])
async def test_an_upload_with_a_strange_name_is_told(index: Index, name: str) -> None:
    report = await ingest_texts(index, "guide", [Upload(name, b"Text."), Upload("ok.md", b"Text.")])
    (error,) = report.errors
    assert "name" in error.message
    assert await paths(index) == ["ok.md"]


async def test_a_name_given_twice_is_told(index: Index) -> None:
    report = await ingest_texts(index, "guide", [Upload("a.md", b"One."), Upload("a.md", b"Two.")])
    assert report.errors[0].message == "a.md: given twice; the first one counts"
    assert (await index.search("guide", "one", 1))[0].text == "One."


async def test_a_document_of_ten_megabytes_goes_in_while_the_loop_keeps_turning(index: Index) -> None:
    line = "The quick brown fox carries {} hours of leave over the lazy dog.\n"
    text = "".join(line.format(number) for number in range(155_000))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    report = await ingest_texts(index, "guide", [Upload("big.txt", text.encode())])
    turning.cancel()
    assert report.collection.characters == len(text) - 1
    assert report.collection.passages > 9_000
    assert turns > 20
    (passage,) = await index.search("guide", "123456 hours", 1)
    assert "123456 hours" in passage.text


SLOW_INGEST = """
import asyncio, sys
from pathlib import Path
from loam.grounding.index import MIGRATIONS, Index
from loam.grounding.ingest import ingest_folder
from loam.storage.database import Database

async def main():
    index = Index(await Database.open(Path(sys.argv[1]), MIGRATIONS))
    print("go", flush=True)
    while True:
        await ingest_folder(index, "guide", Path(sys.argv[2]), source="s")
        await ingest_folder(index, "guide", Path(sys.argv[3]), source="s")

asyncio.run(main())
"""


@pytest.mark.parametrize("patience", [0.02, 0.11, 0.23, 0.37])
async def test_a_killed_run_leaves_one_whole_revision(tmp_path: Path, patience: float) -> None:
    whole: dict[str, int] = {}
    for name, words in (("old", "one two"), ("new", "three four five")):
        (tmp_path / name).mkdir()
        for number in range(60):
            (tmp_path / name / f"{number}.md").write_text(f"{words} {number}. " * 30)
        database = await Database.open(tmp_path / f"{name}.db", MIGRATIONS)
        report = await ingest_folder(Index(database), "guide", tmp_path / name, source="s")
        whole[report.collection.revision] = report.collection.passages
        await database.close()
    command = [sys.executable, "-c", SLOW_INGEST, tmp_path / "killed.db", tmp_path / "old", tmp_path / "new"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    await asyncio.sleep(patience)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    database = await Database.open(tmp_path / "killed.db", MIGRATIONS)
    collections = await Index(database).collections()
    rows = await database.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchone())
    await database.close()
    assert rows == ("ok",)
    assert [whole[collection.revision] for collection in collections] == [c.passages for c in collections]
    connection = sqlite3.connect(tmp_path / "killed.db")
    indexed = sum(
        connection.execute(f"SELECT count(*) FROM words_{id}").fetchone()[0]
        for (id,) in connection.execute("SELECT id FROM collections").fetchall()
    )
    stored = connection.execute("SELECT count(*) FROM passages").fetchone()[0]
    connection.close()
    assert indexed == stored
