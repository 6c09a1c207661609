import sqlite3
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loam.core.errors import ModelFailure
from loam.grounding import lexical
from loam.grounding.documents import read_document
from loam.grounding.index import MIGRATIONS, Index
from loam.grounding.ingest import HANDBOOK
from loam.grounding.passages import cut
from loam.grounding.store import Change, Taken
from loam.storage.database import Database

pytestmark = pytest.mark.anyio


def taken(path: str, text: str) -> Taken:
    document = read_document(path, text.encode())
    return Taken(path, document, tuple(cut(document)), content_hash=text)


LEAVE = taken("leave.md", "# Leave\n\nYou accrue four hours of sick leave each pay period.")
TRAVEL = taken("travel.md", "# Travel\n\n## Receipts\n\nKeep receipts for lodging.")


async def test_a_passage_is_found_with_all_that_a_citation_needs(index: Index) -> None:
    collection = await index.apply("guide", Change("s", [LEAVE, TRAVEL]))
    assert (collection.documents, collection.passages) == (2, 2)
    (passage,) = await index.search("guide", "Which receipts must I keep?", 5)
    document = await index.document("guide", passage.document_id)
    assert (passage.title, passage.section, passage.url) == ("Travel", "Receipts", "travel.md")
    assert passage.text == document.text[passage.start : passage.end] == "Keep receipts for lodging."
    assert passage.revision == document.revision
    assert passage.score > 0


async def test_headings_find_passages_and_count_for_more(index: Index) -> None:
    body = taken("a.md", "# A\n\n## Other\n\nReceipts are mentioned here in passing.")
    await index.apply("guide", Change("s", [body, TRAVEL]))
    found = await index.search("guide", "receipts", 5)
    assert [passage.url for passage in found] == ["travel.md", "a.md"]


async def test_collections_never_see_each_other(index: Index) -> None:
    await index.apply("one", Change("s", [LEAVE]))
    await index.apply("two", Change("s", [TRAVEL]))
    assert await index.search("one", "receipts", 5) == ()
    assert await index.search("two", "sick leave k1 k2", 5) == ()
    one = await index.documents("one")
    with pytest.raises(ModelFailure, match="no document"):
        await index.document("two", one[0].id)
    with pytest.raises(ModelFailure, match="no document"):
        await index.delete("two", one[0].id)


async def test_an_unknown_collection_is_told_with_those_that_exist(index: Index) -> None:
    with pytest.raises(ModelFailure, match="none yet; make one with `loam ingest`"):
        await index.search("nowhere", "leave", 5)
    await index.apply("guide", Change("s", [LEAVE]))
    for asked in (index.revision("x"), index.collection("x"), index.documents("x"), index.delete("x")):
        with pytest.raises(ModelFailure, match="there is no collection 'x'; there are: guide") as caught:
            await asked
        assert caught.value.failure.kind == "not_found"


@pytest.mark.parametrize("name", ["", "Big", "a b", "../a", "-a", "a" * 65, "ä", "a\n"])
async def test_a_name_that_no_collection_can_have_is_refused(index: Index, name: str) -> None:
    with pytest.raises(ModelFailure, match="is no name for a collection") as caught:
        await index.apply(name, Change("s", [LEAVE]))
    assert caught.value.failure.kind == "bad_request"


async def test_the_revision_changes_exactly_when_a_document_does(index: Index) -> None:
    first = await index.apply("guide", Change("s", [LEAVE, TRAVEL]))
    again = await index.apply("guide", Change("s", [LEAVE]))
    assert again == first
    changed = await index.apply("guide", Change("s", [taken("leave.md", "# Leave\n\nNone at all.")]))
    assert changed.revision != first.revision
    back = await index.apply("guide", Change("s", [LEAVE]))
    assert back.revision == first.revision == await index.revision("guide")
    await index.delete("guide", (await index.documents("guide"))[0].id)
    assert await index.revision("guide") != first.revision


async def test_what_was_replaced_or_deleted_is_found_no_more(index: Index) -> None:
    await index.apply("guide", Change("s", [LEAVE, TRAVEL]))
    await index.apply("guide", Change("s", [taken("leave.md", "# Leave\n\nNone at all.")], ["travel.md"]))
    assert await index.search("guide", "sick hours receipts lodging", 5) == ()
    assert len(await index.search("guide", "none", 5)) == 1
    await index.delete("guide")
    assert await index.collections() == ()
    await index.apply("other", Change("s", [TRAVEL]))
    assert await index.search("other", "leave none sick", 5) == ()


