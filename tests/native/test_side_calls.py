"""Nothing that grounding sends beside an answer is unlogged or unbudgeted: vectors, judgements, repairs, rewritings."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from loam.cli.reach import Gateway, Refused
from loam.serving import running
from tests.native.conftest import settings_for

LEAVE = "Award leave expires one year after the employee receives it. Ask your supervisor about the reasons."
ASKED = [{"role": "user", "content": "When does award leave expire?"}]
GROUNDED = {"loam": {"collection": "hr", "metadata": True}}
PRICES = [{"model": name, "input": price, "output": price} for name, price in (("vectors", 100), ("*", 1))]


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[Gateway, None, None]:
    settings = settings_for(
        tmp_path,
        prices=PRICES,
        providers={
            "far": {"kind": "scripted", "models": ["vectors"]},
            "fake": {
                "kind": "scripted",
                "models": ["m"],
                "script": [{"text": "Award leave lapses after one year, sadly. Dogs bark. [1.1]"}],
            },
            "judge": {"kind": "scripted", "models": ["j"], "script": [{"text": "UNSAID"}]},
        },
        grounding={"encoder": {"name": "far/vectors"}, "judge": "j", "rewriting": "model"},
    )
    with running(settings) as started:
        gateway = Gateway(started.url)
        document = {"name": "leave.md", "text": LEAVE}
        gateway.send("POST", "/loam/v1/collections/hr/documents", {"documents": [document]})
        yield gateway


def rows(gateway: Gateway) -> list[dict[str, Any]]:
    return gateway.get("/loam/v1/calls", limit=50)["calls"]


def key(gateway: Gateway, user: str, tokens: int) -> Gateway:
    made = gateway.send("POST", "/loam/v1/keys", {"user": user})
    gateway.send("POST", "/loam/v1/budgets", {"scope": "user", "subject": user, "period": "ever", "tokens": tokens})
    return Gateway(gateway.url, made["secret"])


def spent(gateway: Gateway, user: str) -> int:
    for budget in gateway.get("/loam/v1/budgets")["budgets"]:
        for standing in budget["standing"]:
            if standing["subject"] == user:
                assert standing["reserved_tokens"] == 0
                return standing["spent_tokens"]
    return 0


def test_ingestion_is_on_record_in_its_own_name_and_keeps_no_text_twice(gateway: Gateway) -> None:
    (row,) = rows(gateway)
    assert (row["task"], row["user"], row["key_id"]) == ("embed", "ingestion", "ingestion")
    assert (row["model"], row["provider"], row["state"]) == ("far/vectors", "far", "done")
    assert row["cost_micro"] > 0
    assert [attempt["outcome"] for attempt in row["attempts"]] == ["done"]
    assert "Award" not in str(gateway.get(f"/loam/v1/calls/{row['id']}"))
    assert gateway.get("/loam/v1/collections/hr")["embedded"] == 1


def test_ingestion_keeps_to_its_budget_and_the_collection_stays_as_it_was(gateway: Gateway) -> None:
    wish = {"scope": "user", "subject": "ingestion", "period": "ever", "tokens": 5}
    gateway.send("POST", "/loam/v1/budgets", wish)
    document = {"name": "travel.md", "text": "Keep the receipts for lodging."}
    with pytest.raises(Refused, match="has no room"):
        gateway.send("POST", "/loam/v1/collections/hr/documents", {"documents": [document]})
    assert gateway.get("/loam/v1/collections/hr")["documents"] == 1
    assert rows(gateway)[0]["failure_kind"] == "budget"
    assert not rows(gateway)[0]["attempts"]


def test_everything_beside_an_answer_is_an_attempt_of_its_call_on_its_budget(gateway: Gateway) -> None:
    ann = key(gateway, "ann", 100_000)
    talk = [*ASKED, {"role": "assistant", "content": "In a year."}, {"role": "user", "content": "And why so?"}]
    answer = ann.send("POST", "/v1/chat/completions", {"model": "m", "messages": talk, **GROUNDED})
    row = rows(gateway)[0]
    assert (row["user"], row["id"]) == ("ann", answer["loam"]["call_id"])
    assert len(rows(gateway)) == 2  # ingestion's and this
    asked = [f"{attempt['provider']}/{attempt['model']}" for attempt in row["attempts"]]
    # the answer's own attempt first, then the rewriting, the question's vector, the judge and the repair
    assert asked[0] == "fake/m"
    assert sorted(asked) == ["fake/m", "fake/m", "fake/m", "far/vectors", "judge/j"]
    assert row["cost_micro"] == sum(attempt["cost_micro"] for attempt in row["attempts"])
    used = sum(attempt["input_tokens"] + attempt.get("output_tokens", 0) for attempt in row["attempts"])
    assert spent(gateway, "ann") == used == row["input_tokens"] + row["output_tokens"]


def test_a_side_call_that_no_budget_covers_is_not_sent_and_that_is_told(gateway: Gateway) -> None:
    """The vector is dear in tokens only as its question is long; the answer alone has room."""
    ben = key(gateway, "ben", 5)
    with pytest.raises(Refused, match="has no room"):
        ben.send("POST", "/v1/chat/completions", {"model": "m", "messages": ASKED, "max_tokens": 50, **GROUNDED})
    row = rows(gateway)[0]
    assert row["user"] == "ben"
    assert not row["attempts"]
    assert any("the encoder failed" in warning and "has no room" in warning for warning in row["warnings"])
    assert spent(gateway, "ben") == 0


@pytest.mark.parametrize("path", ["search?q=award+leave", "checks"])
def test_a_search_over_the_native_api_is_a_call_of_whoever_searches(gateway: Gateway, path: str) -> None:
    cat = key(gateway, "cat", 1000)
    if path == "checks":
        cat.send("POST", f"/loam/v1/collections/hr/{path}", {"text": "Award leave expires in a year."})
    else:
        assert cat.send("GET", f"/loam/v1/collections/hr/{path}")["mode"] == "hybrid"
    row = rows(gateway)[0]
    assert (row["task"], row["user"], row["model"]) == ("embed", "cat", "far/vectors")
    assert row["cost_micro"] > 0
    assert spent(gateway, "cat") == row["input_tokens"] > 0


def test_a_client_that_leaves_leaves_nothing_reserved(gateway: Gateway) -> None:
    dan = key(gateway, "dan", 100_000)
    with dan._request(
        "POST", "/v1/chat/completions", {"model": "m", "messages": ASKED, "stream": True, **GROUNDED}
    ) as response:
        response.close()
    until = time.monotonic() + 10
    while rows(gateway)[0]["user"] != "dan" or rows(gateway)[0]["state"] == "open":
        assert time.monotonic() < until
        time.sleep(0.05)
    row = rows(gateway)[0]
    assert spent(gateway, "dan") == sum(
        one.get("input_tokens", 0) + one.get("output_tokens", 0) for one in row["attempts"]
    )


def test_an_answer_with_side_calls_is_cached_and_asks_nobody_again(gateway: Gateway) -> None:
    body = {"model": "rag:hr", "messages": ASKED, "loam": {"metadata": True, "cache": {"ttl": 60.0}}}
    first, second = (gateway.send("POST", "/v1/chat/completions", body) for _ in range(2))
    assert first["choices"] == second["choices"]
    newest, before = rows(gateway)[:2]
    assert (before["cache"], newest["cache"]) == ("miss", "hit")
    assert len(before["attempts"]) > 1
    assert (len(newest["attempts"]), newest["cost_micro"]) == (0, 0)
