"""What the tests speak to a gateway with: whole requests over http.client, and bytes over a bare socket."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

CHAT = "/v1/chat/completions"


class Reply(Struct):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """One request on a connection of its own; a body that is not bytes goes as JSON, `_` in header names as `-`."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, content, {name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the other side closes, also where it cuts the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def asking(text: str = "hello", model: str = "fake/echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50, **more}
