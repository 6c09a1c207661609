"""Reaches a gateway from the command line: the one that runs, or one started for as long as the command takes.

Knows HTTP and the data folder's note on who runs. Invariant: every command speaks to the same API, so what works here
works from any program.
"""

import http.client
import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec import structs

from loam.config import Settings
from loam.core.errors import LoamError, StorageError
from loam.kinds import configured, named, with_checkpoint
from loam.serving import NOTE, running


class Refused(LoamError):
    """The gateway said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gateway:
    """A gateway at `url`. Raises Refused with the gateway's own words for every error status.

    One that does not `stay` ends with the command that started it.
    """

    def __init__(self, url: str, key: str = "", *, stays: bool = True) -> None:
        self.url = url.rstrip("/")
        self.stays = stays
        self._key = key

    def get(self, path: str, **query: str | int | None) -> Any:
        return self.send("GET", path + _queried(query))

    def send(self, method: str, path: str, body: Any = None) -> Any:
        with self._request(method, path, body) as response:
            text = response.read()
        return json.loads(text) if text else None

    def events(self, path: str, body: Any) -> Iterator[Any]:
        """The data of a stream's events, until `[DONE]`."""
        with self._request("POST", path, body) as response:
            for line in response:
                data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data:
                    event = json.loads(data)
                    if "error" in event:
                        raise Refused(502, event["error"]["message"])
                    yield event
        raise Refused(502, "the answer broke off before its end")

    def follow(self, path: str, **query: str | int | None) -> Iterator[tuple[str, Any]]:
        """The named events of a stream of the native API, until its end."""
        with self._request("GET", path + _queried(query), None) as response:
            name = ""
            for line in response:
                if line.startswith(b"event:"):
                    name = line.removeprefix(b"event:").strip().decode()
                elif line.startswith(b"data:"):
                    yield name, json.loads(line.removeprefix(b"data:"))

    @contextmanager
    def _request(self, method: str, path: str, body: Any) -> Generator[http.client.HTTPResponse, None, None]:
        address = urlsplit(self.url)
        make = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = make(address.hostname or "", address.port, timeout=900)
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        try:
            connection.request(method, address.path + path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise Refused(response.status, _message(response.read(), response.status))
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise LoamError(f"cannot reach the gateway at {self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _queried(query: Mapping[str, str | int | None]) -> str:
    pairs = "&".join(f"{name}={quote(str(value))}" for name, value in query.items() if value not in (None, ""))
    return f"?{pairs}" if pairs else ""


def _message(body: bytes, status: int) -> str:
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered with status {status}: {body[:200].decode('utf-8', 'replace')}"


@contextmanager
def gateway(settings: Settings | None = None, *, model: str = "") -> Generator[Gateway, None, None]:
    """The gateway at LOAM_URL, else the one that runs in the data folder, else one for the time of the `with`.

    Where `model` is the path of a checkpoint, the gateway has it in memory. Raises LoamError.
    """
    path = named(model) if model else None
    url = os.environ.get("LOAM_URL")
    key = os.environ.get("LOAM_API_KEY", "")
    if url:
        yield _with(Gateway(url, key), path)
        return
    settings = settings or configured(os.environ)
    if path is not None:
        settings, _ = with_checkpoint(settings, model)
    folder = Path(settings.data)
    key = key or _admin_key(folder)
    free = structs.replace(settings, server=structs.replace(settings.server, host="127.0.0.1", port=0))
    try:
        with running(free) as started:
            yield Gateway(started.url, key or started.admin_key, stays=False)
    except StorageError:
        url = _noted(folder)
        if url is None:
            raise
        yield _with(Gateway(url, key), path)


def _with(reached: Gateway, path: Path | None) -> Gateway:
    """A gateway that runs already, told to load a checkpoint."""
    if path is not None:
        reached.send("POST", "/loam/v1/engine/load", {"path": str(path)})
    return reached


def _noted(folder: Path) -> str | None:
    try:
        return json.loads((folder / NOTE).read_text("utf-8"))["url"]
    except (OSError, ValueError, KeyError):
        return None


def _admin_key(folder: Path) -> str:
    try:
        return (folder / "admin-key").read_text("utf-8").strip()
    except OSError:
        return ""
