"""The program as a person runs it: a gateway that stays, and commands that reach it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from msgspec import Struct

_GREETING = "Loam answers at "
_PEAK = """
import sys
from loam.cli.main import main
try:
    main()
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(f"peak-kib {peak}", file=sys.stderr)
"""


class Done(Struct, frozen=True):
    """How a command ended; `peak_mib` is the most memory that it had."""

    status: int
    out: str
    err: str
    peak_mib: float

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.out)


class Program:
    """Runs commands in `folder`, with nothing set but where Loam keeps its data, and `more`."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LOAM_DATA": str(folder / "data"),
            "LOAM_PORT": "0",
            "LOAM_GROUNDING__ENCODER__NAME": "none",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}),
            **more,
        }

    def run(self, *words: str, timeout: float = 240) -> Done:
        command = [*_as_others(), sys.executable, "-c", _PEAK, *words]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, timeout=timeout, check=False
        )
        err, _, peak = done.stderr.decode(errors="replace").rpartition("peak-kib ")
        return Done(done.returncode, done.stdout.decode(), err, int(peak or 0) / 1024)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Begins a command; what it says can be read while it runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "loam", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def serving(self) -> Iterator["Served"]:
        """A gateway in a process of its own; it is ended with the `with`, if it still runs."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "loam", "serve"],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            assert process.stdout is not None
            try:
                line = next((line for line in process.stdout if line.startswith(_GREETING)), "")
                if not line:
                    log.seek(0)
                    raise AssertionError(log.read().decode(errors="replace"))
                yield Served(process, line.removeprefix(_GREETING).strip())
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
                process.stdout.close()


class Served(Struct, frozen=True):
    process: "subprocess.Popen[str]"
    url: str

    def get(self, path: str) -> Any:
        with urlopen(f"{self.url}{path}") as response:
            return json.load(response)

    def send(self, path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        with urlopen(Request(f"{self.url}{path}", json.dumps(body).encode(), headers)) as response:
            return json.load(response)

    @property
    def peak_mib(self) -> float:
        """The most memory that it had so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _as_others() -> Sequence[str]:
    """The administrator may read every file; without these powers he is as others are."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() or setpriv is None:
        return ()
    return (setpriv, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
