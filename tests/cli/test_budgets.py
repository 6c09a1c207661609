"""`loam budgets`, run as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def loam(tmp_path: Path):
    """Runs the program in an empty folder, with nothing set but where it keeps its data."""
    environment = {"PATH": os.environ["PATH"], "LOAM_DATA": str(tmp_path / "data"), "HOME": str(tmp_path)}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "loam", *words]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_limit_is_changed_alone_taken_away_and_never_the_last(loam) -> None:
    made = json.loads(loam("budgets", "create", "--user", "ann", "--period", "day", "--dollars", "5", "--json").stdout)
    change = ("budgets", "change", made["id"])
    changed = json.loads(loam(*change, "--tokens", "700", "--json").stdout)
    assert (changed["money"], changed["tokens"]) == (5_000_000, 700)
    changed = json.loads(loam(*change, "--dollars", "none", "--json").stdout)
    assert (changed.get("money"), changed["tokens"]) == (None, 700)
    refused = loam(*change, "--tokens", "none")
    assert refused.returncode != 0
    assert "needs a limit" in refused.stderr
    [listed] = json.loads(loam("budgets", "list", "--json").stdout)
    assert listed["budget"]["tokens"] == 700


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what changes"),
        (("--tokens", "1.5"), "neither a whole number"),
        (("--tokens", "-3"), "neither a whole number"),
        (("--dollars", "much"), "not an amount of dollars"),
        (("--dollars", "NaN"), "not an amount of dollars"),
    ],
)
def test_what_is_no_limit_is_told_before_anything_is_asked(loam, words: tuple[str, ...], said: str) -> None:
    refused = loam("budgets", "change", "budget_x", *words)
    assert refused.returncode == 2
    assert said in refused.stderr
