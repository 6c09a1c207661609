"""Runs a Python tool in a process of its own, and ends it when its time is over.

Knows processes; what happens inside one, `loam.agents.child` says. Invariant: when a call returns, however it does, no
process of its group is left, and no more of its output was read than is allowed.
"""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Any, Literal

import msgspec

from loam.agents.settings import ToolSettings

_MOST = 2**20  # bytes of output that are read at all


async def run(what: Literal["describe", "call"], tool: ToolSettings, arguments: bytes = b"") -> dict[str, Any]:
    """What the process said: `result`, or `error` where it failed, took too long, or said too much."""
    limits = (str(tool.memory_mb), str(tool.seconds), "yes" if tool.network else "no")
    function = _absolute(tool.function)
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loam.agents.child", what, function, *limits,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=folder, start_new_session=True,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONPATH": os.pathsep.join(_importable())},
        )  # fmt: skip
        try:
            said = await asyncio.wait_for(_talk(process, arguments), tool.seconds)
        except TimeoutError:
            return {"error": f"it took longer than {tool.seconds:g} seconds and was ended"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        return msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"error": "it ended without a result: it ran out of memory or processor time, or said more than 1 MiB"}


async def _talk(process: Process, arguments: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(arguments)
        await process.stdin.drain()
    process.stdin.close()
    said = b""
    while len(said) <= _MOST and (piece := await process.stdout.read(65_536)):
        said += piece
    return said


def _absolute(function: str) -> str:
    return os.path.abspath(function) if ".py:" in function else function


def _importable() -> list[str]:
    return [os.path.abspath(path) for path in sys.path]
