"""What the native API can do with collections, as a table of operations.

Knows the index, the search and the ingestion; what HTTP is, the gateway knows. Any key may look and search, within what
it reaches; an administrator's takes in and deletes.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from loam.core.calls import Passage, Principal
from loam.core.errors import DocumentError, refuse
from loam.core.operations import Asked, Operation
from loam.core.ports import Found, Retriever, SearchMode, SearchOptions
from loam.grounding.checking import Checking, Checks, Draft
from loam.grounding.ingest import IngestReport, Labels, Upload
from loam.grounding.mirrors import Arrived, Contents, Manifest, Mirroring, Mirrors, Plan
from loam.grounding.reach import Reach
from loam.grounding.store import Collection, DocumentEntry, Library, StoredDocument, check_access, scope_of
from loam.grounding.verify import Checkers

_BASE = "/loam/v1/collections"


class Collections(Struct, frozen=True):
    collections: tuple[Collection, ...]


class Page(Struct, frozen=True):
    after: Annotated[str, Meta(description="Id of the last document of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Documents(Struct, frozen=True):
    documents: tuple[DocumentEntry, ...]


class Passages(Struct, frozen=True):
    passages: tuple[Passage, ...]


class Revision(Struct, frozen=True):
    """Another one after every change of a document that the asker may read."""

    revision: str


class Search(Struct, frozen=True):
    q: Annotated[str, Meta(description="What is looked for, in plain words.", min_length=1, max_length=4000)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 8
    mode: Annotated[SearchMode, Meta(description="By words, by meaning, or by both.")] = "hybrid"
    where: Annotated[
        str, Meta(description="Metadata that must match: name=value, several with commas between.", max_length=1000)
    ] = ""
    diversity: Annotated[float, Meta(ge=0, le=1, description="How much new things count against fitting ones.")] = 0.0
    neighbours: Annotated[int, Meta(ge=0, le=5, description="Passages before and after each that come along.")] = 0
    rerank: Annotated[int, Meta(ge=0, le=100, description="How many of the first are read again and sorted.")] = 0


class UploadedDocument(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="A relative path; its ending says the format.", examples=["guide/leave.md"])]
    text: Annotated[str, Meta(description="The document, where it is text.")] = ""
    data: Annotated[bytes, Meta(description="The document's bytes in base64, where it is not.")] = b""
    url: Annotated[str, Meta(description="Where people find it.", max_length=2000)] = ""
    metadata: dict[str, str] = {}
    access: Annotated[
        tuple[str, ...], Meta(description="Who may read it: user:NAME, team:NAME; empty: everybody.")
    ] = ()


class Uploads(Struct, frozen=True, forbid_unknown_fields=True):
    documents: Annotated[tuple[UploadedDocument, ...], Meta(min_length=1, max_length=1000)]


def operations(
    index: Library, searches: Callable[[Principal], Retriever], mirrors: Mirrors, checkers: Checkers
) -> tuple[Operation, ...]:
    """The operations on the collections of `index`; `searches` gives the search of whoever asks."""
    desk = _Desk(index, searches, mirrors, Checking(index, searches, checkers))
    one, docs, mirror = f"{_BASE}/{{name}}", f"{_BASE}/{{name}}/documents", f"{_BASE}/{{name}}/mirror"
    return (
        _look(_BASE, "List collections", desk.collections, Collections),
        _look(one, "Show a collection", desk.collection, Collection),
        _look(f"{one}/revision", "Show which revision a collection is at", desk.revision, Revision),
        _look(f"{one}/search", "Find passages that fit a question", desk.search, Found, Search),
        _look(docs, "List documents by path", desk.documents, Documents, Page),
        _look(f"{docs}/{{id}}", "Show a document's text, as citations count it", desk.document, StoredDocument),
        _look(f"{docs}/{{id}}/passages", "Show a document's passages", desk.passages, Passages),
        Operation(
            method="POST",
            path=f"{one}/checks",
            summary="Hold a text against the documents, sentence by sentence",
            run=desk.check,
            body=Draft,
            answer=Checks,
            access="key",
        ),
        _send(docs, "Add documents, or replace those of the same name", desk.upload, Uploads, IngestReport),
        _send(f"{mirror}/plan", "Say which files of a folder would have to be sent", desk.plan, Manifest, Plan),
        _send(f"{mirror}/contents", "Send files ahead of storing them", desk.arrive, Contents, Arrived),
        _send(mirror, "Store a folder as it is now, and drop what left it", desk.begin, Manifest, Mirroring),
        Operation(
            method="GET", path=f"{mirror}/{{id}}", summary="Show how a run goes", run=desk.follow, answer=Mirroring
        ),
        Operation(method="DELETE", path=f"{mirror}/{{id}}", summary="Cancel a run", run=desk.cancel),
        Operation(method="DELETE", path=one, summary="Delete a collection and all it holds", run=desk.drop),
        Operation(method="DELETE", path=f"{docs}/{{id}}", summary="Delete a document", run=desk.drop_document),
    )


def _look(path: str, summary: str, run: Callable[[Asked], Awaitable[Any]], answer: Any, query: Any = None) -> Operation:
    return Operation(method="GET", path=path, summary=summary, run=run, query=query, answer=answer, access="key")


def _send(path: str, summary: str, run: Callable[[Asked], Awaitable[Any]], body: Any, answer: Any) -> Operation:
    return Operation(method="POST", path=path, summary=summary, run=run, body=body, answer=answer)


class _Desk:
    def __init__(
        self, index: Library, searches: Callable[[Principal], Retriever], mirrors: Mirrors, checking: Checking
    ) -> None:
        self._index = index
        self._reach = Reach(index)
        self._searches = searches
        self._mirrors = mirrors
        self._checking = checking

    async def collections(self, asked: Asked) -> Collections:
        return Collections(await self._reach.listed(asked.principal))

    async def collection(self, asked: Asked) -> Collection:
        name = await self._reached(asked)
        return await self._index.collection(name, scope=scope_of(asked.principal))

    async def revision(self, asked: Asked) -> Revision:
        return Revision(await self._index.revision(await self._reached(asked), principal=asked.principal))

    async def search(self, asked: Asked) -> Found:
        wish: Search = asked.query
        options = SearchOptions(wish.mode, _pairs(wish.where), wish.diversity, wish.neighbours, wish.rerank)
        search = self._searches(asked.principal)
        return await search.look(asked.path["name"], wish.q, wish.limit, principal=asked.principal, options=options)

    async def check(self, asked: Asked) -> Checks:
        return await self._checking.check(asked.path["name"], asked.body, asked.principal)

    async def documents(self, asked: Asked) -> Documents:
        page: Page = asked.query
        scope = scope_of(asked.principal)
        name = await self._reached(asked)
        found = await self._index.documents(name, after=page.after, limit=page.limit, scope=scope)
        return Documents(found)

    async def document(self, asked: Asked) -> StoredDocument:
        name = await self._reached(asked)
        return await self._index.document(name, asked.path["id"], scope=scope_of(asked.principal))

    async def passages(self, asked: Asked) -> Passages:
        scope = scope_of(asked.principal)
        return Passages(await self._index.passages(await self._reached(asked), asked.path["id"], scope=scope))

    async def _reached(self, asked: Asked) -> str:
        """The name of the collection, if whoever asks reaches it. Raises ModelFailure (not_found)."""
        await self._reach.check(asked.path["name"], asked.principal)
        return asked.path["name"]

    async def upload(self, asked: Asked) -> IngestReport:
        uploads: Uploads = asked.body
        for document in uploads.documents:
            check_access(document.access)
        try:
            return await self._mirrors.add(asked.path["name"], [_upload(one) for one in uploads.documents])
        except DocumentError as error:
            raise refuse("bad_request", str(error), param="documents") from error

    async def plan(self, asked: Asked) -> Plan:
        return await self._mirrors.plan(asked.path["name"], asked.body)

    async def arrive(self, asked: Asked) -> Arrived:
        return await self._mirrors.arrive(asked.body)

    async def begin(self, asked: Asked) -> Mirroring:
        return await self._mirrors.begin(asked.path["name"], asked.body)

    async def follow(self, asked: Asked) -> Mirroring:
        return self._mirrors.look(asked.path["name"], asked.path["id"])

    async def cancel(self, asked: Asked) -> None:
        await self._mirrors.cancel(asked.path["name"], asked.path["id"])

    async def drop(self, asked: Asked) -> None:
        await self._index.delete(asked.path["name"])

    async def drop_document(self, asked: Asked) -> None:
        await self._index.delete(asked.path["name"], asked.path["id"])


def _upload(sent: UploadedDocument) -> Upload:
    if sent.text and sent.data:
        raise refuse("bad_request", f"{sent.name[:200]!r} has text and data; send one of them", param="documents")
    return Upload(sent.name, sent.data or sent.text.encode(), Labels(sent.metadata, sent.access), sent.url)


def _pairs(where: str) -> dict[str, str]:
    """`"kind=policy,year=2024"` as a table. Raises ModelFailure (bad_request)."""
    pairs = [pair.partition("=") for pair in where.split(",") if pair]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise refuse("bad_request", f"{where[:200]!r} is no filter; write name=value,name=value", param="where")
    return {name.strip(): value.strip() for name, _, value in pairs}
