"""The vectors of collections in memory, searched exactly, or through a graph where there are too many.

SQLite keeps them as float16, which is the truth; what is here is read from there and thrown away at will.
Invariants: a matrix is of one state of its collection, which its stamp names, so several processes stay right; only
rows in scope are ever compared; scores are exact cosines of the stored vectors, also behind a graph.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loam.grounding.catalogue import Known, known, snapshot
from loam.grounding.extras import extra
from loam.grounding.scopes import allowed
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import Hit, Hits, Scope, lacking
from loam.grounding.tables import first_passage, last_passage
from loam.storage.database import Database

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

_FEW = 0.2
"""The share of new passages up to which a matrix is patched rather than read again."""
_BATCH = 20_000


class Rows(Struct, frozen=True):
    """The passages that have vectors, by number: the document and the fold of each."""

    ids: Numbers
    documents: Numbers
    folds: Numbers

    def within(self, documents: Sequence[int] | None) -> NDArray[np.bool_] | None:
        """Which rows belong to these documents; None for all."""
        return None if documents is None else np.isin(self.documents, np.array(documents, dtype=np.int64))


class Matrix(Struct, frozen=True):
    """A collection at `stamp`: row i of `values` is the vector of passage `rows.ids[i]`."""

    stamp: str
    encoder: str
    rows: Rows
    values: Floats

    @property
    def bytes(self) -> int:
        return self.values.nbytes + 3 * self.rows.ids.nbytes

    def near(self, vector: Floats, documents: Sequence[int] | None, limit: int) -> list[Hit]:
        """The nearest rows in scope, each fold once."""
        scores = cosines(self.values, vector)
        within = self.rows.within(documents)
        if within is not None:
            scores = np.where(within, scores, -np.inf)
        most = len(scores) if within is None else int(np.count_nonzero(within))
        return unfolded(self.rows, lambda count: _best(scores, min(count, most)), scores, limit=limit, most=most)


def cosines(values: Floats, vector: Floats) -> Floats:
    """The dot product of every row with a vector.

    Not `values @ vector`: BLAS shares that among threads, and where the cores are busy the last of them is waited for
    some 10 ms, a hundred times what the sum takes. It is bound by memory, so one thread is nearly as fast anyhow.
    """
    return np.einsum("ij,j->i", values, vector)


def unfolded(rows: Rows, best: Callable[[int], Numbers], scores: Floats, *, limit: int, most: int) -> list[Hit]:
    """The `limit` best rows, each fold once: asks `best` for more until there are enough or no more than `most`."""
    wanted = limit
    while True:
        wanted = min(2 * wanted, most)
        chosen: dict[int, Hit] = {}
        for place in best(wanted).tolist():
            hit = Hit(int(rows.ids[place]), int(rows.folds[place]), float(scores[place]))
            chosen.setdefault(hit.fold, hit)
        if len(chosen) >= limit or wanted == most:
            return list(chosen.values())[:limit]


def _best(scores: Floats, count: int) -> Numbers:
    """The places of the highest scores, best first; of equal ones the first."""
    if count == 0:
        return np.empty(0, np.int64)
    top = np.argpartition(-scores, count - 1)[:count]
    return top[np.lexsort((top, -scores[top]))]


class Matrices:
    """The collections that were searched last, in as much memory as the settings give."""

    def __init__(self, database: Database, settings: SearchSettings, *, folder: Path) -> None:
        self._database = database
        self._settings = settings
        self._held: OrderedDict[int, Matrix] = OrderedDict()
        self._turns: dict[int, asyncio.Lock] = {}
        self._graphs: Any = None
        self._folder = folder

    async def near(self, name: str, vector: Floats, *, encoder: str, scope: Scope, limit: int) -> Hits:
        """The passages nearest to a vector. Raises ModelFailure (not_found)."""
        seen = await self._database.read(snapshot(lambda connection: _seen(connection, name, scope)))
        note = lacking(name, seen.known, encoder)
        if not seen.known.embedded or seen.known.encoder != encoder:
            return Hits(seen.known.stamp, (), note)
        if seen.known.embedded > self._settings.exact_passages:
            return await self._through_graph(seen, vector, limit=limit, note=note)
        matrix = await self._matrix(seen.known)
        hits = await asyncio.to_thread(matrix.near, vector, seen.documents, limit)
        return Hits(matrix.stamp, tuple(hits), note)

    @property
    def bytes(self) -> int:
        """What the matrices take up."""
        return sum(matrix.bytes for matrix in self._held.values())

    async def close(self) -> None:
        """Stops what is being built."""
        if self._graphs is not None:
            await self._graphs.close()

    async def _through_graph(self, seen: "Seen", vector: Floats, *, limit: int, note: str) -> Hits:
        if self._graphs is None:
            self._graphs = extra("loam.grounding.graphs").Graphs(self._database, self._settings, folder=self._folder)
        return await self._graphs.near(seen.known, vector, documents=seen.documents, limit=limit, note=note)

    async def _matrix(self, now: Known) -> Matrix:
        """The collection's matrix as it stands now; whoever comes while it is read waits for it."""
        async with self._turns.setdefault(now.id, asyncio.Lock()):
            held = self._held.get(now.id)
            if held is None or held.stamp != now.stamp:
                held = await self._database.read(snapshot(lambda connection: load(connection, now.id, held)))
                self._held[now.id] = held
            self._held.move_to_end(now.id)
            while len(self._held) > 1 and self.bytes > self._settings.matrix_bytes:
                self._held.popitem(last=False)
            return held


