"""Two gateways, each with a data folder of its own, over one Postgres."""

from pathlib import Path
from typing import Any

import pytest

from loam.config import parse
from loam.core.errors import StorageError
from loam.serving import running
from tests.native.wire import CHAT, ask

DOCUMENTS = "/loam/v1/collections/leave/documents"
ANSWER = "Parents are entitled to twelve weeks of paid leave."


def settings(folder: Path, url: str, schema: str = "loam") -> Any:
    store = {"url": url, "schema": schema}
    return parse({"data": str(folder), "server": {"port": 0}, "grounding": {"store": store}})


def test_what_one_gateway_takes_in_another_answers_from(postgres: str, schema: str, tmp_path: Path) -> None:
    with (
        running(settings(tmp_path / "one", postgres, schema)) as one,
        running(settings(tmp_path / "two", postgres, schema)) as two,
    ):
        document = {"name": "parental.md", "text": f"# Parental leave\n\n{ANSWER}\n"}
        taken = ask(one.url, "POST", DOCUMENTS, {"documents": [document]}, authorization=f"Bearer {one.admin_key}")
        assert taken.json["added"] == 1
        question = {"role": "user", "content": "How many weeks of paid leave are parents entitled to?"}
        told = ask(two.url, "POST", CHAT, {"model": "rag:leave", "messages": [question], "loam": {"metadata": True}})
        assert [citation["quote"] for citation in told.json["loam"]["citations"]] == [ANSWER]
        assert (
            ask(one.url, "DELETE", "/loam/v1/collections/leave", authorization=f"Bearer {one.admin_key}").status < 300
        )
        assert ask(two.url, "GET", "/loam/v1/collections").json == {"collections": []}


def test_a_gateway_whose_postgres_is_not_there_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="is it running") as caught,
        running(settings(tmp_path, "postgresql://loam:hush@127.0.0.1:1/loam")),
    ):
        pass
    assert "hush" not in str(caught.value)
