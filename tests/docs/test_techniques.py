"""There is a program and a page for each technique, and each program runs to its end, as a person would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loam.prompting.technique import TECHNIQUES

ROOT = Path(__file__).parents[2]
PROGRAMS = {name: name if name != "structured" else "structured_output" for name in TECHNIQUES}


@pytest.mark.parametrize("name", PROGRAMS.values())
def test_a_program_runs(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "LOAM_GROUNDING__ENCODER__NAME": "none"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_page_says_when_what_it_costs_and_its_traps(name: str) -> None:
    page = (ROOT / "docs" / "guide" / "techniques" / f"{name.replace('_', '-')}.md").read_text("utf-8")
    for heading in ("## When", "## What it costs", "## Traps"):
        assert heading in page
    assert f"techniques/{name.replace('_', '-')}.md" in (ROOT / "docs" / "guide" / "techniques.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["agent", "agent_in_python"])
def test_a_program_with_an_agent_runs(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "LOAM_GROUNDING__ENCODER__NAME": "none"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Order 7 is paid back."
