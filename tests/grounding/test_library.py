import subprocess
import sys
from pathlib import Path

import pytest

from loam.core.errors import SettingsError
from loam.grounding.library import StoreSettings, check_address, open_library, shown

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://loam:p%40ss@db.internal/loam",
        "postgres://db",
        "postgresql:///loam?host=/run/postgresql",
        "postgresql://loam:x@[::1]:5432/loam",
        "postgresql://loam@one:5432,two:5433/loam?target_session_attrs=read-write",
        "postgresql://postgres:@/postgres?host=/tmp/a",
    ],
)
def test_addresses_that_are_some(url: str) -> None:
    check_address(url)
    assert "p%40ss" not in shown(url)


@pytest.mark.parametrize(
    "url",
    [
        "hush",
        "mysql://loam:hush@db/loam",
        "postgresql://loam:hush@hush@db/loam",
        "postgresql://loam:hush/hush@db/loam",
        "postgresql://loam:hush#hush@db/loam",
        "postgresql://loam:hush?hush@db/loam#x",
        "postgresql://loam:hush@db:hush/loam",
    ],
)
async def test_an_address_that_is_none_is_refused_unseen(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"grounding\.store\.url is no address of a Postgres") as caught:
        await open_library(StoreSettings(url), tmp_path / "documents.db")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("", ""),
        ("postgresql://loam:hush@db:5/loam", "postgresql://loam:•••@db:5/loam"),
        ("postgresql://loam@db/loam?password=hush", "postgresql://loam@db/loam?•••"),
        ("postgresql://loam:hu@sh@db/loam", "postgresql://loam:•••@db/loam"),
        ("postgresql://[hush", "•••"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_a_missing_library_is_told_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    """In an interpreter of its own, where psycopg cannot be found."""
    program = (
        "import sys, asyncio, pathlib; sys.modules['psycopg'] = None\n"
        "from loam.grounding.library import StoreSettings, open_library\n"
        "try: asyncio.run(open_library(StoreSettings('postgresql://a:hush@b/c'), pathlib.Path('x.db')))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert run.stdout == "SettingsError this needs psycopg, which is not installed; pip install 'loam[postgres]'\n"
