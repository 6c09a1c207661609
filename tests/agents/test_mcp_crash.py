"""kill -9 at the event boundaries of a run that writes through an MCP server: nothing twice, lost, or left alive."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agents.test_mcp import gone

PROGRAM = Path(__file__).with_name("mcp_crash.py")
EVENTS = 12  # began; twice asked, answered, started, returned; asked, answered, ended
AROUND = [("after", 4), ("before", 5)]  # the first call was begun; the first call was made


def take_up(folder: Path, when: str, number: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(PROGRAM), str(folder), when, str(number)]
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(one for one in (os.environ.get("PYTHONPATH", ""), here) if one)
    environment = {"PYTHONPATH": path, "PATH": os.defpath}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def kill_at(folder: Path, when: str, number: int) -> None:
    folder.mkdir()
    killed = take_up(folder, when, number)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = take_up(folder, "never", 0)
    assert resumed.stdout.startswith("answered all noted"), (when, number, resumed.stderr)
    assert (folder / "notes").read_text().split() == ["first", "second"], (when, number)
    assert gone(*map(int, (folder / "lives").read_text().split()))


def test_how_many_boundaries_there_are(tmp_path: Path) -> None:
    assert take_up(tmp_path, "never", 0).stdout.split() == ["answered", "all", "noted", str(EVENTS)]


@pytest.mark.parametrize(("when", "number"), AROUND)
def test_a_write_is_neither_doubled_nor_lost(tmp_path: Path, when: str, number: int) -> None:
    kill_at(tmp_path / "run", when, number)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_boundary_doubles_or_loses_a_write(tmp_path: Path, when: str) -> None:
    for number in range(1, EVENTS + 1):
        kill_at(tmp_path / f"{number}", when, number)
