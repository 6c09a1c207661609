"""A gateway on loopback for the tests that come in through its front door."""

from collections.abc import Generator

import pytest

from loam.config import parse
from loam.serving import Running, running

PROVIDER_SECRET = "sk-provider-secret-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    settings = {
        "data": str(tmp_path_factory.mktemp("data")),
        "server": {"port": 0},
        "http": {"max_body": 100_000, "max_head": 16_384},
        "retry": {"attempts": 1},
        "providers": {
            "fake": {"kind": "scripted"},
            # nothing listens on port 1, so asking it fails without leaving the machine
            "dead": {"kind": "compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": PROVIDER_SECRET},
        },
    }
    with running(parse(settings)) as gateway:
        yield gateway
