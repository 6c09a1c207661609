"""Graphs over the vectors of large collections: files that can be lost, made anew from the database.

Knows usearch. A graph proposes; the vectors that the database keeps decide. Invariants: a graph's file is whole or not
there (written aside, then renamed); passages that left a collection are never proposed; a small scope is compared
exactly rather than sought in the graph; a graph is never searched while it changes.
"""

import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from loam.grounding.catalogue import Known
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import Hits
from loam.grounding.vectors import Floats, Numbers, Rows, chosen, cosines, read_vectors, rows_of, unfolded
from loam.storage.database import Database

if find_spec("onnxruntime") is not None:
    import_module("onnxruntime")  # loaded after usearch 2.26 it crashes the process; before it all is well
Graph: Any = import_module("usearch.index").Index  # its types are partly unknown

_EXACT = 20_000
"""Passages in scope, up to which all are compared."""
_AT_ONCE = 5_000
"""Passages that may be new to a graph for it to be brought up to date within a search."""
_PROPOSED = 8
"""Proposals for each passage wanted: int8 distances rank the true neighbours a little off."""
_LEAST = 256
"""Proposals for a search at least: where many passages are nearly alike, a graph misses some of the nearest."""
_BATCH = 2_000
"""Passages that are added at a time; between two batches the graph can be searched."""
_BUILDING = "the vectors' graph is being built; until then words alone are searched"


class _Held(Struct, frozen=True):
    """A graph of a collection at `stamp`; `rows` are the passages in it."""

    stamp: str
    encoder: str
    rows: Rows
    graph: Any


