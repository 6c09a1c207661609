"""Mirrors a client's folder: the client lists its files, sends the bytes that are wanted, and has the list stored.

Knows runs, not HTTP. Invariants: files that are not listed leave, in the same step in which the new ones come; a file
whose bytes did not come stays as it was; bytes are named by what they are, so a run that was broken off is resumed by
listing the files again.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from loam.core.errors import LoamError, refuse
from loam.grounding.ingest import (
    DEFAULTS,
    IngestReport,
    IngestSettings,
    Labels,
    Progress,
    Run,
    Stage,
    Upload,
    content_hash,
    ingest_texts,
    no_progress,
)
from loam.grounding.store import Library, check_access, check_name

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Encoder

_REMEMBERED = 32
"""Runs that are over and can still be looked at."""

State = Literal["running", "done", "failed", "cancelled"]


class ListedFile(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of the folder. With its `stamp` or `hash` it need not be sent again where the collection has it."""

    path: Annotated[str, Meta(description="Relative to the folder; its ending says the format.")]
    hash: Annotated[str, Meta(description="SHA-256 of the bytes in hexadecimal.", pattern="^([0-9a-f]{64})?$")] = ""
    stamp: Annotated[
        str, Meta(description="What changes whenever the file does, in words of the client's own.", max_length=200)
    ] = ""
    url: Annotated[str, Meta(description="Where people find the document; its path by default.", max_length=2000)] = ""
    unreadable: Annotated[str, Meta(description="Why it can't be read now; it stays as the collection has it.")] = ""
    size: Annotated[int, Meta(ge=0, description="Bytes; a file that is too large is not wanted, and told.")] = 0


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """A folder as it is now. What it says of metadata and access holds for each of its documents."""

    source: Annotated[str, Meta(description="Names the folder; others' documents stay.", min_length=1, max_length=500)]
    files: tuple[ListedFile, ...]
    metadata: dict[str, str] = {}
    access: Annotated[
        tuple[str, ...], Meta(description="Who may read the documents: user:NAME, team:NAME; empty: everybody.")
    ] = ()

    @property
    def labels(self) -> Labels:
        return Labels(self.metadata, self.access)


class Plan(Struct, frozen=True):
    """What storing a manifest would take: the bytes of the files `wanted`; `unchanged` files cost nothing."""

    wanted: tuple[str, ...]
    unchanged: int
    removed: int


class Contents(Struct, frozen=True, forbid_unknown_fields=True):
    contents: Annotated[tuple[bytes, ...], Meta(description="Files' bytes in base64.", min_length=1, max_length=1000)]


class Arrived(Struct, frozen=True):
    """The hashes by which a manifest names what was sent, in the same order."""

    hashes: tuple[str, ...]


class Mirroring(Struct, frozen=True):
    """A run: `done` of `total` are over in this stage. `problem` says why it failed, `report` what it did."""

    id: str
    collection: str
    state: State
    stage: Stage = "reading"
    done: int = 0
    total: int = 0
    problem: str = ""
    report: IngestReport | None = None


