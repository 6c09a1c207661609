"""An index in a fresh database, and one that holds the handbook."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loam.grounding.index import MIGRATIONS, Index
from loam.grounding.ingest import HANDBOOK, ingest_folder
from loam.storage.database import Database


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    database = await Database.open(tmp_path / "documents.db", MIGRATIONS)
    yield Index(database)
    await database.close()


@pytest.fixture(scope="session")
def handbook_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handbook's index, built once. It has a loop of its own, so that no other test's loop lives as long."""
    path = tmp_path_factory.mktemp("handbook") / "documents.db"

    async def build() -> None:
        database = await Database.open(path, MIGRATIONS)
        await ingest_folder(Index(database), "handbook", HANDBOOK, source="handbook")
        await database.close()

    asyncio.run(build())
    return path


@pytest.fixture
async def handbook(handbook_file: Path) -> AsyncIterator[Index]:
    database = await Database.open(handbook_file, MIGRATIONS)
    yield Index(database)
    await database.close()
