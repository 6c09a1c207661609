"""The stdio transport of an MCP server: messages as lines, to and from a process on a leash.

Knows processes and the SDK's streams; the SDK's own transport passes on variables that nobody named, and keeps a line
of any length in memory. Invariants: the process has the variables it is given and no other; no line of more than
`LONGEST` bytes is kept; when the block is left, however it is, no process of the server's group is left.
"""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import mcp_types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

LONGEST = 64 * 2**20  # bytes; a server may say the same twice in one message, as text and as structure
_LEASH = Path(__file__).with_name("leash.py")
_ENDING = 6.0  # seconds; the leash itself takes four at most
_WORDS = 2000

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]


class Piped:
    """One life of a server's process. `words` are the last it wrote to stderr; `ended` is set when it says no more."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self.words = ""
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[Streams, None]:
        """Raises OSError where the command can't be run."""
        lifeline, ours = os.pipe()
        try:
            process = await self._begin(lifeline)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(lifeline)
        incoming, read = anyio.create_memory_object_stream[Incoming](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        tasks = [
            asyncio.ensure_future(self._hear(process, incoming)),
            asyncio.ensure_future(_tell(process, outgoing, incoming)),
            asyncio.ensure_future(self._listen(process)),
        ]
        try:
            yield read, write
        finally:
            await asyncio.shield(_end(process, ours, tasks))
            for stream in (read, write, incoming, outgoing):
                stream.close()

    async def _begin(self, lifeline: int) -> Process:
        program = await asyncio.to_thread(shutil.which, self._command[0])
        if program is None:
            raise FileNotFoundError(f"there is no program {self._command[0]}")
        names = ",".join(self._environment)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LEASH), str(lifeline), names, program, *self._command[1:],
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(self._environment), pass_fds=(lifeline,),
            start_new_session=True, limit=LONGEST,
        )  # fmt: skip

    async def _hear(self, process: Process, incoming: MemoryObjectSendStream[Incoming]) -> None:
        """What the server says, until it ends or says a line that is too long; then the stream ends too."""
        assert process.stdout is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError), incoming:
            while line := await self._line(process.stdout):
                await incoming.send(_read(line))
        self.ended.set()

    async def _line(self, stdout: asyncio.StreamReader) -> bytes:
        try:
            return await stdout.readline()
        except ValueError:
            self.words = f"it sent a message of more than {LONGEST} bytes"
            return b""

    async def _listen(self, process: Process) -> None:
        assert process.stderr is not None
        while piece := await process.stderr.read(4096):
            self.words = (self.words + piece.decode("utf-8", "replace"))[-_WORDS:]


def _read(line: bytes) -> Incoming:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError as error:
        return error


async def _tell(
    process: Process,
    outgoing: MemoryObjectReceiveStream[SessionMessage],
    incoming: MemoryObjectSendStream[Incoming],
) -> None:
    assert process.stdin is not None
    try:
        async for said in outgoing:
            process.stdin.write(said.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await process.stdin.drain()
    except (ConnectionError, BrokenPipeError):
        incoming.close()  # whoever waits for an answer learns that none will come


async def _end(process: Process, lifeline: int, tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Asks the server to end by closing its pipes, and ends its whole group where it does not."""
    assert process.stdin is not None
    process.stdin.close()
    os.close(lifeline)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _ENDING)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.wait(tasks, timeout=0.2)  # its last words are read to their end
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    with suppress(TimeoutError):  # a grandchild in a session of its own may hold the pipes, and is not ours to find
        await asyncio.wait_for(process.wait(), 1.0)
