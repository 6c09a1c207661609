"""`loam.grounding.store.Store` in a Postgres with pgvector.

Knows the doors; what lies behind each, the other modules of this folder know. Several gateways may use one schema.
Invariant: every method is one transaction: what it reads is one state, what it changes is kept whole or not at all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loam.core.calls import Passage, Principal
from loam.core.errors import ModelFailure, StorageError
from loam.grounding.postgres import catalogue, changes, near, staging, words
from loam.grounding.postgres.connections import Connections
from loam.grounding.postgres.tables import migrate
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
    lacking,
)


class PostgresStore:
    """Use `PostgresStore.open`.

    ```python
    store = await PostgresStore.open("postgresql://loam@db.internal/loam")
    hits = await store.find_words("handbook", "Who approves leave?", scope=ALL, limit=20)
    await store.close()
    ```
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, url: str, *, schema: str = "loam") -> "PostgresStore":
        """Makes the schema or brings it up to date.

        Raises StorageError where the server cannot be used, SettingsError for an address that is none.
        """
        connections = Connections(url, schema)
        try:
            async with connections.write() as connection:
                await migrate(connection, schema)
        except ModelFailure as error:
            raise StorageError(f"{error}; is it running, and is the address right?") from error
        except StorageError:
            await connections.close()
            raise
        return cls(connections)

    async def close(self) -> None:
        await self._connections.close()

    async def collections(self, *, scope: Scope = ALL) -> tuple[Collection, ...]:
        async with self._connections.read() as connection:
            return await catalogue.collections(connection, scope)

    async def collection(self, name: str, *, scope: Scope = ALL) -> Collection:
        async with self._connections.read() as connection:
            return await catalogue.collection(connection, name, scope)

    async def readable(self, collection: str, *, scope: Scope) -> bool:
        async with self._connections.read() as connection:
            return await catalogue.readable(connection, collection, scope)

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        async with self._connections.read() as connection:
            return await catalogue.revision(connection, collection, principal)

    async def documents(
        self, collection: str, *, after: str = "", limit: int = 1000, scope: Scope = ALL
    ) -> tuple[DocumentEntry, ...]:
        async with self._connections.read() as connection:
            return await catalogue.documents(connection, collection, after=after, limit=limit, scope=scope)

    async def document(self, collection: str, document_id: str, *, scope: Scope = ALL) -> StoredDocument:
        async with self._connections.read() as connection:
            return await catalogue.document(connection, collection, document_id, scope)

    async def passages(self, collection: str, document_id: str, *, scope: Scope = ALL) -> tuple[Passage, ...]:
        async with self._connections.read() as connection:
            return await catalogue.passages(connection, collection, document_id, scope)

    async def held(self, collection: str, source: str) -> dict[str, Held]:
        async with self._connections.read() as connection:
            return await catalogue.held(connection, collection, source)

    async def apply(self, collection: str, change: Change) -> Collection:
        check_name(collection)
        for taken in change.taken:
            check_access(taken.access)
        async with self._connections.write() as connection:
            return await changes.apply(connection, collection, change)

    async def delete(self, collection: str, document_id: str | None = None) -> None:
        async with self._connections.write() as connection:
            await changes.delete(connection, collection, document_id)

    async def find_words(self, collection: str, question: str, *, scope: Scope, limit: int) -> Hits:
        async with self._connections.read() as connection:
            found = await catalogue.known(connection, collection)
            hits = await words.search(connection, found.id, question, passages=found.passages, scope=scope, limit=limit)
            return Hits(found.stamp, tuple(hits))

    async def find_near(
        self, collection: str, vector: NDArray[np.float32], *, encoder: str, scope: Scope, limit: int
    ) -> Hits:
        async with self._connections.read() as connection:
            found = await catalogue.known(connection, collection)
            note = lacking(collection, found, encoder)
            if not found.embedded or found.encoder != encoder:
                return Hits(found.stamp, (), note)
            hits = await near.search(connection, found.id, vector, scope=scope, limit=limit)
            return Hits(found.stamp, tuple(hits), note)

    async def fetch(self, collection: str, ids: Sequence[int], *, scope: Scope, neighbours: int = 0) -> Fetched:
        async with self._connections.read() as connection:
            found = await catalogue.known(connection, collection)
            rows = await catalogue.fetched(connection, collection, ids, scope=scope, neighbours=neighbours)
            return Fetched(found.stamp, rows)

    async def vectors(self, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        async with self._connections.read() as connection:
            return await near.vectors(connection, ids)

    async def unembedded(self, collection: str, encoder: str, limit: int) -> list[Text]:
        async with self._connections.read() as connection:
            return await catalogue.unembedded(connection, collection, encoder, limit)

    async def unstaged(self, encoder: str, digests: Sequence[str]) -> set[str]:
        async with self._connections.write() as connection:
            return await staging.unstaged(connection, encoder, digests)

    async def stage(self, encoder: str, digests: Sequence[str], vectors: NDArray[np.float32]) -> None:
        async with self._connections.write() as connection:
            await staging.stage(connection, encoder, digests, vectors)

    async def arrive(self, contents: Sequence[bytes]) -> tuple[str, ...]:
        async with self._connections.write() as connection:
            return await staging.arrive(connection, contents)

    async def arrived(self, hashes: Sequence[str]) -> set[str]:
        async with self._connections.read() as connection:
            return await staging.arrived(connection, hashes)

    async def content(self, hash: str) -> bytes | None:
        async with self._connections.read() as connection:
            return await staging.content(connection, hash)

    async def forget(self, hashes: Sequence[str]) -> None:
        async with self._connections.write() as connection:
            await staging.forget(connection, hashes)
