"""What techniques ask is on record, on the budget of whoever asks, and cached as one answer."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from loam.cli.reach import Gateway, Refused
from loam.serving import running
from tests.native.conftest import settings_for

ASKED: Any = [{"role": "user", "content": "6 + 1?"}]
VOTE = {"name": "self_consistency", "n": 5, "stop": "none"}
SHAPE = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "required": ["n"]}}}


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[Gateway, None, None]:
    settings = settings_for(
        tmp_path,
        prices=[{"model": "*", "input": 1, "output": 1}],
        providers={
            "fake": {"kind": "scripted", "script": [{"text": "7"}]},
            "bad": {"kind": "scripted", "script": [{"text": "{}"}]},
        },
    )
    with running(settings) as started:
        yield Gateway(started.url)


def key(gateway: Gateway, user: str, tokens: int) -> Gateway:
    made = gateway.send("POST", "/loam/v1/keys", {"user": user})
    gateway.send("POST", "/loam/v1/budgets", {"scope": "user", "subject": user, "period": "ever", "tokens": tokens})
    return Gateway(gateway.url, made["secret"])


def standing(gateway: Gateway, user: str) -> tuple[int, int]:
    rows = [one for budget in gateway.get("/loam/v1/budgets")["budgets"] for one in budget["standing"]]
    (own,) = [row for row in rows if row["subject"] == user]
    return own["spent_tokens"], own["reserved_tokens"]


def row(gateway: Gateway) -> dict[str, Any]:
    return gateway.get("/loam/v1/calls", limit=1)["calls"][0]


def body(**fields: Any) -> dict[str, Any]:
    loam = {"metadata": True, **fields.pop("loam", {})}
    return {"model": "fake/m", "messages": ASKED, "max_tokens": 50, "loam": loam, **fields}


def test_every_sample_is_an_attempt_of_its_call_on_its_budget(gateway: Gateway) -> None:
    ann = key(gateway, "ann", 100_000)
    answer = ann.send("POST", "/v1/chat/completions", body(loam={"technique": VOTE}))
    written = row(gateway)
    assert len(written["attempts"]) == 5
    assert [attempt["number"] for attempt in written["attempts"]] == [1, 2, 3, 4, 5]
    assert written["cost_micro"] == sum(attempt["cost_micro"] for attempt in written["attempts"])
    assert standing(gateway, "ann") == (written["input_tokens"] + written["output_tokens"], 0)
    assert answer["usage"]["total_tokens"] == standing(gateway, "ann")[0]
    assert written["answered_model"] == "fake/m"


def test_a_budget_ends_the_drawing_and_is_not_overspent(gateway: Gateway) -> None:
    ben = key(gateway, "ben", 250)
    answer = ben.send("POST", "/v1/chat/completions", body(loam={"technique": VOTE}))
    (report,) = answer["loam"]["techniques"]
    assert 1 <= report["samples_used"] < 5
    assert report["stopped"] == "failure"
    spent, reserved = standing(gateway, "ben")
    assert spent <= 250
    assert reserved == 0


def test_a_vote_is_cached_as_one_answer_and_another_technique_is_another_question(gateway: Gateway) -> None:
    wish = {"technique": VOTE, "cache": {"ttl": 60.0}}
    first, second = (gateway.send("POST", "/v1/chat/completions", body(loam=wish)) for _ in range(2))
    assert second["loam"]["cache"] == "hit"
    assert second["loam"]["techniques"] == first["loam"]["techniques"]
    assert (row(gateway)["attempts"], row(gateway)["cost_micro"]) == ([], 0)
    plain = gateway.send("POST", "/v1/chat/completions", body(loam={"cache": {"ttl": 60.0}}))
    assert plain["loam"]["cache"] == "miss"


def test_tries_that_did_not_fit_are_on_record_and_paid(gateway: Gateway) -> None:
    cat = key(gateway, "cat", 100_000)
    with pytest.raises(Refused, match="no answer fits the JSON Schema"):
        cat.send("POST", "/v1/chat/completions", body(model="bad/m", response_format=SHAPE))
    written = row(gateway)
    assert (written["state"], written["failure_kind"], len(written["attempts"])) == ("failed", "malformed", 3)
    assert any("try 1 did not fit the schema" in warning for warning in written["warnings"])
    used = sum(attempt["input_tokens"] + attempt["output_tokens"] for attempt in written["attempts"])
    assert standing(gateway, "cat") == (used, 0)


def test_shown_examples_are_on_record(gateway: Gateway) -> None:
    technique = {"name": "few_shot", "examples": [{"id": "one", "input": "1+1", "output": "2"}]}
    gateway.send("POST", "/v1/chat/completions", body(loam={"technique": technique}))
    assert "few_shot showed one" in row(gateway)["warnings"]
