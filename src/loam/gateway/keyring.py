"""Virtual keys: who may come in, as whom, and how much.

Knows the table `keys` and holds all of it in memory. Does not know HTTP, and not how limits are kept (`limits`).
Invariant: a secret is shown once, when it is made; kept is its SHA-256, which is safe without salt because a secret is
256 random bits, and which makes the check of a request one hash and one look-up.

```python
keyring = await Keyring.open(database, clock)
made = await keyring.create(NewKey(name="notebook", user="ada", requests_per_minute=60))
keyring.identify(made.secret, clock.now()).user  # "ada"
```
"""

import asyncio
import os
import secrets
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from loam.core.calls import Principal
from loam.core.clock import Clock, new_id
from loam.core.errors import ModelFailure, refuse
from loam.storage.database import Database
from loam.storage.migrations import Migration

PREFIX = "sk-loam-"
_USE_KEPT = 60.0  # seconds between two writes of when a key was last used

MIGRATIONS = (
    Migration(
        "keyring-001-keys",
        """
        CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            record TEXT NOT NULL,
            last_used REAL
        );
        """,
    ),
)

Redaction = Literal["none", "redacted", "full"]
PerMinute = Annotated[int, Meta(ge=1, le=10**12)]
Name = Annotated[str, Meta(max_length=200)]
Patterns = Annotated[tuple[Name, ...], Meta(max_length=1000)]


class NewKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key is made with. `expires` is in seconds since 1970 UTC; a limit left out does not limit."""

    name: Name = ""
    user: Name = ""
    team: Name = ""
    models: Annotated[Patterns, Meta(description="Model names or patterns it may ask; none means all.")] = ()
    expires: float | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    max_parallel: Annotated[PerMinute | None, Meta(description="Calls that may run at the same time.")] = None
    redaction: Annotated[Redaction, Meta(description="What the ledger leaves out of this key's calls.")] = "none"
    admin: bool = False


class KeyChange(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What to change; what is left out stays, and null takes a limit or an expiry away."""

    name: Name | UnsetType = UNSET
    user: Name | UnsetType = UNSET
    team: Name | UnsetType = UNSET
    models: Patterns | UnsetType = UNSET
    expires: float | UnsetType | None = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    tokens_per_minute: PerMinute | UnsetType | None = UNSET
    max_parallel: PerMinute | UnsetType | None = UNSET
    redaction: Redaction | UnsetType = UNSET
    admin: bool | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class Key(NewKey, frozen=True, kw_only=True):
    """A key as it may be shown: `hint` is the last four characters of its secret."""

    id: str
    hint: str
    created: float
    disabled: bool = False
    last_used: float | None = None


class MadeKey(Struct, frozen=True):
    """A new key with its secret, which is never shown again."""

    secret: str
    key: Key


class _Entry:
    """A key in memory. `use_kept` is the last use that is in the database."""

    __slots__ = ("digest", "expires", "key", "last_used", "principal", "use_kept")

    def __init__(self, key: Key, digest: bytes) -> None:
        self.digest = digest
        self.last_used = self.use_kept = key.last_used or 0.0
        self.take(key)

    def take(self, key: Key) -> None:
        self.key = key
        self.expires = 0.0 if key.disabled else float("inf") if key.expires is None else key.expires
        self.principal = Principal(
            key_id=key.id,
            user=key.user,
            team=key.team,
            admin=key.admin,
            models=key.models,
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            max_parallel=key.max_parallel,
            redaction=key.redaction,
        )

    def shown(self) -> Key:
        return structs.replace(self.key, last_used=self.last_used or None)


