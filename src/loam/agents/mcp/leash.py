"""Holds a server that speaks over stdio, so that it never outlives the gateway: `leash.py LIFELINE NAMES COMMAND …`.

A script of the standard library alone, the leader of a process group of its own. Knows processes and one pipe, whose
other end only the gateway has. Invariant: when the server ends, when the pipe is closed, or when the gateway is gone,
however it went, every process of the group ends.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

_PATIENCE = 2.0  # seconds in which a server may end by itself, because its stdin was closed; and again after SIGTERM


def held(lifeline: int, child: int) -> None:
    """Waits for the end of the pipe, and then for the server: asked first, ended at last."""
    while os.read(lifeline, 1):
        pass
    time.sleep(_PATIENCE)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.killpg(0, signal.SIGKILL)


def begin(lifeline: int, names: list[str], command: list[str]) -> int:
    """The server's process. It has the variables that were named and no other."""
    child = os.fork()
    if child:
        return child
    os.close(lifeline)
    try:
        given = {name: os.environ[name] for name in names if name in os.environ}
        os.execve(command[0], command, given)  # noqa: S606 - no shell is wanted: the command is the operator's own
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(127)


def main(lifeline: int, names: list[str], command: list[str]) -> None:
    os.closerange(3, lifeline)  # what the loop that began us left open
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    child = begin(lifeline, names, command)
    nothing = os.open(os.devnull, os.O_RDWR)
    for pipe in (0, 1):  # the server alone holds them, so that their ends are seen
        os.dup2(nothing, pipe)
    threading.Thread(target=held, args=(lifeline, child), daemon=True).start()
    _, status = os.waitpid(child, 0)
    with suppress(OSError):  # nobody listens where the gateway is gone
        os.write(2, f"the process ended with status {os.waitstatus_to_exitcode(status)}\n".encode())
    os.killpg(0, signal.SIGKILL)  # whatever the server began and left behind, and this process


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(",") if sys.argv[2] else [], sys.argv[3:])
