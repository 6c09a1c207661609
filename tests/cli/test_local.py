"""Checkpoints from the command line."""

from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.engine import vocabularies


def test_a_text_is_shown_as_tokens(tmp_path: Path) -> None:
    folder = vocabularies.byte_level(tmp_path / "models")
    (folder / "config.json").write_text("{}")
    done = Program(tmp_path).run("tokenize", "Grüße", "--model", str(folder), "--json")
    assert done.status == 0, done.err
    assert bytes.fromhex("".join(row["bytes"] for row in done.report)).decode() == "Grüße"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate", "hi", "--model", "nobody"), "`loam models pull` fetches one"),
        (("tokenize", "hi", "--model", "nobody"), "`loam models list` shows what is there"),
        (("models", "show", "nobody"), "there is no checkpoint 'nobody'"),
        (("serve", "--model", "nobody"), "there is no checkpoint 'nobody'"),
        (("models", "pull", "no such name"), "could not be fetched"),
    ],
)
def test_what_is_not_there_is_said_with_what_brings_it(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = Program(tmp_path, HF_HUB_OFFLINE="1").run(*words)
    assert done.status == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_no_checkpoints_is_said_with_how_to_get_one(tmp_path: Path) -> None:
    done = Program(tmp_path).run("models", "list")
    assert "loam models pull ORG/NAME" in done.out
