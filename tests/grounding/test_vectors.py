"""Vectors in memory beside the file that is their truth: refreshed across processes, bounded, exact behind a graph."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loam.grounding.graphs import Graphs, among
from loam.grounding.index import Index
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import ALL, Change, Scope
from loam.grounding.vectors import Matrices
from tests.contracts.store import ENCODER, LEAVE, TRAVEL, Letters, ingest, near, taken

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
NAMES = ("amber", "birch", "cedar", "dune", "elm", "fern", "grove", "heath", "iris", "juniper")
SOME = [
    taken(
        f"{number}.md",
        f"# Page {number}\n\nThe {NAMES[number % 10]} of {NAMES[number // 10 % 10]} and the word{number} near it.",
        metadata={"tens": str(number // 10)},
    )
    for number in range(200)
]
IN_ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from loam.grounding.index import Index
from tests.contracts.store import TRAVEL, ingest, near, taken

async def main():
    index = await Index.open(Path(sys.argv[1]))
    if sys.argv[2] == "put":
        await ingest(index, "guide", TRAVEL, gone=["leave.md"])
    print(*await near(index, "guide", "receipts for lodging"))
    await index.close()

asyncio.run(main())
"""


def other_process(file: Path, work: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(file), work],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return run.stdout.split()


async def nearest(index: Index, text: str, *, scope: Scope = ALL, limit: int = 10) -> list[tuple[int, float]]:
    """By score, then by number: equal ones have no order, for sums of floats differ by the shape of a matrix."""
    (vector,) = await ENCODER.embed([text])
    found = await index.find_near("guide", vector, encoder=ENCODER.id, scope=scope, limit=limit)
    assert found.note == ""
    hits = [(hit.id, round(hit.score, 5)) for hit in found.hits]
    last = hits[-1][1]  # of those that tie for the last places any may be given
    return sorted(((id if score > last else 0, score) for id, score in hits), key=lambda hit: (-hit[1], hit[0]))


async def graphed(path: Path, **settings: int) -> tuple[Index, Graphs]:
    """An index that searches through a graph whatever it holds, and its graphs, built."""
    index = await Index.open(path, SearchSettings(exact_passages=0, **settings))
    (vector,) = await ENCODER.embed(["any"])
    await index.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=1)
    graphs: Graphs = index._matrices._graphs
    known = await index._database.read(lambda c: c.execute("SELECT id FROM collections").fetchone()[0])
    await graphs.built(known)
    return index, graphs


async def test_two_processes_each_see_at_once_what_the_other_stored(tmp_path: Path) -> None:
    file = tmp_path / "documents.db"
    index = await Index.open(file)
    await ingest(index, "guide", LEAVE)
    assert await near(index, "guide", "receipts for lodging") == ["leave.md"]
    assert other_process(file, "look") == ["leave.md"]
    assert other_process(file, "put") == ["travel.md"]
    assert await near(index, "guide", "receipts for lodging") == ["travel.md"]
    await ingest(index, "guide", LEAVE)
    assert other_process(file, "look") == ["travel.md", "leave.md"]
    await index.close()