async def test_a_transaction_that_fails_changes_nothing(index: Index) -> None:
    await index.apply("guide", Change("s", [LEAVE]))
    before = await index.collection("guide")
    broken = Taken("broken.md", TRAVEL.document, TRAVEL.pieces, content_hash=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        await index.apply("guide", Change("s", [TRAVEL, broken], ["leave.md"]))
    assert await index.collection("guide") == before
    assert len(await index.search("guide", "sick leave", 5)) == 1


async def test_documents_come_in_pages_also_where_sources_share_a_path(index: Index) -> None:
    for source in ("a", "b"):
        await index.apply("guide", Change(source, [LEAVE, TRAVEL]))
    first = await index.documents("guide", limit=3)
    rest = await index.documents("guide", after=first[-1].id, limit=3)
    assert [entry.path for entry in (*first, *rest)] == ["leave.md", "leave.md", "travel.md", "travel.md"]
    assert len({entry.id for entry in (*first, *rest)}) == 4


async def test_a_documents_passages_come_in_order(handbook: Index) -> None:
    for entry in await handbook.documents("handbook"):
        document = await handbook.document("handbook", entry.id)
        passages = await handbook.passages("handbook", entry.id)
        assert passages
        assert [p.start for p in passages] == sorted(p.start for p in passages)
        assert all(p.text == document.text[p.start : p.end] for p in passages)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(question=st.text(max_size=200))
async def test_any_question_can_be_searched(handbook: Index, question: str) -> None:
    for passage in await handbook.search("handbook", question, 3):
        assert passage.text


async def test_text_of_any_script_is_found_and_cited(index: Index) -> None:
    texts = {
        "ja.md": "休暇は年間二十日です。",
        "ru.md": "Отпуск длится двадцать дней.",
        "ar.md": "مدة الإجازة عشرون يوما.",
        "hi.md": "छुट्टी बीस दिन की है।",
        "emoji.md": "Party 🎉👩‍👩‍👧 leave is one day.",
    }
    await index.apply("world", Change("s", [taken(path, text) for path, text in texts.items()]))
    for question, path in (
        ("休暇", "ja.md"),
        ("отпуск", "ru.md"),
        ("الإجازة", "ar.md"),
        ("छुट्टी", "hi.md"),
        ("party", "emoji.md"),
    ):
        (passage,) = await index.search("world", question, 5)
        assert passage.url == path
        assert (await index.document("world", passage.document_id)).text == texts[path]


async def test_a_second_process_sees_what_the_first_stored(index: Index, tmp_path: Path) -> None:
    other = await Database.open(tmp_path / "documents.db", MIGRATIONS)
    await index.apply("guide", Change("s", [LEAVE]))
    assert len(await Index(other).search("guide", "sick leave", 5)) == 1
    await other.close()


def test_the_handbook_comes_with_loam() -> None:
    assert len(list(HANDBOOK.rglob("*.md"))) > 60
    assert "CC0" in (HANDBOOK.parent / "NOTICE").read_text("utf-8")


FRESH = count()
WORDS = ("leave", "travel", "lodging", "receipt", "budget", "harbour", "castle", "chess")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=20, unique_by=tuple),
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True),
    limit=st.integers(1, 8),
)
async def test_common_words_are_searched_for_where_rare_ones_find_too_little(
    index: Index, monkeypatch: pytest.MonkeyPatch, texts: list[list[str]], question: list[str], limit: int
) -> None:
    monkeypatch.setattr(lexical, "_MOST_ROWS", 3)
    files = [taken(f"{number}.md", f"Number {number}: {' '.join(text)}.") for number, text in enumerate(texts)]
    name = f"guide-{next(FRESH)}"
    await index.apply(name, Change("s", files))
    found = await index.search(name, " ".join(question), limit)
    match = {f"{number}.md" for number, text in enumerate(texts) if {*text} & {*question}}
    assert {passage.url for passage in found} <= match
    assert len(found) == min(limit, len(match))
