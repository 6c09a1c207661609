"""Gateways on loopback for the tests that come in through their front door."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from loam.config import Settings, parse
from loam.serving import Running, running

PROVIDER_SECRET = "sk-provider-secret-0123456789"


def settings_for(data: Path, **more: Any) -> Settings:
    return parse(
        {
            "data": str(data),
            "server": {"port": 0},
            "http": {"max_body": 100_000, "max_head": 16_384, "body_seconds": 0.5},
            "retry": {"attempts": 1},
            "providers": {
                "fake": {"kind": "scripted"},
                # nothing listens on port 1, so asking it fails without leaving the machine
                "dead": {"kind": "compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": PROVIDER_SECRET},
            },
            **more,
        }
    )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    """One that lets programs on this machine in without a key."""
    with running(settings_for(tmp_path_factory.mktemp("data"))) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    """One that asks everybody for a key."""
    with running(settings_for(tmp_path_factory.mktemp("data"), door={"open_on_loopback": False})) as gateway:
        yield gateway