class Keyring:
    """Use `Keyring.open`. `random(n)` gives n random bytes."""

    def __init__(self, database: Database, clock: Clock, random: Callable[[int], bytes], entries: list[_Entry]) -> None:
        self._database = database
        self._clock = clock
        self._random = random
        self._by_digest = {entry.digest: entry for entry in entries}
        self._by_id = {entry.key.id: entry for entry in entries}

    @classmethod
    async def open(
        cls, database: Database, clock: Clock, *, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> "Keyring":
        """Loads every key."""
        rows = await database.read(lambda c: c.execute("SELECT record, last_used, digest FROM keys").fetchall())
        keys = [structs.replace(msgspec.json.decode(row[0], type=Key), last_used=row[1]) for row in rows]
        return cls(database, clock, random, [_Entry(key, row[2]) for key, row in zip(keys, rows, strict=True)])

    def identify(self, secret: str, now: float) -> Principal:
        """Who holds this secret. Raises ModelFailure (authentication) when nobody may come in with it."""
        entry = self._by_digest.get(_digest(secret))
        if entry is None or now >= entry.expires:
            raise _turned_away(secret, entry)
        entry.last_used = now
        if now - entry.use_kept >= _USE_KEPT:
            self._keep_use(entry)
        return entry.principal

    async def create(self, new: NewKey) -> MadeKey:
        """Makes a key. Raises ModelFailure (bad_request) for an expiry that has passed."""
        now = self._clock.now()
        _check_expiry(new.expires, now)
        secret = PREFIX + urlsafe_b64encode(self._random(32)).rstrip(b"=").decode()
        key = Key(**structs.asdict(new), id=new_id("key", now), hint=secret[-4:], created=now)
        entry = _Entry(key, _digest(secret))
        record = msgspec.json.encode(key).decode()

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO keys (id, digest, record) VALUES (?, ?, ?)", (key.id, entry.digest, record))

        await self._database.write(insert)
        self._by_digest[entry.digest] = self._by_id[key.id] = entry
        return MadeKey(secret, key)

    async def update(self, key_id: str, change: KeyChange) -> Key:
        """Changes a key from the next request on. Raises ModelFailure (not_found, bad_request)."""
        entry = self._entry(key_id)
        wanted = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
        if "expires" in wanted:
            _check_expiry(wanted["expires"], self._clock.now())
        entry.take(structs.replace(entry.key, **wanted))  # before the write, so that a disabled key is out at once
        record = msgspec.json.encode(entry.key).decode()
        await self._database.write(lambda c: c.execute("UPDATE keys SET record = ? WHERE id = ?", (record, key_id)))
        return entry.shown()

    async def delete(self, key_id: str) -> None:
        """Forgets a key. Raises ModelFailure (not_found)."""
        entry = self._entry(key_id)
        del self._by_id[key_id], self._by_digest[entry.digest]
        await self._database.write(lambda c: c.execute("DELETE FROM keys WHERE id = ?", (key_id,)))

    def get(self, key_id: str) -> Key:
        """One key. Raises ModelFailure (not_found)."""
        return self._entry(key_id).shown()

    def renew(self, principal: Principal, now: float) -> Principal:
        """Somebody who came in earlier, as their key is now. Raises ModelFailure for a key that opens no more."""
        if not principal.key_id.startswith("key_"):  # came in without a key
            return principal
        entry = self._entry(principal.key_id)
        if now >= entry.expires:
            raise _turned_away("", entry)
        return entry.principal

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        return sorted((entry.shown() for entry in self._by_id.values()), key=lambda key: key.created)

    async def ensure_admin(self) -> str | None:
        """Makes an administrator's key where none can be used, and returns its secret, the only time it is known."""
        now = self._clock.now()
        if any(entry.key.admin and now < entry.expires for entry in self._by_id.values()):
            return None
        made = await self.create(NewKey(name="first administrator", user="admin", admin=True))
        return made.secret

    async def close(self) -> None:
        """Keeps the last uses that are not in the database yet."""
        waiting = [self._keep_use(entry) for entry in self._by_id.values() if entry.last_used > entry.use_kept]
        await asyncio.gather(*waiting, return_exceptions=True)

    def _entry(self, key_id: str) -> _Entry:
        entry = self._by_id.get(key_id)
        if entry is None:
            raise refuse("not_found", f"there is no key {key_id!r}; `loam keys list` shows them")
        return entry

    def _keep_use(self, entry: _Entry) -> "asyncio.Future[Any]":
        entry.use_kept = used = entry.last_used
        key_id = entry.key.id
        write = self._database.submit(lambda c: c.execute("UPDATE keys SET last_used = ? WHERE id = ?", (used, key_id)))
        write.add_done_callback(_unheeded)
        return write


def _unheeded(write: "asyncio.Future[Any]") -> None:
    """A last use that could not be kept is not worth a call: its failure is taken note of, and that is all."""
    if not write.cancelled():
        write.exception()


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _check_expiry(expires: float | None, now: float) -> None:
    if expires is not None and not now < expires < 1e11:
        raise refuse(
            "bad_request",
            "`expires` must be a time to come, in seconds since 1970 UTC (not milliseconds)",
            param="expires",
        )


def _turned_away(secret: str, entry: _Entry | None) -> ModelFailure:
    """Why not, without the secret: an error text ends up in logs."""
    if entry is not None:
        what = "has been disabled" if entry.key.disabled else "has expired"
        return refuse(
            "authentication",
            f"the key {entry.key.id} ({entry.key.name or 'without a name'}) {what}; "
            "ask an administrator of this gateway for another",
            code="invalid_api_key",
        )
    if secret.startswith(PREFIX):
        hint = "it is not one of this gateway's keys, or was deleted"
    elif secret:
        hint = f"this gateway's keys begin with {PREFIX}, and a provider's own key belongs into its settings, not here"
    else:
        hint = "the secret is empty"
    return refuse(
        "authentication", f"the key is not known: {hint}; make one with: loam keys create", code="invalid_api_key"
    )


async def first_key(keyring: Keyring, folder: Path) -> str:
    """Makes the administrator's key on the first start, and keeps it where only the owner of the folder reads it."""
    secret = await keyring.ensure_admin()
    if secret is None:
        return ""
    descriptor = os.open(folder / "admin-key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    return secret
