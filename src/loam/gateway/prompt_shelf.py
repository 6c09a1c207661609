"""Prompts on the shelf: every version ever pushed, and the labels that say which one is asked.

Knows its three tables and holds all versions in memory, parsed. Does not know HTTP, nor how a prompt becomes messages.
Invariants: a version never changes and never goes; a label moves in one transaction together with its line of history,
so that who reads sees the old version or the new one, and can say since when and by whom.

```python
shelf = await PromptShelf.open(database, clock)
version = await shelf.push(NewVersion(name="support", text=text), by="ada")
await shelf.move("support", "prod", Move(to=version.hash), by="ada")
shelf.find("support@prod").prompt.model
```
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from loam.core.clock import Clock
from loam.core.errors import ModelFailure, SettingsError, refuse
from loam.prompting.prompts import HASH, LABEL, NAME, Prompt, parsed
from loam.storage.database import Database
from loam.storage.migrations import Migration

DEFAULT_LABEL = "prod"
FOLDER = "folder"
"""Who moves labels to the files of the settings' folder."""

MIGRATIONS = (
    Migration(
        "prompts-001",
        """
CREATE TABLE prompt_versions (
    name TEXT NOT NULL,
    hash TEXT NOT NULL, -- SHA-256 of what the text says
    text TEXT NOT NULL, -- the file as it was pushed first
    at REAL NOT NULL, -- seconds since 1970 UTC
    by TEXT NOT NULL,
    PRIMARY KEY (name, hash)
);
CREATE TABLE prompt_labels (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (name, label),
    FOREIGN KEY (name, hash) REFERENCES prompt_versions (name, hash)
);
CREATE TABLE prompt_moves (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    at REAL NOT NULL,
    by TEXT NOT NULL,
    from_hash TEXT NOT NULL, -- empty: the label was new
    to_hash TEXT NOT NULL -- empty: the label was taken away
);
CREATE INDEX prompt_moves_by_name ON prompt_moves (name, id);
""",
    ),
)

Text = Annotated[str, Meta(max_length=1_000_000)]
Ref = Annotated[str, Meta(max_length=64)]
Name = Annotated[str, Meta(pattern=f"^{NAME}$")]
Label = Annotated[str, Meta(pattern=f"^{LABEL}$")]


