"""What the native API can do with collections, as a table of operations.

Knows the index and the ingestion; what HTTP is, the gateway knows. Any key may look and search, an administrator's
takes in and deletes.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from loam.core.calls import Passage
from loam.core.errors import DocumentError, refuse
from loam.core.operations import Asked, Operation
from loam.grounding.index import Collection, DocumentEntry, Index, StoredDocument
from loam.grounding.ingest import IngestReport, IngestSettings, Upload, ingest_texts

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


class Search(Struct, frozen=True):
    q: Annotated[str, Meta(description="What is looked for, in plain words.", min_length=1, max_length=4000)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 8


class UploadedText(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="A relative path; its ending says the format.", examples=["guide/leave.md"])]
    text: str


class Uploads(Struct, frozen=True, forbid_unknown_fields=True):
    documents: Annotated[tuple[UploadedText, ...], Meta(min_length=1, max_length=1000)]


def operations(index: Index, settings: IngestSettings) -> tuple[Operation, ...]:
    """The operations on the collections of `index`."""
    desk = _Desk(index, settings)
    one, docs = f"{_BASE}/{{name}}", f"{_BASE}/{{name}}/documents"
    return (
        _look(_BASE, "List collections", desk.collections, Collections),
        _look(one, "Show a collection", desk.collection, Collection),
        _look(f"{one}/search", "Find passages that fit a question", desk.search, Passages, Search),
        _look(docs, "List documents by path", desk.documents, Documents, Page),
        _look(f"{docs}/{{id}}", "Show a document's text, as citations count it", desk.document, StoredDocument),
        _look(f"{docs}/{{id}}/passages", "Show a document's passages", desk.passages, Passages),
        Operation(
            method="POST",
            path=docs,
            summary="Add documents, or replace those of the same name",
            run=desk.upload,
            body=Uploads,
            answer=IngestReport,
        ),
        Operation(method="DELETE", path=one, summary="Delete a collection and all it holds", run=desk.drop),
        Operation(method="DELETE", path=f"{docs}/{{id}}", summary="Delete a document", run=desk.drop_document),
    )


def _look(path: str, summary: str, run: Callable[[Asked], Awaitable[Any]], answer: Any, query: Any = None) -> Operation:
    return Operation(method="GET", path=path, summary=summary, run=run, query=query, answer=answer, access="key")


class _Desk:
    def __init__(self, index: Index, settings: IngestSettings) -> None:
        self._index = index
        self._settings = settings

    async def collections(self, asked: Asked) -> Collections:
        return Collections(await self._index.collections())

    async def collection(self, asked: Asked) -> Collection:
        return await self._index.collection(asked.path["name"])

    async def search(self, asked: Asked) -> Passages:
        wish: Search = asked.query
        return Passages(await self._index.search(asked.path["name"], wish.q, wish.limit))

    async def documents(self, asked: Asked) -> Documents:
        page: Page = asked.query
        return Documents(await self._index.documents(asked.path["name"], after=page.after, limit=page.limit))

    async def document(self, asked: Asked) -> StoredDocument:
        return await self._index.document(asked.path["name"], asked.path["id"])

    async def passages(self, asked: Asked) -> Passages:
        return Passages(await self._index.passages(asked.path["name"], asked.path["id"]))

    async def upload(self, asked: Asked) -> IngestReport:
        uploads: Uploads = asked.body
        items = [Upload(item.name, item.text.encode()) for item in uploads.documents]
        try:
            return await ingest_texts(self._index, asked.path["name"], items, settings=self._settings)
        except DocumentError as error:
            raise refuse("bad_request", str(error), param="documents") from error

    async def drop(self, asked: Asked) -> None:
        await self._index.delete(asked.path["name"])

    async def drop_document(self, asked: Asked) -> None:
        await self._index.delete(asked.path["name"], asked.path["id"])
