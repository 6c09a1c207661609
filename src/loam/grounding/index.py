"""Collections in one SQLite file: the store that needs no server.

Puts the rooms together: `changes` writes, `catalogue` reads, `lexical` and `vectors` search. Each method is one
transaction. Needs no library but Python's own until vectors are searched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam.core.calls import Passage, Principal
from loam.core.ports import AS_USUAL, NOBODY, Found, SearchOptions
from loam.grounding import catalogue, changes, lexical, staging
from loam.grounding.catalogue import snapshot
from loam.grounding.extras import extra
from loam.grounding.retrieve import Retrieval
from loam.grounding.search_settings import SEARCH, SearchSettings
from loam.grounding.store import (
    ALL,
    Change,
    Collection,
    DocumentEntry,
    Fetched,
    Held,
    Hits,
    Scope,
    StoredDocument,
    Text,
    check_access,
    check_name,
)
from loam.grounding.tables import MIGRATIONS
from loam.storage.database import Database

if TYPE_CHECKING:
    from loam.grounding.store import Vectors

__all__ = ["MIGRATIONS", "Index"]


class Index:
    """A Store. Use `Index.open` for a file that an older program may have written.

    ```python
    index = await Index.open(folder / "documents.db")
    passages = await index.search("handbook", "Who approves leave?", 5)
    ```
    """

    def __init__(self, database: Database, settings: SearchSettings = SEARCH, *, derived: Path | None = None) -> None:
        self._database = database
        self._settings = settings
        self._derived = derived or database.path.with_suffix(".derived")
        self._matrices: Any = None

    @classmethod
    async def open(cls, path: Path, settings: SearchSettings = SEARCH) -> "Index":
        """Opens or makes the file and brings it up to date. Raises StorageError."""
        database = await Database.open(path, MIGRATIONS)
        await database.write(changes.renew)
        return cls(database, settings)

    async def close(self) -> None:
        """Stops what is being built, and closes the file."""
        if self._matrices is not None:
            await self._matrices.close()
        await self._database.close()

    async def search(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> tuple[Passage, ...]:
        """What a `Retrieval` without an encoder finds: by words alone. Raises ModelFailure (not_found)."""
        return await Retrieval(self).search(collection, question, limit, principal=principal, options=options)

    async def look(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> Found:
        """As `search`, with how it was searched."""
        return await Retrieval(self).look(collection, question, limit, principal=principal, options=options)

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        """The collection's revision. Raises ModelFailure (not_found)."""
        return await self._database.read(snapshot(lambda c: catalogue.revision(c, collection, principal)))

    async def collections(self, *, scope: Scope = ALL) -> tuple[Collection, ...]:
        """By name, those that the scope sees a document of, counted as far as it sees them; all, where it sees all."""
        return await self._database.read(snapshot(lambda c: catalogue.collections(c, scope)))

    async def collection(self, name: str, *, scope: Scope = ALL) -> Collection:
        """One collection. Raises ModelFailure (not_found)."""
        return await self._database.read(snapshot(lambda c: catalogue.collection(c, name, scope)))

    async def readable(self, collection: str, *, scope: Scope) -> bool:
        """Whether the scope sees a document of the collection; it sees none of one that is not there."""
        return await self._database.read(snapshot(lambda c: catalogue.readable(c, collection, scope)))

    async def documents(
        self, collection: str, *, after: str = "", limit: int = 1000, scope: Scope = ALL
    ) -> tuple[DocumentEntry, ...]:
        """The documents by path, from beyond the document with the id `after`. Raises ModelFailure (not_found)."""
        return await self._database.read(
            snapshot(lambda c: catalogue.documents(c, collection, after=after, limit=limit, scope=scope))
        )

    async def document(self, collection: str, document_id: str, *, scope: Scope = ALL) -> StoredDocument:
        """A document with its text. Raises ModelFailure (not_found)."""
        return await self._database.read(snapshot(lambda c: catalogue.document(c, collection, document_id, scope)))

    async def passages(self, collection: str, document_id: str, *, scope: Scope = ALL) -> tuple[Passage, ...]:
        """A document's passages in order. Raises ModelFailure (not_found)."""
        return await self._database.read(snapshot(lambda c: catalogue.passages(c, collection, document_id, scope)))

    async def held(self, collection: str, source: str) -> dict[str, Held]:
        """By path, what the collection has from a source; empty for a collection that is not there."""
        return await self._database.read(lambda c: catalogue.held(c, collection, source))

    async def apply(self, collection: str, change: Change) -> Collection:
        """Makes the collection if it is new, and changes it, all or nothing.

        Raises ModelFailure (bad_request) for a name that no collection can have, and for readers that nobody can be.
        """
        check_name(collection)
        for taken in change.taken:
            check_access(taken.access)
        return await self._database.write(lambda c: changes.apply(c, collection, change))

    async def delete(self, collection: str, document_id: str | None = None) -> None:
        """Drops a document, or the collection with all it holds. Raises ModelFailure (not_found)."""
        await self._database.write(lambda c: changes.delete(c, collection, document_id))

    async def find_words(self, collection: str, question: str, *, scope: Scope, limit: int) -> Hits:
        """The passages in scope whose words fit the question best. Raises ModelFailure (not_found)."""

        def found(connection: Any) -> Hits:
            known = catalogue.known(connection, collection)
            hits = lexical.search(connection, known.id, question, passages=known.passages, scope=scope, limit=limit)
            return Hits(known.stamp, tuple(hits))

        return await self._database.read(snapshot(found))

    async def find_near(self, collection: str, vector: "Vectors", *, encoder: str, scope: Scope, limit: int) -> Hits:
        """The passages in scope whose vectors are nearest. Raises ModelFailure (not_found)."""
        if self._matrices is None:
            vectors = extra("loam.grounding.vectors")
            self._matrices = vectors.Matrices(self._database, self._settings, folder=self._derived)
        return await self._matrices.near(collection, vector, encoder=encoder, scope=scope, limit=limit)

    async def fetch(self, collection: str, ids: Sequence[int], *, scope: Scope, neighbours: int = 0) -> Fetched:
        """The passages of these ids that are in scope, each grown by so many neighbours on either side."""

        def found(connection: Any) -> Fetched:
            passages = catalogue.fetched(connection, collection, ids, scope=scope, neighbours=neighbours)
            return Fetched(catalogue.known(connection, collection).stamp, passages)

        return await self._database.read(snapshot(found))

    async def vectors(self, ids: Sequence[int]) -> "dict[int, Vectors]":
        """The vectors of these passages, where they have one."""
        kept = await self._database.read(lambda c: extra("loam.grounding.vectors").read_vectors(c, ids))
        return dict(zip(kept.ids.tolist(), kept.values, strict=True))

    async def unembedded(self, collection: str, encoder: str, limit: int) -> list[Text]:
        """Texts of the collection's passages that have no vector of this encoder, neither stored nor staged."""
        return await self._database.read(snapshot(lambda c: catalogue.unembedded(c, collection, encoder, limit)))

    async def unstaged(self, encoder: str, digests: Sequence[str]) -> set[str]:
        """Which of these texts no vector is known of; those that other passages have are staged on the way."""
        return await self._database.write(lambda c: staging.unstaged(c, encoder, digests))

    async def stage(self, encoder: str, digests: Sequence[str], vectors: "Vectors") -> None:
        """Keeps vectors for the run that will apply them; one that is broken off finds them again."""
        halves = [row.astype("float16").tobytes() for row in vectors]
        await self._database.write(lambda c: staging.stage(c, encoder, list(zip(digests, halves, strict=True))))

    async def arrive(self, contents: Sequence[bytes]) -> tuple[str, ...]:
        """Keeps bytes that a later mirroring will name by the hashes that this gives."""
        return await self._database.write(lambda c: staging.arrive(c, contents))

    async def arrived(self, hashes: Sequence[str]) -> set[str]:
        """Which of these bytes are here."""
        return await self._database.read(lambda c: staging.arrived(c, hashes))

    async def content(self, hash: str) -> bytes | None:
        """Bytes that arrived, None where they did not."""
        return await self._database.read(lambda c: staging.content(c, hash))

    async def forget(self, hashes: Sequence[str]) -> None:
        """Drops bytes that were taken in, and those that nobody asked for in weeks."""
        await self._database.write(lambda c: staging.forget(c, hashes))