class NewVersion(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A prompt's file. `name` outranks the one in its front matter; `label` is moved to it at once."""

    name: Name | None = None
    text: Text
    label: Label | None = None


class Move(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a label goes: a hash, its first eight characters or more, or another label; empty takes it away.

    With `expected` (a hash, or empty for none) the move is refused where the label stands elsewhere by now.
    """

    to: Ref
    expected: Ref | None = None


class Version(Struct, frozen=True):
    """One version of a prompt; `labels` are those that stand on it now."""

    name: str
    hash: str
    text: str
    at: float
    by: str
    labels: list[str] = []


class Moved(Struct, frozen=True):
    """One line of a label's history; an empty hash stands for none."""

    name: str
    label: str
    at: float
    by: str
    from_hash: str
    to_hash: str


class Found(Struct, frozen=True):
    """What a name stands for; `label` is empty where it was named by its hash."""

    name: str
    hash: str
    label: str
    prompt: Prompt


class _Kept(Struct):
    """A prompt in memory: its versions by hash in the order they came, and where its labels stand."""

    versions: dict[str, tuple[Version, Prompt]]
    labels: dict[str, str]


class PromptShelf:
    """Use `PromptShelf.open`."""

    def __init__(self, database: Database, clock: Clock, kept: dict[str, _Kept]) -> None:
        self._database = database
        self._clock = clock
        self._kept = kept

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> "PromptShelf":
        """Loads every version and label."""
        return cls(database, clock, await database.read(_load))

    def find(self, wanted: str) -> Found:
        """What NAME, NAME@LABEL or NAME@HASH stands for. Raises ModelFailure (not_found, bad_request)."""
        name, _, ref = wanted.partition("@")
        kept = self._of(name)
        label = "" if _is_hash(ref) else ref or DEFAULT_LABEL
        digest = self._hash(name, kept, ref or DEFAULT_LABEL)
        return Found(name, digest, label, kept.versions[digest][1])

    def version(self, name: str, ref: str) -> Version:
        """One version with its text. Raises ModelFailure (not_found, bad_request)."""
        kept = self._of(name)
        return _shown(kept, self._hash(name, kept, ref))

    def versions(self, name: str) -> list[Version]:
        """All of a prompt's, the newest first. Raises ModelFailure (not_found)."""
        kept = self._of(name)
        return [_shown(kept, digest) for digest in reversed(kept.versions)]

    def labels(self, name: str) -> dict[str, str]:
        """Where a prompt's labels stand. Raises ModelFailure (not_found)."""
        return dict(self._of(name).labels)

    def names(self) -> list[str]:
        return sorted(self._kept)

    def asked(self) -> dict[str, str]:
        """Every NAME@LABEL that can be asked, with the model that it asks."""
        return {
            f"{name}@{label}": kept.versions[digest][1].model
            for name, kept in sorted(self._kept.items())
            for label, digest in sorted(kept.labels.items())
        }

    async def push(self, new: NewVersion, *, by: str) -> Version:
        """Keeps a version, if its content is new, and moves `label` to it. Raises ModelFailure (bad_request)."""
        own, prompt = parsed(new.text)
        name = new.name or own
        if not re.fullmatch(NAME, name):
            raise refuse("bad_request", f"{name!r} is no name for a prompt: small letters, digits, - _ .", param="name")
        if new.label:
            _check_label(new.label)
        digest, now = prompt.hash, self._clock.now()
        version = Version(name, digest, new.text, now, by)

        def insert(connection: sqlite3.Connection) -> None:
            row = (name, digest, new.text, now, by)
            connection.execute("INSERT OR IGNORE INTO prompt_versions VALUES (?, ?, ?, ?, ?)", row)
            if new.label:
                _move(connection, Moved(name, new.label, now, by, "", digest), None)

        await self._database.write(insert)
        kept = self._kept.setdefault(name, _Kept({}, {}))
        kept.versions.setdefault(digest, (version, prompt))
        if new.label:
            kept.labels[new.label] = digest
        return _shown(kept, digest)

    async def move(self, name: str, label: str, move: Move, *, by: str) -> Moved:
        """Moves or takes away a label. Raises ModelFailure: not_found, bad_request; conflict as `Move` says."""
        kept = self._of(name)
        if not re.fullmatch(LABEL, label) or _is_hash(label):
            raise refuse(
                "bad_request", f"{label!r} is no label: a word in small letters, not like a hash", param="label"
            )
        digest = self._hash(name, kept, move.to) if move.to else ""
        wish = Moved(name, label, self._clock.now(), by, "", digest)
        moved: Moved = await self._database.write(lambda connection: _move(connection, wish, move.expected))
        if digest:
            kept.labels[label] = digest
        else:
            kept.labels.pop(label, None)
        return moved

    async def history(self, name: str, *, limit: int = 100) -> list[Moved]:
        """A prompt's labels' moves, the latest first. Raises ModelFailure (not_found)."""
        self._of(name)
        query = (
            "SELECT name, label, at, by, from_hash, to_hash FROM prompt_moves WHERE name = ? ORDER BY id DESC LIMIT ?"
        )
        rows = await self._database.read(lambda c: c.execute(query, (name, limit)).fetchall())
        return [Moved(*row) for row in rows]

    async def take(self, files: Mapping[str, str], label: str) -> list[str]:
        """Pushes the files of a folder, by name, and moves `label` to those that changed since they were last taken.

        A label that somebody moved since stays where it is until the file changes. Returns what went wrong, by file.
        """
        problems: list[str] = []
        for name, text in files.items():
            try:
                version = await self.push(NewVersion(name=name, text=text), by=FOLDER)
                before = [one for one in await self.history(name, limit=1000) if (one.label, one.by) == (label, FOLDER)]
                if not before or before[0].to_hash != version.hash:
                    await self.move(name, label, Move(to=version.hash), by=FOLDER)
            except ModelFailure as error:
                problems.append(f"the prompt {name} is left out: {error}")
        return problems

    def _of(self, name: str) -> _Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise refuse("not_found", f"there is no prompt {name!r}; `loam prompts list` shows them", param="model")
        return kept

    def _hash(self, name: str, kept: _Kept, ref: str) -> str:
        if _is_hash(ref):
            found = [digest for digest in kept.versions if digest.startswith(ref)]
            if len(found) == 1:
                return found[0]
            what = "no version" if not found else "more than one version"
            raise refuse("not_found", f"{what} of the prompt {name!r} has a hash that begins {ref}", param="model")
        digest = kept.labels.get(ref)
        if digest is None:
            there = ", ".join(sorted(kept.labels)) or "none; set one with: loam prompts label"
            raise refuse("not_found", f"the prompt {name!r} has no label {ref!r}; it has: {there}", param="model")
        return digest


def read_folder(folder: str) -> dict[str, str]:
    """The texts of a folder's *.md files by their names. Raises SettingsError where it cannot be read."""
    place = Path(folder)
    if not place.is_dir():
        raise SettingsError(f"[prompts] folder is {folder!r}, which is no folder")
    try:
        return {path.stem: path.read_text("utf-8") for path in sorted(place.glob("*.md"))}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"[prompts] a file in {folder} cannot be read: {error}") from error


def _is_hash(ref: str) -> bool:
    return re.fullmatch(HASH, ref) is not None


def _check_label(label: str) -> None:
    if not re.fullmatch(LABEL, label) or _is_hash(label):
        raise refuse("bad_request", f"{label!r} is no label: a word in small letters, not like a hash", param="label")


def _shown(kept: _Kept, digest: str) -> Version:
    version = kept.versions[digest][0]
    labels = sorted(label for label, at in kept.labels.items() if at == digest)
    return Version(version.name, digest, version.text, version.at, version.by, labels)


def _move(connection: sqlite3.Connection, wish: Moved, expected: str | None) -> Moved:
    place = (wish.name, wish.label)
    row = connection.execute("SELECT hash FROM prompt_labels WHERE name = ? AND label = ?", place).fetchone()
    before: str = row[0] if row else ""
    if expected is not None and (not before.startswith(expected) if expected else before):
        stands = before[:12] or "nowhere"
        raise refuse("conflict", f"the label {wish.label!r} stands on {stands} by now, not where you expect it")
    if wish.to_hash:
        connection.execute("INSERT OR REPLACE INTO prompt_labels VALUES (?, ?, ?)", (*place, wish.to_hash))
    else:
        connection.execute("DELETE FROM prompt_labels WHERE name = ? AND label = ?", place)
    moved = Moved(wish.name, wish.label, wish.at, wish.by, before, wish.to_hash)
    if before != wish.to_hash:
        connection.execute(
            "INSERT INTO prompt_moves (name, label, at, by, from_hash, to_hash) VALUES (?, ?, ?, ?, ?, ?)",
            (moved.name, moved.label, moved.at, moved.by, moved.from_hash, moved.to_hash),
        )
    return moved


def _load(connection: sqlite3.Connection) -> dict[str, _Kept]:
    kept: dict[str, _Kept] = {}
    rows: Sequence[tuple[str, str, str, float, str]] = connection.execute(
        "SELECT name, hash, text, at, by FROM prompt_versions ORDER BY rowid"
    ).fetchall()
    for name, digest, text, at, by in rows:
        version = Version(name, digest, text, at, by)
        kept.setdefault(name, _Kept({}, {})).versions[digest] = (version, parsed(text)[1])
    for name, label, digest in connection.execute("SELECT name, label, hash FROM prompt_labels"):
        kept[name].labels[label] = digest
    return kept
