"""kill -9 at every event boundary, in real processes: a run goes on, and no side effect happens twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("crash.py")
EVENTS = 16  # began; three times asked, answered, started, returned; asked, answered, ended


def take_up(folder: Path, when: str, number: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(PROGRAM), str(folder), when, str(number)]
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": os.defpath}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_how_many_boundaries_there_are(tmp_path: Path) -> None:
    assert take_up(tmp_path, "never", 0).stdout.split() == ["answered", "all", "noted", str(EVENTS)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_side_effect_is_doubled_or_lost(tmp_path: Path, when: str) -> None:
    for number in range(1, EVENTS + 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        killed = take_up(folder, when, number)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed = take_up(folder, "never", 0)
        assert resumed.stdout.startswith("answered all noted"), (number, resumed.stderr)
        assert (folder / "notes").read_text().split() == ["first", "second"], number


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    """Each life is killed after two events; what a model call might have cost is never forgotten."""
    lives = 0
    while (life := take_up(tmp_path, "after", 3)).returncode == -signal.SIGKILL:
        lives += 1
        assert lives < 3 * EVENTS
    assert life.stdout.startswith("answered all noted"), life.stderr
    assert lives > 3
    assert (tmp_path / "notes").read_text().split() == ["first", "second"]
