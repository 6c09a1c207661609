"""The gateway's end of an engine's process: starts it, asks it, notices when it dies, and ends it.

Knows frames and processes, no torch. Invariants: the event loop never waits for the engine; whoever leaves an answer
unread cancels it; a call in flight when the process dies fails as one that may be tried again.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import loam
from loam.core.calls import Delta
from loam.core.errors import EngineError, Failure, ModelFailure
from loam.engine.protocol import (
    HEAD,
    LARGEST,
    About,
    Cancel,
    Ended,
    Finish,
    Order,
    Proceed,
    Question,
    Ready,
    Reply,
    Request,
    Sized,
    Spoken,
    ToEngine,
    ToGateway,
    Unready,
    frame,
    to_gateway,
)

WORKER = ("-m", "loam.engine.worker")
NEEDED = ("torch", "tokenizers", "safetensors", "jinja2", "llguidance", "gguf", "sentencepiece", "tiktoken")
_LAST_WORDS = 600  # letters of what a process wrote before it died
Allow = Callable[[Sized], Awaitable[int | None]]
"""Asked before weights are read: how many bytes may be taken, None: what is free. May raise, which ends the process."""


class EngineProcess:
    """One checkpoint in one process.

    ```python
    engine = EngineProcess(Order(name="pocket", path="models/pocket"))
    about = await engine.start()
    async for delta in engine.answer(Request(id="1", inputs=["Once upon"])): ...
    await engine.close()
    ```
    """

    def __init__(self, order: Order, *, worker: Sequence[str] = WORKER) -> None:
        self.order = order
        self.about: About | None = None
        self.running = 0
        """Answers and questions under way."""
        self.guessed = self.accepted = 0
        """Tokens that answers tried ahead of their time, by copying or a draft, and those of them that came true."""
        self._worker = tuple(worker)
        self._process: subprocess.Popen[bytes] | None = None
        self._written: Any = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._leaving = False
        self._holders = 0
        self._free = asyncio.Event()
        self._free.set()
        self._waiting: dict[str, asyncio.Queue[Spoken | Ended | Reply]] = {}

    @property
    def alive(self) -> bool:
        """Whether it takes calls: it is open, and nobody has closed it."""
        return self._open and not self._leaving

    @property
    def _open(self) -> bool:
        return self._listening is not None and not self._listening.done()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self, allow: Allow | None = None) -> About:
        """Starts the process and waits until the checkpoint is open.

        Raises EngineError in the engine's own words, and whatever `allow` raises.
        """
        require_engine()
        ours, theirs = socket.socketpair()
        with theirs:
            self._written = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process runs
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 - this interpreter; takes a few milliseconds
                [sys.executable, *self._worker, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stderr=self._written,
                env=environment(),
            )
        ours.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        try:
            self._send(self.order)
            said = await self._next()
            while isinstance(said, Sized):
                self._send(Proceed(await allow(said) if allow is not None else None))
                said = await self._next()
        except BaseException:
            self._kill()
            raise
        if not isinstance(said, Ready):
            words = said.message if isinstance(said, Unready) else await self._epitaph()
            await self.close(grace=0)
            raise EngineError(words)
        self.about = said.about
        self._listening = asyncio.ensure_future(self._listen())
        return said.about

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """For as long as it lasts, `close` waits: who has found the process will be answered by it."""
        self._holders += 1
        self._free.clear()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._free.set()

    async def answer(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The deltas of one call. Raises ModelFailure. Closing it early cancels the call in the engine."""
        queue = self._ask(request.id, request)
        try:
            while True:
                message = await queue.get()
                if isinstance(message, Spoken):
                    for delta in message.deltas:
                        yield delta
                    continue
                self._waiting.pop(request.id, None)
                if isinstance(message, Ended):
                    self.guessed += message.guessed
                    self.accepted += message.accepted
                if message.failure is not None:
                    raise ModelFailure(message.failure)
                return
        finally:
            self.running -= 1
            if self._waiting.pop(request.id, None) is not None and self._open:
                self._send(Cancel(request.id))

    async def ask(self, question: Question) -> Any:
        """The answer to a question. Raises ModelFailure."""
        queue = self._ask(question.id, question)
        try:
            reply = await queue.get()
        finally:
            self.running -= 1
            self._waiting.pop(question.id, None)
        if isinstance(reply, Spoken) or reply.failure is not None:
            raise ModelFailure(getattr(reply, "failure", None) or Failure(kind="internal", message="no reply"))
        return reply.body if isinstance(reply, Reply) else None

    def _ask(self, name: str, message: Request | Question) -> "asyncio.Queue[Spoken | Ended | Reply]":
        if not self.alive:
            raise ModelFailure(died("the engine's process has ended"))
        queue: asyncio.Queue[Spoken | Ended | Reply] = asyncio.Queue()
        self._waiting[name] = queue
        self.running += 1
        self._send(message)
        return queue

    def _send(self, message: ToEngine) -> None:
        assert self._writer is not None
        with suppress(OSError):
            self._writer.write(frame(message))

    async def _next(self) -> ToGateway | None:
        """The next message; None when the process has gone."""
        assert self._reader is not None
        try:
            (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            if length > LARGEST:
                return None
            return to_gateway.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def _listen(self) -> None:
        """Hands each message to whom it is for, until the process is gone; then tells everybody who waits."""
        while (message := await self._next()) is not None:
            if isinstance(message, Spoken | Ended | Reply):
                queue = self._waiting.get(message.id)
                if queue is not None:
                    queue.put_nowait(message)
        words = await self._epitaph()
        for name, queue in list(self._waiting.items()):
            queue.put_nowait(Ended(name, died(words)))
        self._release()

    async def _epitaph(self) -> str:
        """How the process ended, with the last that it wrote."""
        assert self._process is not None
        try:
            code = await asyncio.to_thread(self._process.wait, 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = await asyncio.to_thread(self._process.wait)
        self._written.seek(0, os.SEEK_END)
        self._written.seek(max(0, self._written.tell() - _LAST_WORDS))
        words = self._written.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        hint = "; is the memory full?" if code == -9 else ""
        return f"the engine's process for {self.order.name} {how}{hint}{f' ({words})' if words else ''}"

    async def close(self, *, grace: float = 30.0) -> None:
        """Lets answers finish for `grace` seconds, then ends the process."""
        process = self._process
        if process is None:
            return
        until = monotonic() + grace
        with suppress(TimeoutError):
            await asyncio.wait_for(self._free.wait(), grace)
        self._leaving = True
        grace = max(0.0, until - monotonic())
        if grace and self._open:
            self._send(Finish())
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(_waited, process, grace), grace + 5)
        self._kill()
        if self._listening is not None:
            with suppress(asyncio.CancelledError):
                await self._listening

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._listening is None:
            self._release()

    def _release(self) -> None:
        """Gives back what this end held of a process that is gone."""
        if self._writer is not None:
            self._writer.close()
        if self._written is not None:
            self._written.close()


def _waited(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def died(words: str) -> Failure:
    """The verdict on a call that an engine's death cut short: a new process may answer it."""
    return Failure(kind="server", message=f"{words}; it is started again for the next call", status=503)


def require_engine() -> None:
    """Raises EngineError where what the engine stands on is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(
            f"the local engine needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'loam[engine]'"
        )


def environment() -> dict[str, str]:
    """This process's own, in which the child finds the same Loam."""
    place = str(Path(loam.__file__).parents[1])
    found = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": found, "TOKENIZERS_PARALLELISM": "false"}
