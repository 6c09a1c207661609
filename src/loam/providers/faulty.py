"""A provider that fails on purpose: a server of OpenAI's and Anthropic's format that plays the faults of a table.

Knows how to start and stop it; `loam.providers.faulty_play` knows how to fail, `loam.providers.faults` in which ways.

```python
with running() as url:
    client = openai.OpenAI(base_url=url + "/v1", api_key="-")  # model="429-once#my-test"
```

`GET /faults` shows the table, `GET /requests` what came (`?model=…` for one), `DELETE /requests` forgets it. A fault
that happens once counts by model name and key (or the header `x-fault-session`); `#anything` gives a name a count of
its own.
"""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Self

import uvloop

from loam.providers.faults import FAULTS
from loam.providers.faulty_play import Connection
from loam.providers.faulty_record import Record

__all__ = ["FAULTS", "FaultyUpstream", "running", "serve"]


class FaultyUpstream:
    """The server, at `url` inside its context; port 0 takes a free one. `record` is what came.

    ```python
    async with FaultyUpstream() as upstream:
        ...
        assert len(upstream.record.of("429-once")) == 2
    ```
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._open: set[Connection] = set()
        self.record = Record()
        self.url = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self.record, self._open), self._host, self._port)
        self.url = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self._open):
            connection.close()
        await self._server.wait_closed()


def serve(host: str = "127.0.0.1", port: int = 4199) -> None:
    """Serves until interrupted."""

    async def run() -> None:
        async with FaultyUpstream(host, port):
            await asyncio.Event().wait()

    with suppress(KeyboardInterrupt):
        uvloop.run(run())


@contextmanager
def running() -> Generator[str, None, None]:
    """One in a thread of this process, for as long as the `with` lasts; gives its URL, without `/v1`."""
    thread = _Thread()
    thread.start()
    thread.ready.wait()
    try:
        yield thread.url
    finally:
        thread.loop.call_soon_threadsafe(thread.done.set)
        thread.join()


class _Thread(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="faulty-upstream", daemon=True)
        self.ready = threading.Event()
        self.url = ""

    def run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        async with FaultyUpstream() as upstream:
            self.url = upstream.url
            self.ready.set()
            await self.done.wait()
