import pytest

from loam import __version__
from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from loam.core.operations import Asked, Operation
from loam.core.ports import Found
from loam.gateway.native import describe
from loam.grounding.index import Index
from loam.grounding.ingest import IngestReport, IngestSettings
from loam.grounding.mirrors import Mirrors
from loam.grounding.operations import (
    Collections,
    Documents,
    Page,
    Search,
    UploadedDocument,
    Uploads,
    operations,
)
from loam.grounding.store import Collection, StoredDocument
from loam.grounding.verify import Checkers

pytestmark = pytest.mark.anyio

DOCUMENTS = "/loam/v1/collections/{name}/documents"


def table(index: Index) -> dict[tuple[str, str], Operation]:
    mirrors = Mirrors(index, new_id=lambda: "run-1", settings=IngestSettings(max_document_bytes=100))
    return {(one.method, one.path): one for one in operations(index, lambda principal: index, mirrors, Checkers())}


def asked(body: object = None, query: object = None, **path: str) -> Asked:
    return Asked(Principal(admin=True), path, body, query)


def uploads(**texts: str) -> Uploads:
    return Uploads(tuple(UploadedDocument(name.replace("_", "."), text) for name, text in texts.items()))


async def test_documents_go_in_are_shown_found_and_deleted(index: Index) -> None:
    run = {key: operation.run for key, operation in table(index).items()}
    one, document = "/loam/v1/collections/{name}", f"{DOCUMENTS}/{{id}}"
    report = await run["POST", DOCUMENTS](asked(uploads(a_md="# A\n\nOne.", b_md="Two."), name="guide"))
    assert isinstance(report, IngestReport)
    assert await run["GET", "/loam/v1/collections"](asked()) == Collections((report.collection,))
    assert await run["GET", one](asked(name="guide")) == report.collection

    listed = await run["GET", DOCUMENTS](asked(query=Page(limit=1), name="guide"))
    assert isinstance(listed, Documents)
    (entry,) = listed.documents
    stored = await run["GET", document](asked(name="guide", id=entry.id))
    assert isinstance(stored, StoredDocument)
    assert stored.text == "A\n\nOne."
    found = await run["GET", f"{one}/search"](asked(query=Search("two"), name="guide"))
    assert isinstance(found, Found)
    assert [passage.text for passage in found.passages] == ["Two."]
    passages = await run["GET", f"{document}/passages"](asked(name="guide", id=entry.id))
    assert [(passage.start, passage.text) for passage in passages.passages] == [(3, "One.")]

    assert await run["DELETE", document](asked(name="guide", id=entry.id)) is None
    left = await run["GET", one](asked(name="guide"))
    assert isinstance(left, Collection)
    assert left.documents == 1
    assert await run["DELETE", one](asked(name="guide")) is None
    assert await run["GET", "/loam/v1/collections"](asked()) == Collections(())


async def test_an_upload_of_nothing_readable_is_a_bad_request(index: Index) -> None:
    with pytest.raises(ModelFailure, match=r"a\.md: larger than 100 bytes") as caught:
        await table(index)["POST", DOCUMENTS].run(asked(uploads(a_md="x" * 101), name="guide"))
    assert caught.value.failure.kind == "bad_request"


async def test_only_administrators_change_anything_and_all_is_described(index: Index) -> None:
    every = table(index)
    changing = [one for one in every.values() if one.method != "GET" and not one.path.endswith("/checks")]
    assert {one.access for one in changing} == {"admin"}
    paths = describe(tuple(every.values()), __version__)["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(every)
