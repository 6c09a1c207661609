"""Reads a document with its format's module: here, or in a process of its own.

Parsers in C may crash, hang or swallow all memory on a file made for that, and libraries raise whatever they please on
broken ones. In a process apart all of these come down to a sentence about one file.
Knows processes and their limits. Knows no format.
Invariant: `read_apart` ends within its limits, with a Document or a DocumentError.
"""

import importlib
import subprocess
import sys
from typing import cast

import msgspec
from msgspec import Struct

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document
from loam.grounding.formats.source import Reader, Source

if sys.platform != "win32":
    import resource

_REFUSED = 3


class Limits(Struct, frozen=True):
    """What one document may cost; elapsed time is the backstop where the system counts no processor time."""

    cpu_seconds: int = 60
    seconds: int = 300
    memory_bytes: int = 2 * 2**30


class Task(Struct, frozen=True):
    """What the process apart is sent."""

    module: str
    source: Source
    limits: Limits


def read_here(module: str, source: Source) -> Document:
    """Reads with a module of this package. Raises DocumentError, also where the library it needs is missing."""
    try:
        reader = cast("Reader", importlib.import_module(f"loam.grounding.formats.{module}"))
    except ImportError as error:
        raise source.refuse(
            f"reading it needs {error.name or 'a library'}, which is not there; pip install 'loam[grounding]'"
        ) from error
    return reader.read(source)


def read_apart(module: str, source: Source, limits: Limits | None = None) -> Document:
    """As `read_here`, in a process that may die of it. Raises DocumentError."""
    limits = limits or Limits()
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(  # noqa: S603 - this very module, by this very Python
            command,
            input=msgspec.msgpack.encode(Task(module, source, limits)),
            capture_output=True,
            timeout=limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise source.refuse(_too_long(limits.seconds)) from error
    if done.returncode == 0:
        return msgspec.msgpack.decode(done.stdout, type=Document)
    if done.returncode == _REFUSED:
        raise DocumentError(done.stdout.decode())
    raise source.refuse(_end_of(done, limits))


def _end_of(done: "subprocess.CompletedProcess[bytes]", limits: Limits) -> str:
    """Why a process ended that should not have, from its exit status and the last line of its complaint."""
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:200]
    if sys.platform != "win32" and -done.returncode in _OUT_OF_TIME:
        return _too_long(limits.cpu_seconds)
    if last.startswith("MemoryError"):
        return f"reading it takes more than {limits.memory_bytes >> 20} MiB of memory; split it"
    if done.returncode < 0:
        return f"it makes its reader crash (signal {-done.returncode}), so it is broken; save it anew or as PDF"
    return f"it is broken where its reader did not expect it ({last}); open it and save it anew"


def _too_long(seconds: int) -> str:
    return f"reading it takes more than {seconds} seconds; split it, or save it anew if it is broken"


if sys.platform != "win32":
    import signal

    _OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)  # the second comes a second after, to who does not mind the first

    def _confine(limits: Limits) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

else:

    def _confine(limits: Limits) -> None:
        """Windows has no such limits; there the elapsed time alone is bounded."""


def main() -> int:
    """The process apart: a Task comes in, a Document or a refusal goes out."""
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    _confine(task.limits)
    try:
        document = read_here(task.module, task.source)
    except DocumentError as error:
        sys.stdout.buffer.write(str(error).encode(errors="replace"))
        return _REFUSED
    sys.stdout.buffer.write(msgspec.msgpack.encode(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