class Mirrors:
    """The runs of this process. `new_id` names them."""

    def __init__(
        self,
        index: Library,
        *,
        new_id: Callable[[], str],
        encoder: "Encoder | None" = None,
        settings: IngestSettings = DEFAULTS,
    ) -> None:
        self._index = index
        self._encoder = encoder
        self._settings = settings
        self._new_id = new_id
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    async def add(self, collection: str, items: Sequence[Upload]) -> IngestReport:
        """Adds documents by value, at once. Raises as `ingest_texts` does."""
        return await ingest_texts(self._index, collection, items, encoder=self._encoder, settings=self._settings)

    async def plan(self, collection: str, manifest: Manifest) -> Plan:
        """What would have to be sent. Raises ModelFailure (bad_request) for names and readers that cannot be."""
        check_name(collection)
        check_access(manifest.access)
        self._bounded(manifest)
        known = await self._index.held(collection, manifest.source)
        run = self._run(collection, manifest, no_progress)
        await run.begin()
        there = [file for file in manifest.files if not file.unreadable and file.size <= run.largest]
        new = [file for file in there if not _unchanged(run, file, manifest.labels)]
        here = await self._index.arrived([file.hash for file in new if file.hash])
        wanted = tuple(file.path for file in new if file.hash not in here)
        removed = len(known.keys() - {file.path for file in manifest.files})
        return Plan(wanted, len(there) - len(new), removed)

    async def arrive(self, contents: Contents) -> Arrived:
        """Keeps bytes until a manifest names them."""
        return Arrived(await self._index.arrive(contents.contents))

    async def begin(self, collection: str, manifest: Manifest) -> Mirroring:
        """Starts storing a manifest. Raises ModelFailure (conflict) while the same folder is being stored."""
        check_name(collection)
        check_access(manifest.access)
        self._bounded(manifest)
        for job in self._jobs.values():
            if job.now.state == "running" and (job.now.collection, job.source) == (collection, manifest.source):
                raise refuse("conflict", f"{manifest.source} is being taken into {collection}; wait for it to end")
        job = _Job(Mirroring(self._new_id(), collection, "running"), manifest.source)
        self._jobs[job.now.id] = job
        while len(self._jobs) > _REMEMBERED and next(iter(self._jobs.values())).now.state != "running":
            self._jobs.popitem(last=False)
        job.task = asyncio.ensure_future(self._store(job, manifest))
        return job.now

    def look(self, collection: str, job_id: str) -> Mirroring:
        """How a run stands. Raises ModelFailure (not_found)."""
        return self._job(collection, job_id).now

    async def cancel(self, collection: str, job_id: str) -> None:
        """Ends a run; the collection stays as it was, unless it was being stored already."""
        job = self._job(collection, job_id)
        job.task.cancel()
        await asyncio.gather(job.task, return_exceptions=True)

    async def close(self) -> None:
        """Ends all runs."""
        tasks = [job.task for job in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _job(self, collection: str, job_id: str) -> "_Job":
        job = self._jobs.get(job_id)
        if job is None or job.now.collection != collection:
            raise refuse("not_found", f"there is no run {job_id[:80]!r} on {collection[:80]!r}, or not any more")
        return job

    def _bounded(self, manifest: Manifest) -> None:
        if len(manifest.files) > self._settings.max_documents:
            raise refuse(
                "too_large",
                f"the folder has more than {self._settings.max_documents} files; send a smaller one, or raise "
                "grounding.ingest.max_documents",
            )

    def _run(self, collection: str, manifest: Manifest, tell: Callable[[Progress], None]) -> Run:
        return Run(self._index, collection, manifest.source, encoder=self._encoder, settings=self._settings, tell=tell)

    async def _store(self, job: "_Job", manifest: Manifest) -> None:
        try:
            report = await self._stored(job, manifest)
            job.ended("done", report=report)
        except (LoamError, sqlite3.Error, OSError) as error:
            job.ended("failed", problem=str(error))
        except asyncio.CancelledError:
            job.ended("cancelled", problem="it was cancelled; the collection stays as it was")
            raise
        finally:
            if job.now.state == "running":
                job.ended("failed", problem="an error inside Loam; its log says more")

    async def _stored(self, job: "_Job", manifest: Manifest) -> IngestReport:
        run = self._run(job.now.collection, manifest, job.tell)
        await run.begin()
        for done, file in enumerate(manifest.files, 1):
            if file.unreadable:
                run.stays(file.path, file.unreadable)
            elif file.size > run.largest:
                run.too_large(file.path)
            elif not _unchanged(run, file, manifest.labels) and run.welcomes(file.path):
                await self._take(run, file, manifest.labels)
            job.tell(Progress(done, len(manifest.files), file.path))
        report = await run.end(mirror=True)
        await self._index.forget([file.hash for file in manifest.files if file.hash])
        return report

    async def _take(self, run: Run, file: ListedFile, labels: Labels) -> None:
        data = await self._index.content(file.hash)
        if data is None:
            run.stays(file.path, "its bytes were not sent")
        else:
            await asyncio.to_thread(run.take, Upload(file.path, data, labels, file.url), file.stamp)


class _Job:
    """A run as it goes on."""

    task: asyncio.Task[None]

    def __init__(self, now: Mirroring, source: str) -> None:
        self.now = now
        self.source = source

    def tell(self, progress: Progress) -> None:
        now = self.now
        self.now = Mirroring(now.id, now.collection, "running", progress.stage, progress.done, progress.total)

    def ended(self, state: State, *, problem: str = "", report: IngestReport | None = None) -> None:
        now = self.now
        self.now = Mirroring(now.id, now.collection, state, now.stage, now.done, now.total, problem, report)


def _unchanged(run: Run, file: ListedFile, labels: Labels) -> bool:
    return run.unchanged(file.path, labels, stamp=file.stamp, content_hash=content_hash(file.hash))
