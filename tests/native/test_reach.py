"""A collection that a key does not reach looks like one that is not there, wherever collections are spoken of."""

from collections.abc import Generator
from typing import Any

import pytest

from loam.cli.reach import Gateway, Refused
from loam.serving import running
from tests.native.conftest import settings_for

BASE = "/loam/v1/collections"
OPEN, OURS, HERS = ("Leave is open to all.", "The team meets on Mondays.", "The salary of Ann is a secret.")
SEEN = {"documents": 1, "passages": 1}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    providers = {"fake": {"kind": "scripted", "models": ["gpt-x", "gpt-y"]}}
    with running(settings_for(tmp_path_factory.mktemp("data"), providers=providers)) as started:
        admin = Gateway(started.url)
        for name, text, access in (
            ("open", OPEN, []),
            ("mixed", OPEN, []),
            ("mixed", OURS, ["team:blue"]),
            ("mixed", HERS, ["user:ann"]),
            ("hers", HERS, ["user:ann"]),
        ):
            document = {"name": f"{text[:9]}.md", "text": text, "access": access}
            admin.send("POST", f"{BASE}/{name}/documents", {"documents": [document]})
        yield admin


def key(admin: Gateway, **wish: Any) -> Gateway:
    return Gateway(admin.url, admin.send("POST", "/loam/v1/keys", wish)["secret"])


def listed(gateway: Gateway) -> dict[str, tuple[int, int, int]]:
    found = gateway.get(BASE)["collections"]
    return {one["name"]: (one["documents"], one["passages"], one["characters"]) for one in found}


def names(gateway: Gateway) -> set[str]:
    """What both lists of models say, which is the same."""
    openai = {one["id"] for one in gateway.get("/v1/models")["data"]}
    assert openai == {one["name"] for one in gateway.get("/loam/v1/models")["models"]}
    return openai


def test_an_administrator_sees_all(admin: Gateway) -> None:
    assert listed(admin)["mixed"][:2] == (3, 3)
    assert set(listed(admin)) == {"open", "mixed", "hers"}
    assert {"rag:open", "rag:mixed", "rag:hers", "gpt-x"} <= names(admin)


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ({"user": "ann"}, {"open": [OPEN], "mixed": [OPEN, HERS], "hers": [HERS]}),
        ({"user": "ben", "team": "blue"}, {"open": [OPEN], "mixed": [OPEN, OURS]}),
        ({"user": "eve"}, {"open": [OPEN], "mixed": [OPEN]}),
        ({}, {"open": [OPEN], "mixed": [OPEN]}),
    ],
)
def test_a_key_sees_what_it_may_read_and_counts_that(
    admin: Gateway, who: dict[str, Any], seen: dict[str, list[str]]
) -> None:
    mine = key(admin, **who)
    assert listed(mine) == {name: (len(texts), len(texts), sum(map(len, texts))) for name, texts in seen.items()}
    assert {name for name in names(mine) if name.startswith("rag:")} == {f"rag:{name}" for name in seen}
    assert mine.get(f"{BASE}/mixed")["documents"] == len(seen["mixed"])


ASK = [{"role": "user", "content": "What is the salary of Ann?"}]
WAYS = [
    ("GET", f"{BASE}/NAME", None),
    ("GET", f"{BASE}/NAME/revision", None),
    ("GET", f"{BASE}/NAME/search?q=salary", None),
    ("GET", f"{BASE}/NAME/search?q=salary&mode=lexical&rerank=5", None),
    ("GET", f"{BASE}/NAME/documents", None),
    ("GET", f"{BASE}/NAME/documents/doc_1", None),
    ("GET", f"{BASE}/NAME/documents/doc_1/passages", None),
    ("POST", f"{BASE}/NAME/checks", {"text": "The salary of Ann is a secret."}),
    ("POST", "/v1/chat/completions", {"model": "rag:NAME", "messages": ASK}),
    ("POST", "/v1/chat/completions", {"model": "rag:NAME", "messages": ASK, "loam": {"cache": {"ttl": 9.0}}}),
    ("POST", "/v1/chat/completions", {"model": "gpt-x", "messages": ASK, "loam": {"collection": "NAME"}}),
    ("POST", "/v1/messages", {"model": "rag:NAME", "messages": ASK, "max_tokens": 9}),
    ("GET", "/v1/models/rag:NAME", None),
]


def refusal(gateway: Gateway, way: tuple[str, str, Any], name: str) -> tuple[int, str]:
    method, path, body = way

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {field: named(inner) for field, inner in value.items()}
        return value.replace("NAME", name) if isinstance(value, str) else value

    with pytest.raises(Refused) as refused:
        gateway.send(method, named(path), named(body))
    return refused.value.status, str(refused.value).replace(name, "NAME")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[1].removeprefix('/loam/v1/')} {way[2] and list(way[2])}")
def test_what_a_key_does_not_reach_is_refused_like_what_is_not_there(admin: Gateway, way: tuple[str, str, Any]) -> None:
    eve = key(admin, user="eve")
    hidden, absent = refusal(eve, way, "hers"), refusal(eve, way, "none")
    assert hidden == absent
    assert hidden[0] == 404
    assert "hers" not in absent[1]


def test_a_keys_models_name_collections_too_however_a_call_names_them(admin: Gateway) -> None:
    """A key for gpt-x alone reaches no collection; one for gpt-x and rag:open reaches that one, by either name."""
    bare, both = key(admin, user="ann", models=["gpt-x"]), key(admin, user="ann", models=["gpt-x", "rag:open"])
    every = key(admin, user="ann", models=["rag:*"])
    for model, controls in (("rag:open", {}), ("gpt-x", {"collection": "open"})):
        body = {"model": model, "messages": ASK, "loam": controls}
        assert refusal(bare, ("POST", "/v1/chat/completions", body), "NAME")[0] == 403
        both.send("POST", "/v1/chat/completions", body)
    body = {"model": "gpt-x", "messages": ASK, "loam": {"collection": "mixed"}}
    assert refusal(both, ("POST", "/v1/chat/completions", body), "NAME")[0] == 403
    assert refusal(every, ("POST", "/v1/chat/completions", body), "NAME")[0] == 403  # the model is not among its models
    every.send("POST", "/v1/chat/completions", {"model": "rag:hers", "messages": ASK})

    assert (listed(bare), names(bare)) == ({}, {"gpt-x"})
    assert (set(listed(both)), names(both)) == ({"open"}, {"gpt-x", "rag:open"})
    assert set(listed(every)) == {"open", "mixed", "hers"}
    for way in WAYS[:8]:
        assert refusal(bare, way, "open")[0] == 404
