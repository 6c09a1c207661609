"""Run a server on one core and read what it costs: start, CPU, memory.

It knows processes and /proc; nothing about HTTP beyond one GET that says "ready", nothing about load. Invariant: it
signals only the sessions that it started, and always ends them.

    with started(Command("mock", ["python", "-m", "bench.upstream"], port=9100, ready="/v1/models"), core=0) as mock:
        print(mock.start_s, mock.rss_mib(), mock.cpu_s())
"""

import contextlib
import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CORE, LOAD_CORE = 1, 0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server, and which GET answers below 500 once it is ready.

    Port 0 is for a server that picks its own and prints its address.
    """

    name: str
    argv: Sequence[str]
    port: int
    ready: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; its process tree is its session, so children and threads count."""

    command: Command
    process: subprocess.Popen[bytes]
    port: int
    start_s: float
    rss_idle_mib: float
    log: Path

    def cpu_s(self) -> float:
        """User and system seconds of the tree since it started, its ended children included."""
        return sum(_cpu_s(stat) for stat in _session(self.process.pid))

    def rss_mib(self) -> float:
        """Resident memory of the tree."""
        return sum(int(stat[21]) for stat in _session(self.process.pid)) * _PAGE_MIB


def _session(leader: int) -> list[list[str]]:
    """The fields of /proc/PID/stat from the third (state) on, of each process in the session."""
    members = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            text = Path("/proc", entry.name, "stat").read_text()
            fields = text[text.rindex(")") + 2 :].split()  # the name before may hold spaces
            if int(fields[3]) == leader:
                members.append(fields)
    return members


def _cpu_s(stat: list[str]) -> float:
    return sum(int(ticks) for ticks in stat[11:15]) * _TICK_S  # utime stime cutime cstime


def busy_s() -> float:
    """Seconds that all cores together were busy since boot (time stolen by the host included)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _first_line("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _first_line(path: str) -> str:
    with open(path) as lines:
        return lines.readline()


@contextlib.contextmanager
def started(command: Command, *, core: int) -> Iterator[Server]:
    """Start ``command`` on ``core``, wait until it is ready, end it on leaving."""
    if command.port and _answers(command.port, command.ready):
        raise RuntimeError(f"port {command.port} for {command.name} is taken by something else; end it first")
    log = Path(tempfile.mkstemp(prefix=f"bench-{command.name}-", suffix=".log")[1])
    began = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command.argv],
            env=os.environ | command.environment,
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _wait_until_ready(command, process, log)
        start_s = time.perf_counter() - began
        time.sleep(0.5)  # let lazy start-up work settle before the idle memory is read
        idle = Server(command, process, port, start_s, 0.0, log).rss_mib()
        yield Server(command, process, port, start_s, idle, log)
    finally:
        _end(process)


def end_servers_on_sigterm() -> None:
    """Make a SIGTERM leave through every `started`, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("ended by SIGTERM"))


def _wait_until_ready(command: Command, process: subprocess.Popen[bytes], log: Path) -> int:
    limit = time.monotonic() + command.patience_s
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"{command.name} ended with {process.returncode} before it was ready; see {log}")
        port = command.port or _announced_port(log)
        if port and _answers(port, command.ready):
            return port
        time.sleep(0.01)
    raise RuntimeError(f"{command.name} was not ready within {command.patience_s:.0f} s; see {log}")


def _announced_port(log: Path) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
    return int(found[1]) if found else 0


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            if not _session(process.pid):
                return


def median(values: Sequence[float]) -> float:
    """The median; nan of nothing."""
    return statistics.median(values) if values else float("nan")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
