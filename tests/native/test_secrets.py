"""Who gets in, what a key sees, and that no secret comes out again: over HTTP, from the command line, or on disk."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loam.serving import Running, running
from tests.native.conftest import PROVIDER_SECRET, settings_for
from tests.native.wire import CHAT, Reply, ask, asking

KEYS = "/loam/v1/keys"
DATA_PATHS = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def make_key(gateway: Running, **wish: Any) -> tuple[str, str]:
    """A new key's id and secret."""
    reply = ask(gateway.url, "POST", KEYS, wish, **bearer(gateway.admin_key))
    assert reply.status == 201, reply.body
    return reply.json["key"]["id"], reply.json["secret"]


def assert_kept(reply: Reply, *secrets: str) -> None:
    told = reply.body.decode() + str(reply.headers)
    assert not [secret for secret in secrets if secret in told]


@pytest.mark.parametrize("path", DATA_PATHS)
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"origin": "https://evil.example"}],
    ids=["host", "lookalike", "origin"],
)
def test_without_a_key_nothing_foreign_gets_in(gateway: Running, path: str, headers: dict[str, str]) -> None:
    assert ask(gateway.url, "POST", path, asking(), **headers).status == 401
    assert ask(gateway.url, "GET", KEYS, **headers).status == 401


def test_a_key_opens_the_door_to_a_foreign_page(gateway: Running) -> None:
    headers = {"origin": "https://app.example", **bearer(gateway.admin_key)}
    assert ask(gateway.url, "POST", CHAT, asking(), **headers).status == 200


@pytest.mark.parametrize("path", DATA_PATHS)
def test_a_locked_gateway_asks_everybody_for_a_key(locked: Running, path: str) -> None:
    assert ask(locked.url, "POST", path, asking()).status == 401
    assert ask(locked.url, "POST", path, asking(), x_api_key="sk-loam-nobodys").status == 401
    assert ask(locked.url, "POST", path, asking(), x_api_key="sk-of-another-house").status == 401


def test_a_locked_gateway_describes_itself_and_its_health_to_anybody(locked: Running) -> None:
    for path in ("/health", "/loam/v1/ready", "/loam/v1/openapi.json"):
        assert ask(locked.url, "GET", path).status == 200


def test_only_an_administrators_key_administers(locked: Running) -> None:
    _, secret = make_key(locked, name="plain")
    description = ask(locked.url, "GET", "/loam/v1/openapi.json").json
    refused: list[str] = []
    for path, methods in description["paths"].items():
        for method in methods:
            reply = ask(locked.url, method.upper(), path.replace("{", "").replace("}", ""), b"{}", **bearer(secret))
            assert reply.status != 401, path
            if reply.status == 403:
                refused.append(f"{method} {path}")
    for admins in (f"get {KEYS}", f"post {KEYS}", f"delete {KEYS}/{{id}}", "get /metrics", "get /loam/v1/calls/tail"):
        assert admins in refused


def test_a_key_sees_its_own_calls_only(locked: Running) -> None:
    _, mine = make_key(locked, name="mine")
    _, theirs = make_key(locked, name="theirs")
    call = ask(locked.url, "POST", CHAT, asking(), **bearer(theirs)).headers["x-loam-call-id"]
    own = ask(locked.url, "POST", CHAT, asking(), **bearer(mine)).headers["x-loam-call-id"]
    seen = ask(locked.url, "GET", "/loam/v1/calls", **bearer(mine)).json["calls"]
    assert [row["id"] for row in seen] == [own]
    assert ask(locked.url, "GET", f"/loam/v1/calls/{call}", **bearer(mine)).status == 404
    assert ask(locked.url, "GET", f"/loam/v1/calls/{call}", **bearer(theirs)).status == 200
    judged = ask(locked.url, "POST", f"/loam/v1/calls/{call}/feedback", {"rating": 1}, **bearer(mine))
    assert judged.status in (400, 404)


def test_a_disabled_an_expired_and_a_deleted_key_do_not_get_in(locked: Running) -> None:
    admin = bearer(locked.admin_key)
    soon = time.time() + 0.5
    for method, change in (("PATCH", {"disabled": True}), ("DELETE", None), ("PATCH", {"expires": soon})):
        identity, secret = make_key(locked, name="shut out")
        assert ask(locked.url, "POST", CHAT, asking(), **bearer(secret)).status == 200
        assert ask(locked.url, method, f"{KEYS}/{identity}", change, **admin).status in (200, 204)
        if change == {"expires": soon}:
            time.sleep(max(0.0, soon - time.time()) + 0.01)
        reply = ask(locked.url, "POST", CHAT, asking(), **bearer(secret))
        assert reply.status == 401
        assert_kept(reply, secret)


def test_no_error_repeats_a_secret(locked: Running) -> None:
    _, secret = make_key(locked, name="careful", models=["dead/*"])
    unknown = "sk-loam-a-secret-that-nobody-made-0123456789"
    for sent in (secret, unknown):
        for path in DATA_PATHS:
            for body in (asking(model="dead/m"), asking(model="fake/echo"), b"{", b""):
                reply = ask(locked.url, "POST", path, body, **bearer(sent))
                assert reply.status >= 400
                assert_kept(reply, sent, PROVIDER_SECRET)
        assert_kept(ask(locked.url, "GET", KEYS, **bearer(sent)), sent)
    assert_kept(ask(locked.url, "GET", KEYS, **bearer(locked.admin_key)), secret, locked.admin_key)


def test_no_secret_is_kept_in_the_database(tmp_path: Path) -> None:
    with running(settings_for(tmp_path, door={"open_on_loopback": False})) as gateway:
        _, secret = make_key(gateway, name="kept")
        for model in ("fake/echo", "dead/m"):
            ask(gateway.url, "POST", CHAT, asking(model=model), **bearer(secret))
        told = ask(gateway.url, "GET", "/loam/v1/calls", **bearer(gateway.admin_key))
        assert {row["state"] for row in told.json["calls"]} == {"done", "failed"}
        for row in told.json["calls"]:
            record = ask(gateway.url, "GET", f"/loam/v1/calls/{row['id']}", **bearer(gateway.admin_key))
            assert_kept(record, secret, gateway.admin_key, PROVIDER_SECRET)
    for file in tmp_path.glob("*.db*"):
        content = file.read_bytes()
        assert not [word for word in (secret, gateway.admin_key, PROVIDER_SECRET) if word.encode() in content], file
    assert (tmp_path / "admin-key").stat().st_mode & 0o077 == 0


def test_config_show_leaves_secrets_out(tmp_path: Path) -> None:
    (tmp_path / "loam.toml").write_text(
        f'[providers.p]\nbase_url = "http://127.0.0.1:1/v1"\napi_key = "env:SECRET_OF_P"\n'
        f'headers = {{ x-token = "{PROVIDER_SECRET}-too" }}\n'
        f'[grounding.store]\nurl = "postgresql://loam:{PROVIDER_SECRET}@db.internal/loam"\n'
    )
    shown = subprocess.run(
        [sys.executable, "-m", "loam", "config", "show"],
        cwd=tmp_path,
        env={**os.environ, "SECRET_OF_P": PROVIDER_SECRET},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout)["providers"]["p"]["base_url"] == "http://127.0.0.1:1/v1"
    assert json.loads(shown.stdout)["grounding"]["store"]["url"] == "postgresql://loam:•••@db.internal/loam"
    assert PROVIDER_SECRET not in shown.stdout + shown.stderr
