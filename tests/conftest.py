"""What every test shares: asyncio as the only event loop, and no network but loopback."""

import pytest
from hypothesis import settings
from pytest_socket import socket_allow_hosts

settings.register_profile("loam", deadline=None)  # a busy machine is no failure
settings.load_profile("loam")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)
