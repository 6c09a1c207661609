"""Commands of the local engine in new hands: bad input, no terminal, a reader or a user who leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loam.cli.main import main
from loam.engine.pocket import FOLDER
from tests.cli.program import Program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("newcomer")
    torn = folder / "torn"
    torn.mkdir()
    for file in FOLDER.glob("*.*"):
        (torn / file.name).write_bytes(file.read_bytes()[:100_000])
    (folder / "hollow").mkdir()
    return Program(folder)


def run(program: Program, *words: str, given: bytes = b"", **more: Any) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "loam", *words]
    how = {"input": given, "capture_output": True, "timeout": 60, **more}
    return subprocess.run(command, env=program.environment, cwd=program.folder, check=False, **how)


LONG = "word " * 3000


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("generate", "hi", "--model", "./nosuch"), 2, "there is no checkpoint './nosuch'"),
        (("generate", "hi", "--model", "hollow"), 2, "neither a folder with config.json"),
        (("generate", "hi", "--model", "torn"), 2, "model.safetensors is not a whole safetensors file"),
        (("generate", "hi", "--temperature", "-1"), 3, "temperature: -1 is not between 0 and"),
        (("generate", LONG), 3, "this model reads 512 in all"),
        (("generate", ""), 2, "there is no text"),
        (("tokenize", ""), 2, "there is no text"),
        (("inspect", "hi", "--model", "./nosuch"), 2, "there is no checkpoint at ./nosuch"),
        (("inspect", "hi", "--model", "torn"), 2, "model.safetensors is not a whole safetensors file"),
        (("inspect", "hi", "--temperature", "-1"), 3, "temperature is -1.0; it must lie between"),
        (("inspect", LONG), 3, "shorten the prompt"),
        (("models", "bench", "torn"), 2, "model.safetensors is not a whole safetensors file"),
        (("models", "show", "./nosuch"), 2, "there is no checkpoint './nosuch'"),
        (("chat", "--model", "./nosuch"), 2, "there is no checkpoint at ./nosuch"),
    ],
)
def test_bad_input_is_one_clear_line(
    program: Program,
    words: tuple[str, ...],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in program.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(program.folder)
    monkeypatch.setattr(sys, "argv", ["loam", *words])
    with pytest.raises(SystemExit) as left:
        main()
    out, told = capfd.readouterr()
    assert (left.value.code, out) == (status, ""), told
    assert said in told
    assert len(told.strip().splitlines()) <= 4


@pytest.mark.parametrize("command", ["generate", "tokenize", "inspect"])
def test_input_that_is_no_text_is_said_so(program: Program, command: str) -> None:
    done = run(program, command, "-", given=b"\xff\xfe no text")
    assert done.returncode == 2
    assert b"the text is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_script_talks_without_a_terminal(program: Program) -> None:
    done = run(program, "chat", "--model", "pocket", "--max-tokens", "6", given=b"Who comes there?\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "›".encode() not in done.stdout
    assert b"\x1b" not in done.stdout
    refused = run(program, "chat", "--model", "pocket", "--temperature", "-1", given=b"Hello\n")
    assert (refused.returncode, b"temperature" in refused.stderr) == (3, True)


def test_logprobs_show_a_part_of_a_letter_as_inspect_does(program: Program) -> None:
    words = ("hi", "--raw", "--temperature", "90", "--logprobs", "0", "--seed", "1", "--max-tokens", "80")
    told = run(program, "generate", *words).stdout.decode()
    assert "‹" in told
    assert "bytes:" not in told


@pytest.mark.parametrize(
    "words",
    [("generate", "hi", "--max-tokens", "400"), ("inspect", "ROMEO:", "--steps", "40"), ("models", "show", "pocket")],
)
def test_a_reader_who_has_seen_enough_is_no_error(program: Program, words: tuple[str, ...]) -> None:
    process = program.start(*words)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), "Traceback" in told, "Exception" in told) == (0, False, False), told


def test_an_output_that_is_full_is_said_so(program: Program) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(program, "tokenize", "hi", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert b"what was written is not whole" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "hi"),
        pytest.param(("inspect", "ROMEO:", "--steps", "64"), marks=pytest.mark.slow),
        pytest.param(("models", "bench"), marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_it_and_its_process_at_once(program: Program, words: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "loam", *words],
        env=program.environment,
        cwd=program.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(1.0)  # the engine is being loaded
    os.killpg(process.pid, signal.SIGINT)
    out, told = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b""), told
    assert b"Traceback" not in told
    end = time.monotonic() + 10
    while alive(process.pid):
        assert time.monotonic() < end, "a process is left behind"
        time.sleep(0.05)


def alive(group: int) -> bool:
    """Whether a process of the group still runs; one that waits for its parent to look is none."""
    for place in Path("/proc").iterdir():
        try:
            told = (place / "stat").read_text().rpartition(")")[2].split() if place.name.isdigit() else []
        except OSError:
            continue
        if told and told[2] == str(group) and told[0] != "Z":
            return True
    return False