class Seen(Struct, frozen=True):
    """A collection, and which of its documents are in scope (None for all)."""

    known: Known
    documents: list[int] | None


def _seen(connection: sqlite3.Connection, name: str, scope: Scope) -> Seen:
    found = known(connection, name)
    return Seen(found, allowed(connection, found.id, scope))


def load(connection: sqlite3.Connection, collection: int, held: Matrix | None = None) -> Matrix:
    """The collection's matrix as the database has it, made from an older one where little is new."""
    stamp, encoder = connection.execute(
        "SELECT stamp, encoder FROM collections WHERE id = ?", (collection,)
    ).fetchone() or ("", "")
    every = rows_of(connection, collection)
    if held is not None and held.encoder == encoder:
        new = np.setdiff1d(every.ids, held.rows.ids, assume_unique=True)
        if len(new) <= _FEW * len(every.ids):
            kept = np.isin(held.rows.ids, every.ids, assume_unique=True)
            fresh = read_vectors(connection, new.tolist())
            ids = np.concatenate([held.rows.ids[kept], fresh.ids])
            return Matrix(stamp, encoder, chosen(every, ids), _stacked(held.values[kept], fresh.values))
    whole = _all_vectors(connection, collection)
    return Matrix(stamp, encoder, chosen(every, whole.ids), whole.values)


def rows_of(connection: sqlite3.Connection, collection: int) -> Rows:
    """Every passage of a collection, by number."""
    cursor = connection.execute("SELECT id, document, fold FROM passages WHERE collection = ?", (collection,))
    flat = np.fromiter((number for row in cursor for number in row), dtype=np.int64).reshape(-1, 3)
    flat = flat[np.argsort(flat[:, 0])]
    return Rows(*(np.ascontiguousarray(column) for column in flat.T))


def chosen(every: Rows, ids: Numbers) -> Rows:
    """The rows of these passages, all of them among `every`."""
    places = np.searchsorted(every.ids, ids)
    return Rows(ids, every.documents[places], every.folds[places])


class Vectors(Struct, frozen=True):
    ids: Numbers
    values: Floats


def read_vectors(connection: sqlite3.Connection, ids: Sequence[int]) -> Vectors:
    """The stored vectors of these passages, of those that have one."""
    rows: list[tuple[int, bytes]] = []
    for id in ids:
        rows.extend(connection.execute("SELECT passage, vector FROM vectors WHERE passage = ?", (id,)))
    return _vectors(rows)


def _all_vectors(connection: sqlite3.Connection, collection: int) -> Vectors:
    cursor = connection.execute(
        "SELECT passage, vector FROM vectors WHERE passage BETWEEN ? AND ? ORDER BY passage",
        (first_passage(collection), last_passage(collection)),
    )
    parts: list[Vectors] = []
    while rows := cursor.fetchmany(_BATCH):
        parts.append(_vectors(rows))
    if not parts:
        return _vectors([])
    return Vectors(np.concatenate([p.ids for p in parts]), np.concatenate([p.values for p in parts]))


def _vectors(rows: list[tuple[int, bytes]]) -> Vectors:
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    halves = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float16)
    return Vectors(ids, halves.astype(np.float32).reshape(len(rows), -1) if rows else np.empty((0, 0), np.float32))


def _stacked(old: Floats, new: Floats) -> Floats:
    return old if not len(new) else new if not len(old) else np.concatenate([old, new])