class Graphs:
    """The graphs of large collections; each is built when it is first needed, beside the searches."""

    def __init__(self, database: Database, settings: SearchSettings, *, folder: Path) -> None:
        self._database = database
        self._settings = settings
        self._folder = folder
        self._held: dict[int, _Held] = {}
        self._building: dict[int, asyncio.Task[None]] = {}
        self._mending: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._using: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._problems: dict[int, str] = {}

    async def near(self, now: Known, vector: Floats, *, documents: Sequence[int] | None, limit: int, note: str) -> Hits:
        """The nearest passages in scope; none and a note while the first graph is built."""
        every = await self._every(now)
        within = every.within(documents)
        if within is not None and np.count_nonzero(within) <= _EXACT:
            return await self._compared(now, vector, every, every.ids[within], limit=limit, note=note)
        held = await self._ready(now, every)
        if held is None:
            return Hits(now.stamp, (), self._problems.get(now.id, _BUILDING))
        ids = held.rows.ids if within is None else np.intersect1d(held.rows.ids, every.ids[within])
        wanted = max(_PROPOSED * limit, _LEAST)
        while True:
            asked = min(wanted, len(held.rows.ids))
            async with self._using[now.id]:
                proposed = await asyncio.to_thread(_proposed, held.graph, vector, asked)
            unreached = len(proposed) < asked and len(ids) <= _AT_ONCE  # a graph can have parts that no way leads to
            fit = ids if unreached else among(ids, proposed)
            hits = await self._compared(now, vector, every, fit, limit=limit, note=note)
            if len(hits.hits) >= limit or asked == len(held.rows.ids):
                return hits
            wanted *= 4

    async def _every(self, now: Known) -> Rows:
        """The collection's passages; read anew only when it has changed, for there are many."""
        held = self._held.get(now.id)
        if held is not None and (held.stamp, held.encoder) == (now.stamp, now.encoder):
            return held.rows
        return await self._database.read(lambda connection: rows_of(connection, now.id))

    async def built(self, collection: int) -> None:
        """Waits for what is being built for a collection."""
        if task := self._building.get(collection):
            await asyncio.wait([task])

    async def close(self) -> None:
        for task in self._building.values():
            task.cancel()
        await asyncio.gather(*self._building.values(), return_exceptions=True)

    async def _compared(self, now: Known, vector: Floats, every: Rows, ids: Numbers, *, limit: int, note: str) -> Hits:
        """The nearest of these passages, by their stored vectors."""
        known = await self._database.read(lambda connection: read_vectors(connection, ids.tolist()))
        if not len(known.ids):
            return Hits(now.stamp, (), note)
        rows, scores = chosen(every, known.ids), cosines(known.values, vector)
        order = np.lexsort((known.ids, -scores))
        hits = unfolded(rows, lambda count: order[:count], scores, limit=limit, most=len(order))
        return Hits(now.stamp, tuple(hits), note)

    async def _ready(self, now: Known, every: Rows) -> _Held | None:
        """The graph as it stands, mended where little is new; begins a new one otherwise and gives what there is."""
        held = self._held.get(now.id)
        if held is not None and held.encoder == now.encoder:
            if held.stamp == now.stamp:
                return held
            if len(np.setdiff1d(every.ids, held.rows.ids, assume_unique=True)) <= _AT_ONCE:
                await self._build(now, every)
                return self._held[now.id]
        if now.id not in self._building:
            task = asyncio.ensure_future(self._build(now, every))
            self._building[now.id] = task
            task.add_done_callback(lambda task: self._ended(now.id, task))
        return held if held is not None and held.encoder == now.encoder else None

    def _ended(self, collection: int, task: "asyncio.Task[None]") -> None:
        """What kept a graph from being built is told with the next search, which tries again."""
        self._building.pop(collection, None)
        self._problems.pop(collection, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._problems[collection] = f"the vectors' graph cannot be built, so words alone are searched: {error}"

    async def _build(self, now: Known, every: Rows) -> None:
        """Reads the newest graph there is on disk or in memory, and brings it to the state of `every`."""
        async with self._mending[now.id]:
            held = self._held.get(now.id)
            if held is not None and (held.stamp, held.encoder) == (now.stamp, now.encoder):
                return
            path = self._path(now)
            same = held is not None and held.encoder == now.encoder
            graph = held.graph if held is not None and same else await asyncio.to_thread(_read, path)
            had = _keys(graph)
            gone, new = np.setdiff1d(had, every.ids), np.setdiff1d(every.ids, had)
            if len(gone):
                async with self._using[now.id]:
                    await asyncio.to_thread(graph.remove, gone)
            for start in range(0, len(new), _BATCH):
                graph = await self._added(now.id, graph, new[start : start + _BATCH].tolist())
            ids = np.intersect1d(_keys(graph), every.ids)
            if len(gone) or len(new):
                await asyncio.to_thread(_write, graph, path)
            self._held[now.id] = _Held(now.stamp, now.encoder, chosen(every, ids), graph)

    async def _added(self, collection: int, graph: Any, ids: Sequence[int]) -> Any:
        """The graph with the vectors of these passages, made where there is none."""
        vectors = await self._database.read(lambda connection: read_vectors(connection, ids))
        if not len(vectors.ids):
            return graph
        graph = graph if graph is not None else _empty(vectors.values.shape[1])
        async with self._using[collection]:
            await asyncio.to_thread(graph.add, vectors.ids, vectors.values)
        return graph

    def _path(self, now: Known) -> Path:
        encoder = hashlib.sha256(now.encoder.encode()).hexdigest()[:12]
        return self._folder / f"graph-{now.id}-{encoder}.usearch"


def _empty(size: int) -> Any:
    return Graph(ndim=size, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=96)


def _keys(graph: Any) -> Numbers:
    return np.sort(graph.keys[:].astype(np.int64)) if graph is not None else np.empty(0, np.int64)


def _proposed(graph: Any, vector: Floats, count: int) -> Numbers:
    return np.array(graph.search(vector, count).keys, dtype=np.int64)


def among(ids: Numbers, proposed: Numbers) -> Numbers:
    """Those of a few `proposed` that are among many ascending `ids`, ascending, each once; no walk over the many."""
    few = np.unique(proposed)
    places = np.searchsorted(ids, few)
    inside = places < len(ids)
    few, places = few[inside], places[inside]
    return few[ids[places] == few]


def _read(path: Path) -> Any:
    """The graph in a file; None where there is none that can be read: it is derived, and made again."""
    if not path.exists():
        return None
    try:
        return Graph.restore(str(path))
    except (RuntimeError, OSError, ValueError):
        return None


def _write(graph: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    graph.save(str(aside))
    aside.replace(path)
