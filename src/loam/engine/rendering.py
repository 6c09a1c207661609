"""Chat templates in a process of their own, which a template that never ends or fills the memory takes down alone.

Jinja's sandbox keeps a template from the machine, not from `range(99999)` in three nested loops nor from doubling a
text forty times. So templates are rendered by a small process (no torch, some 20 MB) under the system's own limits of
time and memory. Knows frames of MessagePack on its pipes. Invariant: a rendering takes at most `seconds`, in any case.
"""

import contextlib
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

import loam
from loam.core.errors import EngineError, Failure, ModelFailure, refuse
from loam.engine.templates import Rendering, render

SECONDS = 2.0
LARGEST = 16 * 2**20
"""Bytes of a rendered text: more than any context holds."""

_MEMORY = 512 * 2**20
_HEAD = struct.Struct("<I")


class Rendered(Struct, frozen=True):
    """What came of it: a text, or why there is none. `broken` is an EngineError's text."""

    text: str = ""
    refused: Failure | None = None
    broken: str = ""


class Renderer:
    """Renders templates as `loam.engine.templates.render` does, in bounded time and memory. One at a time.

    The process is started when it is first needed, and again when a template took it down.

    ```python
    renderer = Renderer()
    renderer.render(Rendering(template, messages))
    renderer.close()
    ```
    """

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def render(self, wish: Rendering) -> str:
        """Raises as `render` does, and ModelFailure for a template that exceeds a bound."""
        try:
            frame = msgspec.msgpack.encode(wish)
        except (OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise refuse("bad_request", f"the messages cannot be read: {error}", param="messages") from error
        with self._lock:
            answer = self._ask(frame)
        if answer is None:
            raise refuse(
                "bad_request",
                f"the chat template took more than {self._seconds:g} s or {_MEMORY >> 20} MB and was stopped; "
                "use another template, or shorter messages",
                param="messages",
            )
        if answer.refused is not None:
            raise ModelFailure(answer.refused)
        if answer.broken:
            raise EngineError(answer.broken)
        return answer.text

    def _ask(self, wish: bytes) -> Rendered | None:
        """What the process says, None where it ended over it."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write(process.stdin, wish)
            frame = read(process.stdout)
        except OSError:
            frame = None
        if frame is None:
            self._end()
            return None
        return msgspec.msgpack.decode(frame, type=Rendered)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", __name__, str(self._seconds)]
        place = str(Path(loam.__file__).parents[1])
        found = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH", ""))))
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and words of ours alone
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": found}
        )
        weakref.finalize(self, _stopped, process)  # whoever forgets to close leaves no process behind
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _stopped(process)

    def close(self) -> None:
        """Ends the process. A renderer that is asked again starts another."""
        with self._lock:
            self._end()


def _stopped(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def write(pipe: IO[bytes], frame: bytes) -> None:
    """One frame: four bytes of length, then so many bytes."""
    pipe.write(_HEAD.pack(len(frame)))
    pipe.write(frame)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes | None:
    """The next frame; None at the end."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (length,) = _HEAD.unpack(head)
    frame = pipe.read(length)
    return frame if len(frame) == length else None


def answered(wish: bytes) -> Rendered:
    """One rendering, its failures as values."""
    try:
        text = render(msgspec.msgpack.decode(wish, type=Rendering))
    except ModelFailure as error:
        return Rendered(refused=error.failure)
    except EngineError as error:
        return Rendered(broken=str(error))
    if len(text) > LARGEST:
        return Rendered(refused=Failure(kind="bad_request", message=_TOO_LONG.format(len(text)), param="messages"))
    return Rendered(text)


_TOO_LONG = "the chat template made a text of {} characters, more than any model reads; use another template"


def main() -> None:
    """Renders what comes in until the pipe ends. The system ends the process that takes longer or more than it may."""
    seconds = float(sys.argv[1])
    with contextlib.suppress(OSError, ValueError):  # not every system bounds an address space
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us, who ends us then
    while (wish := read(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process, wherever it is
        try:
            answer = answered(wish)
        except MemoryError:
            os._exit(1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write(sys.stdout.buffer, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
