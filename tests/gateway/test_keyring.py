"""Virtual keys: secrets are shown once and never kept, and a key counts from the moment it is changed."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from loam.core.errors import ModelFailure
from loam.gateway.keyring import MIGRATIONS, KeyChange, Keyring, NewKey
from loam.storage.database import Database
from tests.gateway.still import StillClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "loam.db", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def keyring(database: Database, clock: StillClock) -> Keyring:
    return await Keyring.open(database, clock)


EVERYTHING = NewKey(
    name="notebook",
    user="ada",
    team="red",
    models=("gpt-*",),
    expires=1_900_000_000.0,
    requests_per_minute=60,
    tokens_per_minute=10_000,
    max_parallel=4,
    redaction="redacted",
    admin=True,
)


async def test_a_secret_opens_as_its_principal_also_after_a_restart(
    keyring: Keyring, database: Database, clock: StillClock
) -> None:
    made = await keyring.create(EVERYTHING)
    for ring in (keyring, await Keyring.open(database, clock)):
        principal = ring.identify(made.secret, clock.now())
        assert principal.key_id == made.key.id
        for name in ("user", "team", "models", "requests_per_minute", "tokens_per_minute", "max_parallel"):
            assert getattr(principal, name) == getattr(EVERYTHING, name)
        assert principal.redaction == "redacted"
        assert principal.admin
        assert [structs.replace(key, last_used=None) for key in ring.all()] == [made.key]


async def test_the_secret_is_long_random_and_nowhere_on_disk(keyring: Keyring, database: Database) -> None:
    made = [await keyring.create(NewKey()) for _ in range(3)]
    assert len({one.secret for one in made}) == 3
    await database.close()
    files = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    for one in made:
        assert one.secret.startswith("sk-loam-")
        assert len(one.secret) == len("sk-loam-") + 43
        assert one.secret.encode() not in files
        assert one.secret not in str(one.key)
        assert one.secret.endswith(one.key.hint)


@pytest.mark.parametrize("secret", ["sk-loam-wrong", "sk-proj-of-a-provider", "", "schlüssel\ud800"])
async def test_an_unknown_secret_is_refused_and_never_repeated(
    keyring: Keyring, clock: StillClock, secret: str
) -> None:
    with pytest.raises(ModelFailure) as caught:
        keyring.identify(secret, clock.now())
    failure = caught.value.failure
    assert failure.kind == "authentication"
    assert "loam keys create" in failure.message
    assert not secret or secret not in failure.message


async def test_an_expired_key_is_refused_by_its_name(keyring: Keyring, clock: StillClock) -> None:
    made = await keyring.create(NewKey(name="guest", expires=clock.now() + 10))
    keyring.identify(made.secret, clock.now() + 9)
    with pytest.raises(ModelFailure, match=r"guest\) has expired"):
        keyring.identify(made.secret, clock.now() + 10)


async def test_a_disabled_key_is_out_at_once_and_can_come_back(keyring: Keyring, clock: StillClock) -> None:
    made = await keyring.create(NewKey(name="bot"))
    await keyring.update(made.key.id, KeyChange(disabled=True))
    with pytest.raises(ModelFailure, match="has been disabled"):
        keyring.identify(made.secret, clock.now())
    await keyring.update(made.key.id, KeyChange(disabled=False))
    assert keyring.identify(made.secret, clock.now()).key_id == made.key.id


async def test_a_change_keeps_what_it_does_not_name(keyring: Keyring, database: Database, clock: StillClock) -> None:
    made = await keyring.create(EVERYTHING)
    change = msgspec.json.decode(b'{"requests_per_minute": 5, "tokens_per_minute": null}', type=KeyChange)
    await keyring.update(made.key.id, change)
    for ring in (keyring, await Keyring.open(database, clock)):
        principal = ring.identify(made.secret, clock.now())
        assert principal.requests_per_minute == 5
        assert principal.tokens_per_minute is None
        assert principal.max_parallel == 4
        assert principal.models == ("gpt-*",)


async def test_a_deleted_key_is_gone(keyring: Keyring, database: Database, clock: StillClock) -> None:
    made = await keyring.create(NewKey())
    await keyring.delete(made.key.id)
    with pytest.raises(ModelFailure, match="was deleted"):
        keyring.identify(made.secret, clock.now())
    assert keyring.all() == (await Keyring.open(database, clock)).all() == []
    for attempt in (keyring.delete(made.key.id), keyring.update(made.key.id, KeyChange(name="x"))):
        with pytest.raises(ModelFailure) as caught:
            await attempt
        assert caught.value.failure.kind == "not_found"


@pytest.mark.parametrize("expires", [1.0, 1_800_000_000.0, 1_900_000_000_000.0, float("nan")])
async def test_an_expiry_that_is_past_or_in_milliseconds_is_refused(keyring: Keyring, expires: float) -> None:
    with pytest.raises(ModelFailure) as caught:
        await keyring.create(NewKey(expires=expires))
    assert caught.value.failure.param == "expires"
    made = await keyring.create(NewKey())
    with pytest.raises(ModelFailure):
        await keyring.update(made.key.id, KeyChange(expires=expires))


async def test_the_first_start_makes_an_administrator_and_later_ones_do_not(
    keyring: Keyring, database: Database, clock: StillClock
) -> None:
    secret = await keyring.ensure_admin()
    assert secret is not None
    assert keyring.identify(secret, clock.now()).admin
    again = await Keyring.open(database, clock)
    assert await again.ensure_admin() is None
    await again.update(again.all()[0].id, KeyChange(disabled=True))
    assert await again.ensure_admin() is not None


async def test_the_last_use_is_written_now_and_then_and_at_the_end(
    keyring: Keyring, database: Database, clock: StillClock
) -> None:
    made = await keyring.create(NewKey())
    began = clock.now()

    async def kept() -> float | None:
        query = "SELECT last_used FROM keys"
        return await database.read(lambda c: c.execute(query).fetchone()[0])

    keyring.identify(made.secret, began)
    clock.pass_by(30)
    keyring.identify(made.secret, clock.now())
    await database.write(lambda c: None)
    assert await kept() == began
    assert keyring.get(made.key.id).last_used == began + 30
    await keyring.close()
    assert await kept() == began + 30


async def test_a_use_that_cannot_be_written_stops_nobody(
    keyring: Keyring, database: Database, clock: StillClock
) -> None:
    made = await keyring.create(NewKey())

    def break_table(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE keys RENAME COLUMN last_used TO used")

    await database.write(break_table)
    assert keyring.identify(made.secret, clock.now()).key_id == made.key.id
    await database.write(lambda c: None)
