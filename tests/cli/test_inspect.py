"""`loam inspect`: a picture of 100 columns that says the numbers of the inspection, with and without colour."""

import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import json
from rich.console import Console

from loam.cli.inspect import command, look
from loam.cli.inspect_picture import LAYER_LEGEND, LEGEND, bar, draw, percent, quoted
from loam.cli.reach import Refused
from loam.config import parse
from loam.engine.asks import Draw
from loam.engine.inspection import Candidate, Drawn, Inspection, Piece, Removal, Step, Wish
from loam.kinds import with_checkpoint
from loam.serving import running
from tests.engine.checkpoints import make

AS_CALLED: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""What `loam` gives its commands; click keeps a command's first help option for ever."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("inspected") / "tiny", "llama")


def run(*words: str) -> Result:
    return CliRunner().invoke(command, words, env={"COLUMNS": "100"}, catch_exceptions=False, **AS_CALLED)


def test_the_picture_says_what_the_json_says(tiny: Path) -> None:
    words = ("the cat", "--model", str(tiny), "--steps", "3", "--temperature", "0.8", "--top-k", "20", "--layers")
    picture, found = run(*words), json.decode(run(*words, "--json").output, type=Inspection)
    assert (picture.exit_code, found.model, len(found.steps)) == (0, "tiny", 3)
    lines = picture.output.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in picture.output
    for step in found.steps:
        assert f"entropy {step.entropy:.2f} bits, {step.entropy_left:.2f} left; drawn from 20 tokens" in picture.output
        assert (
            f"draws {step.drawn.number:.4f}, between {step.drawn.low:.4f} and {step.drawn.high:.4f}" in picture.output
        )
        assert f"top_k took {step.removed[0].tokens:,} tokens" in picture.output
        for candidate in step.candidates:
            row = next(line for line in lines if f" {candidate.token.id} " in line and f"{candidate.logit:.2f}" in line)
            assert percent(candidate.probability) in row
            assert ("▸" in row) == (candidate.token.id == step.drawn.token.id)
        for layer in step.layers:
            assert any(f"{layer.entering:.2f}" in line and f"{layer.mlp:.2f}" in line for line in lines)
            for head in layer.heads:
                start = f"   {layer.layer}.{head.head}"
                look = f"@{head.looks[0].position} {percent(head.looks[0].weight)}"
                assert any(line.startswith(start) and look in line for line in lines)


def test_the_help_teaches_every_number(tiny: Path) -> None:
    shown = run("--help").output
    for name, meaning in (*LEGEND, *LAYER_LEGEND):
        assert name in shown
        assert meaning in shown
    ends = run("the cat", "--model", str(tiny), "--steps", "1").output
    assert all(meaning in ends for _, meaning in LEGEND)
    assert LEGEND[0][1] not in run("the cat", "--model", str(tiny), "--steps", "1", "--no-legend").output


def test_greedy_and_chat(tiny: Path) -> None:
    shown = run("Hello", "--model", str(tiny), "--temperature", "0", "--steps", "2", "--chat").output
    assert "the largest" in shown
    assert "draws" not in shown
    assert '"<|user|>"' in shown


@pytest.mark.parametrize("colour", [False, True])
def test_a_narrow_case_of_everything(colour: bool, capsys: pytest.CaptureFixture[str]) -> None:
    piece = Piece(7, " a very long token indeed", b" a very long token indeed".hex())
    part = Piece(8, "�", "e282")
    candidates = (
        Candidate(token=piece, logit=1.5, probability=0.9, adjusted=1.0, at=(0.5,), removed_by=None, chance=1.0),
        Candidate(token=part, logit=-0.25, probability=1e-6, adjusted=None, at=(0.0,), removed_by="grammar", chance=0),
    )
    drawn = Drawn(token=piece, number=0.999999, low=0.0, high=1.0, chance=1.0, logprob=-0.1, rank=1)
    step = Step(
        position=1, entropy=0.5, entropy_left=0.0, candidates=candidates, moved=1, moves=(),
        removed=(Removal("top_p", 1, 1e-6, (part,)),), kept=1, drawn=drawn,
    )  # fmt: skip
    found = Inspection(
        model="m", prompt=(part,), steps=(step,), text="x", ending="length",
        draw=Draw(top_p=0.9, bias={7: 1.0}), temperatures=(1.0,), notes=("a note",),
    )  # fmt: skip
    draw(found, Console(width=100, force_terminal=colour, no_color=not colour, highlight=False, soft_wrap=True))
    shown = capsys.readouterr().out
    for said in (
        "1.50 → 1.00",
        "taken by grammar",
        "‹e2 82›",
        "<0.01%",
        "1 logit\n",
        "1 logits biased",
        "a note",
        "draws 1.0000",
    ):
        assert said in shown.replace("\x1b[0m", ""), said


@pytest.mark.parametrize("width", [80, 90, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    wish = Wish(prompt="The old man looked at the sea.", steps=3, candidates=12, top_k=300, min_p=0.01, layers=True)
    drawn = io.StringIO()
    draw(look(wish), Console(width=width, file=drawn, highlight=False, soft_wrap=True))
    lines = drawn.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines if not line.startswith("prompt"))
    helped = CliRunner().invoke(command, ["--help"], terminal_width=80, **AS_CALLED).output
    assert max(map(len, helped.splitlines())) <= 80


def test_bars_percents_and_quotes() -> None:
    assert [percent(share) for share in (0.0, 1e-7, 0.0027, 0.431, 1.0)] == ["0%", "<0.01%", "0.27%", "43.1%", "100.0%"]
    assert (bar(0.0), bar(1e-9), bar(0.5, 4), bar(1.0, 4)) == ("", "▏", "██", "████")
    assert quoted(Piece(1, "\n", "0a")) == '"\\n"'
    assert len(quoted(Piece(1, "x" * 90, ""))) == 18


def test_an_unknown_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="empty"):
        run("x", "--model", str(tmp_path / "empty"))


def test_a_gateway_shows_the_same_as_the_file(tiny: Path, tmp_path: Path) -> None:
    words = ("the cat", "--steps", "2", "--temperature", "0.7", "--json")
    settings = parse({"data": str(tmp_path), "server": {"port": 0}, "providers": {}})
    settings, name = with_checkpoint(settings, str(tiny), at_start=False)
    with running(settings) as gateway:
        environment = {"LOAM_URL": gateway.url}
        how: dict[str, Any] = {"env": environment, "catch_exceptions": False, **AS_CALLED}
        asked = CliRunner().invoke(command, [*words, "--model", name], **how)
        with pytest.raises(Refused, match="temperature"):
            CliRunner().invoke(command, ["x", "--temperature", "-1", "--model", name], **how)
    found = json.decode(asked.output, type=Inspection)
    assert found == json.decode(run(*words, "--model", str(tiny)).output, type=Inspection)


def test_what_ships_is_looked_into_without_a_word_more() -> None:
    shown = run("ROMEO:", "--steps", "1").output
    assert shown.startswith("pocket")
    assert '▸  "\\n"' in shown  # a name is followed by a line end, if it learned anything of plays
