"""What only a server has: other gateways, restarts, rights, addresses with passwords, a graph behind filters."""

import asyncio
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql

from loam.core.errors import ModelFailure, SettingsError, StorageError
from loam.grounding.library import StoreSettings, open_library
from loam.grounding.postgres import near
from loam.grounding.postgres.store import PostgresStore
from loam.grounding.retrieve import Retrieval
from loam.grounding.store import ALL, Change, Scope
from tests.contracts.store import ENCODER, LEAVE, TRAVEL, ingest, taken, worded

pytestmark = pytest.mark.anyio


async def test_the_settings_choose_the_server(postgres: str, schema: str, tmp_path: Path) -> None:
    library = await open_library(StoreSettings(postgres, schema), tmp_path / "unused.db")
    await ingest(library, "guide", LEAVE)
    (passage,) = await Retrieval(library, ENCODER).search("guide", "sick leave", 1)
    assert passage.url == "leave.md"
    await library.close()
    assert not (tmp_path / "unused.db").exists()


async def test_two_gateways_share_what_either_stores(store: PostgresStore, postgres: str, schema: str) -> None:
    other = await PostgresStore.open(postgres, schema=schema)
    await ingest(store, "guide", LEAVE)
    assert await worded(other, "guide", "sick leave") == ["leave.md"]
    await asyncio.gather(*(ingest(one, "guide", taken("a.md", "# A\n\nAnew.")) for one in (store, other)))
    assert (await store.collection("guide")).documents == 2
    await other.delete("guide")
    assert await store.collections() == ()
    await other.close()


async def test_gateways_that_start_together_make_one_schema(postgres: str, schema: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(postgres, schema=schema) for _ in range(4)))
    await stores[0].apply("guide", Change("s", [LEAVE]))
    assert [len(await store.collections()) for store in stores] == [1, 1, 1, 1]
    for store in stores:
        await store.close()


async def test_connections_that_the_server_dropped_are_replaced_unseen(store: PostgresStore, postgres: str) -> None:
    await ingest(store, "guide", LEAVE)
    async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert await worded(store, "guide", "sick leave") == ["leave.md"]


async def test_a_transaction_that_loses_its_server_says_so_and_changes_nothing(
    store: PostgresStore, postgres: str
) -> None:
    await store.apply("guide", Change("s", [LEAVE]))

    async def broken_off() -> None:
        async with store._connections.write() as connection:
            await connection.execute("DELETE FROM passages")
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(ModelFailure, match="the documents' Postgres cannot be used") as caught:
        await broken_off()
    assert caught.value.failure.kind == "unavailable"
    assert await worded(store, "guide", "sick leave") == ["leave.md"]


async def test_a_store_of_a_newer_loam_is_refused(store: PostgresStore, postgres: str, schema: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            sql.SQL("INSERT INTO {}.migrations VALUES ('documents-999-later', now())").format(sql.Identifier(schema))
        )
    with pytest.raises(StorageError, match=r"made by a newer Loam \(it knows documents-999-later\)"):
        await PostgresStore.open(postgres, schema=schema)


async def test_what_the_user_may_not_do_is_told_with_what_to_run(postgres: str, schema: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        connection.execute("CREATE ROLE guest LOGIN")
    guest = postgres.replace("postgres:@", "guest:@").replace("postgres@", "guest@")
    with pytest.raises(StorageError, match="may not create the schema"):
        await PostgresStore.open(guest, schema=schema)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE guest")


@pytest.mark.parametrize("place", ["missing", "elsewhere"])
async def test_a_database_without_pgvector_in_its_place_is_told(postgres: str, schema: str, place: str) -> None:
    name = f"plain_{place}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = postgres.replace("/postgres?", f"/{name}?")
        with psycopg.connect(url, autocommit=True) as inside:
            if place == "elsewhere":
                inside.execute("CREATE SCHEMA tools")
                inside.execute("CREATE EXTENSION vector SCHEMA tools")
                with pytest.raises(StorageError, match="ALTER EXTENSION vector SET SCHEMA public"):
                    await PostgresStore.open(url, schema=schema)
            else:
                inside.execute("CREATE ROLE visitor LOGIN")
                visitor = url.replace("postgres:@", "visitor:@").replace("postgres@", "visitor@")
                with pytest.raises(StorageError, match="CREATE EXTENSION"):
                    await PostgresStore.open(visitor, schema=schema)
                inside.execute("DROP ROLE visitor")
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://loam:hush-hush@127.0.0.1:1/loam",
        "postgresql://loam@127.0.0.1:1/loam?password=hush-hush",
        "postgresql://loam:hush-hush@no-such-host.invalid/loam",
    ],
)
async def test_a_server_that_is_not_there_is_told_without_its_password(url: str) -> None:
    with pytest.raises(StorageError, match="is it running, and is the address right") as caught:
        await PostgresStore.open(url)
    assert "hush" not in str(caught.value)


async def test_an_address_that_postgres_does_not_understand_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"no address that Postgres understands") as caught:
        await PostgresStore.open("postgresql://a:hush@b/c?colour=blue")
    assert "hush" not in str(caught.value)


async def test_small_scopes_and_large_ones_give_the_true_neighbours(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tenant in fifty, through the graph, beyond it, and compared exactly."""
    some = [
        taken(
            f"{number}.md",
            "# Notes\n\n"
            + "\n\n".join(f"## Part {part}\n\nWord{number * 7 % 23} and term{part} of {number}." for part in range(20)),
            metadata={"tenant": str(number % 50)},
        )
        for number in range(100)
    ]
    await ingest(store, "guide", *some)
    scope = Scope(metadata={"tenant": "7"})
    (vector,) = await ENCODER.embed(["Word3 and term4"])
    ids = [hit.id for hit in (await store.find_near("guide", vector, encoder=ENCODER.id, scope=scope, limit=1000)).hits]
    kept = await store.vectors(ids)
    true = sorted(ids, key=lambda id: (-float(np.float32(vector @ kept[id])), id))[:10]
    assert len(ids) == 40
    for most in (near._EXACT, 0):
        monkeypatch.setattr(near, "_EXACT", most)
        found = await store.find_near("guide", vector, encoder=ENCODER.id, scope=scope, limit=10)
        scores = [float(vector @ kept[hit.id]) for hit in found.hits]
        assert scores == pytest.approx([float(vector @ kept[id]) for id in true], abs=2e-3)
    everything = await store.find_near("guide", vector, encoder=ENCODER.id, scope=ALL, limit=10)
    assert len(everything.hits) == 10


async def test_a_file_and_a_server_find_the_same(store: PostgresStore, tmp_path: Path) -> None:
    index = await open_library(StoreSettings(), tmp_path / "documents.db")
    for library in (store, index):
        await ingest(library, "guide", LEAVE, TRAVEL)
    for question in ("sick leave", "receipts for lodging", "pay period hours"):
        found = [
            [passage.url for passage in await Retrieval(library, ENCODER).search("guide", question, 2)]
            for library in (store, index)
        ]
        assert found[0] == found[1]
    await index.close()