async def test_halves_are_the_truth_and_scores_are_theirs(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db")
    await ingest(index, "guide", *SOME[:20])
    rows = await index._database.read(lambda c: c.execute("SELECT passage, vector FROM vectors").fetchall())
    assert {len(row[1]) for row in rows} == {2 * ENCODER.size}
    (vector,) = await ENCODER.embed(["amber of birch"])
    true = {row[0]: float(np.frombuffer(row[1], np.float16).astype(np.float32) @ vector) for row in rows}
    found = await nearest(index, "amber of birch")
    assert [score for _, score in found] == sorted((round(score, 5) for score in true.values()), reverse=True)[:10]
    assert all(score == pytest.approx(true[id], abs=1e-5) for id, score in found if id)
    await index.close()


async def test_a_matrix_that_is_patched_is_the_one_that_would_be_read(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db")
    await ingest(index, "guide", *SOME[:60])
    await nearest(index, "amber")
    await ingest(index, "guide", *SOME[60:66], gone=["3.md", "44.md"])
    patched = await nearest(index, "cedar of amber", limit=200)
    fresh = await Index.open(tmp_path / "documents.db")
    assert patched == await nearest(fresh, "cedar of amber", limit=200)
    assert len(patched) == 64
    await index.close()
    await fresh.close()


async def test_collections_that_were_not_searched_lately_leave_the_memory(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db", SearchSettings(matrix_bytes=1))
    for name in ("one", "two"):
        await ingest(index, name, LEAVE, TRAVEL)
        assert await near(index, name, "receipts for lodging") == ["travel.md", "leave.md"]
    matrices: Matrices = index._matrices
    assert len(matrices._held) == 1
    await index.close()


async def test_a_graph_proposes_and_stored_vectors_decide(tmp_path: Path) -> None:
    exact = await Index.open(tmp_path / "documents.db")
    await ingest(exact, "guide", *SOME)
    index, _ = await graphed(tmp_path / "documents.db")
    for question in ("amber of birch", "the word77 near it", "iris and heath"):
        assert await nearest(index, question) == await nearest(exact, question)
        scope = Scope(metadata={"tens": "7"})
        assert await nearest(index, question, scope=scope) == await nearest(exact, question, scope=scope)
    await exact.close()
    await index.close()


async def test_a_scope_too_large_to_compare_is_sought_in_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loam.grounding.graphs._EXACT", 0)
    exact = await Index.open(tmp_path / "documents.db")
    await ingest(exact, "guide", *SOME)
    index, _ = await graphed(tmp_path / "documents.db")
    scope = Scope(metadata={"tens": "13"})
    found = await nearest(index, "amber of birch", scope=scope)
    assert len(found) == 10
    assert found == await nearest(exact, "amber of birch", scope=scope)
    await exact.close()
    await index.close()


async def test_words_alone_are_searched_while_the_first_graph_is_built(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db", SearchSettings(exact_passages=0))
    await ingest(index, "guide", *SOME[:20])
    (vector,) = await ENCODER.embed(["amber"])
    found = await index.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=5)
    assert (found.hits, "graph is being built" in found.note) == ((), True)
    await index.close()


@pytest.mark.parametrize("harm", ["missing", "cut short", "garbage", "empty"])
async def test_a_graph_that_was_lost_or_damaged_is_made_again(tmp_path: Path, harm: str) -> None:
    exact = await Index.open(tmp_path / "documents.db")
    await ingest(exact, "guide", *SOME)
    index, _ = await graphed(tmp_path / "documents.db")
    await index.close()
    (file,) = (tmp_path / "documents.derived").glob("*.usearch")
    whole = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut short": whole[: len(whole) // 2], "garbage": b"\xff" * 5000, "empty": b""}[harm])
    again, _ = await graphed(tmp_path / "documents.db")
    assert await nearest(again, "amber of birch") == await nearest(exact, "amber of birch")
    await again.close()
    await exact.close()


async def test_a_stale_graph_is_brought_up_to_date_and_proposes_nothing_that_left(tmp_path: Path) -> None:
    index, _ = await _stored_and_graphed(tmp_path)
    await index.close()
    exact = await Index.open(tmp_path / "documents.db")  # changes what the graph on disk knows nothing of
    await ingest(exact, "guide", *SOME[100:], gone=[f"{number}.md" for number in range(0, 100, 2)])
    index, _ = await graphed(tmp_path / "documents.db")
    for question in ("amber of birch", "the word177 near it", "the word42 near it"):
        assert await nearest(index, question) == await nearest(exact, question)
    await ingest(index, "guide", gone=["177.md"])
    assert await nearest(index, "the word177 near it") == await nearest(exact, "the word177 near it")
    await exact.close()
    await index.close()


async def test_searches_that_meet_a_changed_graph_together_wait_for_one_mending(tmp_path: Path) -> None:
    index, graphs = await _stored_and_graphed(tmp_path)
    await ingest(index, "guide", *SOME[100:], gone=["3.md"])
    found = await asyncio.gather(*(nearest(index, f"the word{number} near it") for number in range(100, 130)))
    exact = await Index.open(tmp_path / "documents.db")
    for number, hits in zip(range(100, 130), found, strict=True):
        assert hits == await nearest(exact, f"the word{number} near it")
    (held,) = graphs._held.values()
    assert len(held.rows.ids) == 199
    await exact.close()
    await index.close()


async def test_a_graph_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db")
    await ingest(index, "guide", *SOME[:20])
    await index.close()
    (tmp_path / "documents.derived").write_text("in the way")
    index, _ = await graphed(tmp_path / "documents.db")
    (vector,) = await ENCODER.embed(["amber"])
    found = await index.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=5)
    assert found.hits == ()
    assert "the vectors' graph cannot be built" in found.note
    await index.close()


async def test_a_graph_of_another_encoder_is_another_file(tmp_path: Path) -> None:
    index, _ = await _stored_and_graphed(tmp_path)
    other = Letters("letters/2", 16)
    await ingest(index, "guide", *SOME[:100], encoder=other)
    (vector,) = await other.embed(["amber of birch"])
    found = await index.find_near("guide", vector, encoder=other.id, scope=ALL, limit=5)
    known = await index._database.read(lambda c: c.execute("SELECT id FROM collections").fetchone()[0])
    await index._matrices._graphs.built(known)
    found = await index.find_near("guide", vector, encoder=other.id, scope=ALL, limit=5)
    assert len(found.hits) == 5
    assert len(list((tmp_path / "documents.derived").glob("*.usearch"))) == 2
    await index.close()


async def _stored_and_graphed(tmp_path: Path) -> tuple[Index, Graphs]:
    index = await Index.open(tmp_path / "documents.db")
    await ingest(index, "guide", *SOME[:100])
    await index.close()
    return await graphed(tmp_path / "documents.db")


async def test_vectors_leave_with_their_passages(tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "documents.db")
    await ingest(index, "guide", *SOME[:10])
    await index.apply("guide", Change("s", gone=["1.md", "2.md"]))
    counted = "SELECT count(*) FROM vectors"
    assert await index._database.read(lambda c: c.execute(counted).fetchone()[0]) == 8
    await index.delete("guide")
    assert await index._database.read(lambda c: c.execute(counted).fetchone()[0]) == 0
    await index.close()


def test_a_graph_may_be_opened_before_the_encoder() -> None:
    """usearch and ONNX Runtime bear each other in one order only; a process that crashes has a negative code."""
    program = "import loam.grounding.graphs, loam.grounding.encoder.session, loam.grounding.graphs"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 40), unique=True), proposed=st.lists(st.integers(0, 45)))
async def test_what_is_among_many_is_what_an_intersection_gives(ids: list[int], proposed: list[int]) -> None:
    many, few = np.array(sorted(ids), np.int64), np.array(proposed, np.int64)
    assert among(many, few).tolist() == np.intersect1d(few, many).tolist()
