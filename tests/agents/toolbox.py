"""Tools for the tests: good ones, and ones that go too far."""

import socket
import time
from pathlib import Path


def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    print("printing is no result")
    return a + b


def write(file: str, text: str) -> str:
    """Writes a text into a file."""
    Path(file).write_text(text)
    return "written"


def sleepy() -> str:
    time.sleep(60)
    return "awake"


def hungry() -> int:
    return len(bytearray(2**33))


def phone() -> str:
    """Calls home."""
    with socket.create_connection(("127.0.0.1", 1), timeout=1):
        return "reached"


def chatty() -> str:
    return "x" * 200_000
