"""What every place that keeps collections must do: one suite, run over each kind.

A subclass gives the fixture `store`, empty. Vectors are made here, of the words that a text has, so that what is near
is known without an encoder.
"""

import asyncio
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from loam.core.ports import SearchOptions
from loam.grounding.documents import read_document
from loam.grounding.embedding import embed, embed_stored
from loam.grounding.passages import cut
from loam.grounding.retrieve import Retrieval
from loam.grounding.store import ALL, Change, Collection, Scope, Store, Taken, scope_of, texts_of
from loam.grounding.terms import words


class Letters:
    """An encoder that counts words."""

    def __init__(self, id: str = "letters/1", size: int = 64) -> None:
        self.id = id
        self.size = size

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.full((len(texts), self.size), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                row[zlib.crc32(word.encode()) % self.size] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


ENCODER = Letters()
BEN, ANN = Principal(user="ben"), Principal(user="ann", team="blue")


def taken(path: str, text: str, **rest: object) -> Taken:
    document = read_document(path, text.encode())
    return Taken(path, document, tuple(cut(document)), content_hash=text, **rest)  # type: ignore[arg-type]


LEAVE = taken("leave.md", "# Leave\n\nYou accrue four hours of sick leave each pay period.")
TRAVEL = taken("travel.md", "# Travel\n\n## Receipts\n\nKeep receipts for lodging.")


async def ingest(
    store: Store, name: str, *some: Taken, encoder: Letters = ENCODER, gone: Sequence[str] = ()
) -> Collection:
    """What a run of ingestion does: stages vectors, then changes the collection."""
    await embed(store, encoder, [text for one in some for text in texts_of(one)], lambda done, total: None)
    return await store.apply(name, Change("s", some, gone, encoder=encoder.id))


async def near(store: Store, name: str, text: str, *, limit: int = 5, scope: Scope = ALL) -> list[str]:
    """The paths of what lies nearest to a text."""
    (vector,) = await ENCODER.embed([text])
    hits = await store.find_near(name, vector, encoder=ENCODER.id, scope=scope, limit=limit)
    return await paths(store, name, [hit.id for hit in hits.hits])


async def worded(store: Store, name: str, question: str, *, limit: int = 5, scope: Scope = ALL) -> list[str]:
    hits = await store.find_words(name, question, scope=scope, limit=limit)
    return await paths(store, name, [hit.id for hit in hits.hits])


async def paths(store: Store, name: str, ids: Sequence[int]) -> list[str]:
    fetched = await store.fetch(name, ids, scope=ALL)
    return [fetched.passages[id].url for id in ids]


class StoreContract:
    async def test_a_passage_is_found_with_all_that_a_citation_needs(self, store: Store) -> None:
        collection = await ingest(store, "guide", LEAVE, TRAVEL)
        assert (collection.documents, collection.passages, collection.embedded) == (2, 2, 2)
        (passage,) = await Retrieval(store).search("guide", "Which receipts must I keep?", 5)
        document = await store.document("guide", passage.document_id)
        assert (passage.title, passage.section, passage.url) == ("Travel", "Receipts", "travel.md")
        assert passage.text == document.text[passage.start : passage.end] == "Keep receipts for lodging."
        assert passage.revision == document.revision
        assert passage.score > 0

    async def test_words_are_found_by_their_stems_and_headings_count_for_more(self, store: Store) -> None:
        body = taken("a.md", "# A\n\n## Other\n\nReceipts are mentioned here in passing.")
        await store.apply("guide", Change("s", [body, TRAVEL, LEAVE]))
        assert await worded(store, "guide", "receipts") == ["travel.md", "a.md"]
        assert await worded(store, "guide", "keeping a receipt")
        assert await worded(store, "guide", "nothing of it") == []
        assert await worded(store, "guide", "?!") == []

    async def test_scores_of_words_are_shares_of_what_could_be(self, store: Store) -> None:
        filler = [
            taken(f"{n}.md", f"# Page {n}\n\nNothing of interest stands on page number{n} here.") for n in range(30)
        ]
        half = taken("half.md", "# Other\n\nWe mention lodging now and then, among much else that the page tells.")
        await store.apply("guide", Change("s", [*filler, half, TRAVEL]))
        met = await store.find_words("guide", "receipts for lodging", scope=ALL, limit=5)
        assert await paths(store, "guide", [hit.id for hit in met.hits]) == ["travel.md", "half.md"]
        assert 0.4 < met.hits[0].score <= 1
        assert 0.05 < met.hits[1].score < met.hits[0].score - 0.2
        missed = await store.find_words("guide", "receipts of the zeppelin fleet", scope=ALL, limit=5)
        assert missed.hits[0].score < met.hits[0].score - 0.2

    async def test_the_nearest_vectors_come_in_order_with_their_cosines(self, store: Store) -> None:
        await ingest(store, "guide", LEAVE, TRAVEL)
        (vector,) = await ENCODER.embed(["Travel > Receipts\nKeep receipts for lodging."])
        found = await store.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=5)
        assert await paths(store, "guide", [hit.id for hit in found.hits]) == ["travel.md", "leave.md"]
        assert found.hits[0].score == pytest.approx(1, abs=2e-3)
        kept = await store.vectors([hit.id for hit in found.hits])
        assert [vector @ kept[hit.id] for hit in found.hits] == pytest.approx([h.score for h in found.hits], abs=2e-3)
        assert found.note == ""
        assert found.stamp == (await store.fetch("guide", [], scope=ALL)).stamp

    async def test_hybrid_search_uses_both(self, store: Store) -> None:
        await ingest(store, "guide", LEAVE, TRAVEL)
        found = await Retrieval(store, ENCODER).look("guide", "receipts for lodging", 2)
        assert (found.mode, found.notes) == ("hybrid", ())
        assert [passage.url for passage in found.passages] == ["travel.md", "leave.md"]

    async def test_vectors_of_another_encoder_are_never_compared(self, store: Store) -> None:
        await store.apply("guide", Change("s", [LEAVE]))
        (vector,) = await ENCODER.embed(["leave"])
        bare = await store.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=5)
        assert (bare.hits, "has no vectors yet" in bare.note) == ((), True)
        await ingest(store, "guide", TRAVEL, encoder=Letters("letters/2", 16))
        found = await store.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=5)
        assert found.hits == ()
        assert "has vectors of letters/2" in found.note

    async def test_another_encoder_replaces_all_vectors_in_one_step(self, store: Store) -> None:
        await ingest(store, "guide", LEAVE, TRAVEL)
        other = Letters("letters/2", 16)
        assert await embed_stored(store, other, "guide", lambda done, total: None)
        assert (await store.collection("guide")).encoder == ENCODER.id
        changed = await store.apply("guide", Change("s", encoder=other.id))
        assert (changed.encoder, changed.embedded) == (other.id, 2)
        (vector,) = await other.embed(["Keep receipts"])
        assert len((await store.find_near("guide", vector, encoder=other.id, scope=ALL, limit=5)).hits) == 2
        assert not await embed_stored(store, other, "guide", lambda done, total: None)

    async def test_no_text_is_embedded_twice_also_by_another_collection(self, store: Store) -> None:
        digests = [text.digest for text in texts_of(LEAVE)]
        assert await store.unstaged(ENCODER.id, digests) == set(digests)
        await ingest(store, "one", LEAVE)
        assert await store.unstaged(ENCODER.id, digests) == set()
        assert (await store.apply("two", Change("s", [LEAVE], encoder=ENCODER.id))).embedded == 1
        assert await store.unstaged("letters/2", digests) == set(digests)

    async def test_collections_never_see_each_other(self, store: Store) -> None:
        await ingest(store, "one", LEAVE)
        await ingest(store, "two", TRAVEL)
        assert await worded(store, "one", "receipts") == []
        assert await near(store, "one", "receipts") == ["leave.md"]
        (one,) = await store.documents("one")
        with pytest.raises(ModelFailure, match="no document"):
            await store.document("two", one.id)
        with pytest.raises(ModelFailure, match="no document"):
            await store.delete("two", one.id)
        found = await store.find_words("one", "leave", scope=ALL, limit=5)
        assert (await store.fetch("two", [hit.id for hit in found.hits], scope=ALL)).passages == {}

    async def test_an_unknown_collection_is_told_with_those_that_exist(self, store: Store) -> None:
        with pytest.raises(ModelFailure, match="none yet; make one with `loam ingest`"):
            await store.find_words("nowhere", "leave", scope=ALL, limit=5)
        await store.apply("guide", Change("s", [LEAVE]))
        for asked in (store.revision("x"), store.collection("x"), store.documents("x"), store.delete("x")):
            with pytest.raises(ModelFailure, match="there is no collection 'x'; there are: guide") as caught:
                await asked
            assert caught.value.failure.kind == "not_found"
        assert await store.held("x", "s") == {}
        assert await store.unembedded("x", ENCODER.id, 5) == []

    async def test_names_and_readers_that_cannot_be_are_refused(self, store: Store) -> None:
        with pytest.raises(ModelFailure, match="is no name for a collection"):
            await store.apply("Big", Change("s", [LEAVE]))
        with pytest.raises(ModelFailure, match="names no reader"):
            await store.apply("guide", Change("s", [taken("a.md", "Words.", access=("everybody",))]))
        assert await store.collections() == ()

    async def test_the_revision_changes_exactly_when_a_document_does(self, store: Store) -> None:
        first = await store.apply("guide", Change("s", [LEAVE, TRAVEL]))
        assert await store.apply("guide", Change("s", [LEAVE])) == first
        await store.apply("guide", Change("s", stamps={"leave.md": "later"}))
        assert await store.revision("guide") == first.revision
        labelled = taken("leave.md", LEAVE.content_hash, metadata={"year": "2026"})
        assert (await store.apply("guide", Change("s", [labelled]))).revision != first.revision
        assert (await store.apply("guide", Change("s", [LEAVE]))).revision == first.revision
        await store.delete("guide", (await store.documents("guide"))[0].id)
        assert await store.revision("guide") != first.revision

    async def test_what_was_replaced_or_deleted_is_found_no_more(self, store: Store) -> None:
        await ingest(store, "guide", LEAVE, TRAVEL)
        changed = await ingest(store, "guide", taken("leave.md", "# Leave\n\nNone at all."), gone=["travel.md"])
        assert (changed.documents, changed.passages, changed.embedded) == (1, 1, 1)
        assert await worded(store, "guide", "sick hours receipts lodging") == []
        assert await near(store, "guide", "receipts lodging") == ["leave.md"]
        await store.delete("guide")
        assert await store.collections() == ()
        await ingest(store, "other", TRAVEL)
        assert await worded(store, "other", "leave none sick") == []
        assert await near(store, "other", "leave none sick") == ["travel.md"]

    async def test_a_change_that_fails_changes_nothing(self, store: Store) -> None:
        await ingest(store, "guide", LEAVE)
        before = await store.collection("guide")
        broken = Taken("broken.md", TRAVEL.document, TRAVEL.pieces, content_hash=None)  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r"(?i)null"):
            await store.apply("guide", Change("s", [TRAVEL, broken], ["leave.md"]))
        assert await store.collection("guide") == before
        assert await worded(store, "guide", "sick leave") == ["leave.md"]

    async def test_changes_that_come_together_are_all_kept(self, store: Store) -> None:
        some = [taken(f"{number}.md", f"# Page {number}\n\nWord{number} is on this page.") for number in range(12)]
        await asyncio.gather(*(ingest(store, "guide", one) for one in some))
        collection = await store.collection("guide")
        assert (collection.documents, collection.passages, collection.embedded) == (12, 12, 12)
        found = {number: await worded(store, "guide", f"word{number}") for number in range(12)}
        assert found == {number: [f"{number}.md"] for number in range(12)}

    async def test_a_reader_sees_what_is_open_to_it_and_nothing_else(self, store: Store) -> None:
        secret = taken("secret.md", "# Plans\n\nThe receipts of the board.", access=("user:ann", "team:red"))
        await ingest(store, "guide", secret, TRAVEL)
        (hidden,) = [entry for entry in await store.documents("guide") if entry.path == "secret.md"]
        assert hidden.access == ("team:red", "user:ann")
        for reader, seen in ((BEN, ["travel.md"]), (ANN, ["secret.md", "travel.md"])):
            scope = scope_of(reader)
            assert sorted(await worded(store, "guide", "receipts", scope=scope)) == seen
            assert sorted(await near(store, "guide", "receipts", scope=scope)) == seen
            assert sorted(entry.path for entry in await store.documents("guide", scope=scope)) == seen
        found = await store.find_words("guide", "board", scope=ALL, limit=5)
        assert (await store.fetch("guide", [hit.id for hit in found.hits], scope=scope_of(BEN))).passages == {}
        for asked in (store.document, store.passages):
            with pytest.raises(ModelFailure, match="no document"):
                await asked("guide", hidden.id, scope=scope_of(BEN))
        assert await store.revision("guide", principal=BEN) != await store.revision("guide", principal=ANN)

    async def test_metadata_must_match_to_the_letter(self, store: Store) -> None:
        old = taken("old.md", "# Rates\n\nLodging was 90.", metadata={"year": "2024", "kind": "rates"})
        new = taken("new.md", "# Rates\n\nLodging is 120.", metadata={"year": "2026", "kind": "rates"})
        await ingest(store, "guide", old, new, TRAVEL)
        scope = Scope(metadata={"year": "2026", "kind": "rates"})
        assert await worded(store, "guide", "lodging rates", scope=scope) == ["new.md"]
        assert await near(store, "guide", "lodging rates", scope=scope) == ["new.md"]
        assert await near(store, "guide", "lodging rates", scope=Scope(metadata={"year": "20"})) == []
        options = SearchOptions(metadata={"year": "2024"})
        (passage,) = await Retrieval(store, ENCODER).search("guide", "lodging", 5, options=options)
        assert passage.url == "old.md"

    async def test_passages_that_say_the_same_are_given_once(self, store: Store) -> None:
        same = "Keep all receipts for lodging and for meals until your voucher has been paid in full by the office."
        await ingest(store, "guide", *(taken(f"{number}.txt", same) for number in range(7)), LEAVE)
        assert len(await worded(store, "guide", "receipts", limit=2)) == 1
        assert (await near(store, "guide", same, limit=2))[1:] == ["leave.md"]

    async def test_neighbours_grow_a_passage_within_its_document(self, store: Store) -> None:
        text = "# Long\n\n" + "\n\n".join(f"## Part {n}\n\nSentence {n} is about topic{n} alone." for n in range(5))
        await store.apply("guide", Change("s", [taken("long.md", text), TRAVEL]))
        found = await store.find_words("guide", "topic2", scope=ALL, limit=1)
        (passage,) = (await store.fetch("guide", [found.hits[0].id], scope=ALL, neighbours=1)).passages.values()
        assert passage.section == "Part 2"
        assert [topic for topic in range(5) if f"topic{topic}" in passage.text] == [1, 2, 3]
        document = await store.document("guide", passage.document_id)
        assert passage.text == document.text[passage.start : passage.end]

    async def test_documents_come_in_pages_also_where_sources_share_a_path(self, store: Store) -> None:
        for source in ("a", "b"):
            await store.apply("guide", Change(source, [LEAVE, TRAVEL]))
        first = await store.documents("guide", limit=3)
        rest = await store.documents("guide", after=first[-1].id, limit=3)
        assert [entry.path for entry in (*first, *rest)] == ["leave.md", "leave.md", "travel.md", "travel.md"]
        assert len({entry.id for entry in (*first, *rest)}) == 4

    async def test_what_is_held_of_a_source_is_known_by_path(self, store: Store) -> None:
        labelled = taken("a.md", "Words.", metadata={"k": "v"}, access=("user:ben",), stamp="1")
        await store.apply("guide", Change("s", [labelled]))
        (held,) = (await store.held("guide", "s")).values()
        assert (held.content_hash, held.stamp, held.metadata, held.access) == ("Words.", "1", {"k": "v"}, ("user:ben",))
        assert await store.held("guide", "elsewhere") == {}

    async def test_text_of_any_script_is_found_and_kept(self, store: Store) -> None:
        texts = {
            "ja.md": "休暇は年間二十日です。",
            "ru.md": "Отпуск длится двадцать дней.",
            "ar.md": "مدة الإجازة عشرون يوما.",
            "hi.md": "छुट्टी बीस दिन की है।",
            "emoji.md": "Party 🎉👩‍👩‍👧 leave is one day.",
            "quote.md": "It's 'quoted' \\ and \"double\" & <b> : * | !",
        }
        await ingest(store, "world", *(taken(path, text) for path, text in texts.items()))
        asked = {"休暇": "ja.md", "отпуск": "ru.md", "الإجازة": "ar.md", "छुट्टी": "hi.md", "party": "emoji.md"}
        for question, path in (*asked.items(), ("'quoted' \\ & | ! :*", "quote.md")):
            assert await worded(store, "world", question) == [path]
        for entry in await store.documents("world"):
            document = await store.document("world", entry.id)
            passages = await store.passages("world", entry.id)
            assert [passage.text for passage in passages] == [document.text[p.start : p.end] for p in passages]

    async def test_what_is_listed_and_counted_is_what_may_be_read(self, store: Store) -> None:
        secret = taken("secret.md", "Ann's salary. It is high.", access=("user:ann",))
        await ingest(store, "guide", TRAVEL, secret)
        await ingest(store, "hers", secret)
        await ingest(store, "gone", TRAVEL)
        await ingest(store, "gone", gone=["travel.md"])
        for reader, seen in ((BEN, {"guide": 1}), (Principal(user="ann"), {"guide": 2, "hers": 1})):
            scope = scope_of(reader)
            listed = await store.collections(scope=scope)
            assert {one.name: one.documents for one in listed} == seen
            assert all(one.passages == one.embedded == one.documents for one in listed)
            assert {
                name for name in ("guide", "hers", "gone", "none") if await store.readable(name, scope=scope)
            } == set(seen)
            assert (await store.collection("guide", scope=scope)).characters == sum(
                entry.characters for entry in await store.documents("guide", scope=scope)
            )
        assert [one.name for one in await store.collections()] == ["gone", "guide", "hers"]
        with pytest.raises(ModelFailure, match="no collection 'hers'; there are: guide"):
            await store.collection("hers", scope=scope_of(BEN))
