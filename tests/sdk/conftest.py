"""A faulty upstream and a Loam in front of it, both on real sockets, for the official clients."""

from collections.abc import Generator
from pathlib import Path

import pytest

from loam.config import parse
from loam.providers.faulty import running as faulty_upstream
from loam.serving import Running, running


@pytest.fixture(scope="session")
def upstream() -> Generator[str, None, None]:
    with faulty_upstream() as url:
        yield url


@pytest.fixture(scope="session")
def gateway(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    data: Path = tmp_path_factory.mktemp("data")
    settings = parse(
        {
            "data": str(data),
            "server": {"port": 0},
            "retry": {"first_wait": 0.01, "longest_wait": 0.05, "first_token": 2.0, "between_tokens": 2.0},
            "providers": {
                "o": {"kind": "compatible", "base_url": f"{upstream}/v1", "api_key": "sk-test"},
                "a": {"kind": "anthropic", "base_url": upstream, "api_key": "sk-test"},
                "fake": {"kind": "scripted"},
            },
            "routes": {"chain": {"chain": ["o/500-always#chain", "a/ok"]}},
        }
    )
    with running(settings) as gateway:
        yield gateway
