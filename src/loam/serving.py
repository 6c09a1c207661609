"""Runs the assembled gateway: in this process until a signal comes, or in a thread for as long as a `with` lasts.

Invariant: the data folder's lock is held from before the first request until after the last row is written.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn
import uvloop
from msgspec import Struct

from loam.assemble import open_house
from loam.config import Settings
from loam.gateway.server import bind, make_server

NOTE = "gateway.json"
"""In the data folder while a gateway runs: where it answers, and its process."""


class Running(Struct, frozen=True):
    """A gateway that answers at `url`. `admin_key` is set only by the first start in a data folder; `notes` say what
    works less well than it could.
    """

    url: str
    admin_key: str = ""
    notes: tuple[str, ...] = ()


async def _run(settings: Settings, on_ready: Callable[[Running, uvicorn.Server], None]) -> None:
    """Opens everything, listens, and serves until the server is told to exit."""
    # The loop remembers every async generator, to close at its end those that were left open. Every stage closes its
    # own, so a call's five need no remembering.
    sys.set_asyncgen_hooks(firstiter=None)
    with bind(settings.server) as listener:
        async with open_house(settings) as house:
            host, port = listener.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            server = make_server(house.app, settings.server, max_head=settings.http.max_head)
            note = Path(settings.data) / NOTE
            note.write_text(json.dumps({"url": url, "pid": os.getpid()}), "utf-8")
            try:
                on_ready(Running(url, house.admin_key, house.notes), server)
                await server.serve(sockets=[listener])
            finally:
                with suppress(FileNotFoundError):
                    note.unlink()


def serve(settings: Settings, on_ready: Callable[[Running], None]) -> None:
    """Serves until SIGINT or SIGTERM; running calls get `server.grace` seconds to finish. Raises LoamError."""

    def ready(gateway: Running, server: uvicorn.Server) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server takes these over while it serves and raises them again when it is done; by then the house must
            # still be closed in peace, so what they find here does nothing worse than to repeat the wish to exit.
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        # What is there now stays for good. Looking through all of it for garbage stops every stream for 25 ms.
        gc.collect()
        gc.freeze()
        on_ready(gateway)

    uvloop.run(_run(settings, ready))


@contextmanager
def running(settings: Settings) -> Generator[Running, None, None]:
    """A gateway in a thread of this process, for tests and one-off commands. Raises LoamError when it can't start.

    ```python
    with running(parse({"data": folder, "server": {"port": 0}})) as gateway:
        client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="-")
    ```
    """
    thread = _Thread(settings)
    thread.start()
    thread.ready.wait()
    if thread.error is not None:
        raise thread.error
    assert thread.gateway is not None
    assert thread.server is not None
    try:
        yield thread.gateway
    finally:
        thread.server.should_exit = True
        thread.join()


class _Thread(threading.Thread):
    def __init__(self, settings: Settings) -> None:
        super().__init__(name="loam-gateway", daemon=True)
        self._settings = settings
        self.ready = threading.Event()
        self.gateway: Running | None = None
        self.server: uvicorn.Server | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            uvloop.run(_run(self._settings, self._on_ready))
        except Exception as error:  # noqa: BLE001 - carried over to the thread that asked, which raises it
            self.error = error
        finally:
            self.ready.set()

    def _on_ready(self, gateway: Running, server: uvicorn.Server) -> None:
        self.gateway = gateway
        self.server = server
        self.ready.set()
