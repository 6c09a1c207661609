"""An index in a fresh database, and one that holds the handbook."""

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
async def handbook(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Index]:
    database = await Database.open(tmp_path_factory.mktemp("handbook") / "documents.db", MIGRATIONS)
    index = Index(database)
    await ingest_folder(index, "handbook", HANDBOOK, source="handbook")
    yield index
    await database.close()
