"""The glass box's guide shows what the program prints: line by line, number by number."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="the glass box is the engine's")
from loam.cli.inspect import command

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "glass-box.md").read_text("utf-8")
SHOWN = re.findall(r"```console\n\$ loam inspect (.*?)\n(.*?)\n```", GUIDE, flags=re.DOTALL)
NUMBER = re.compile(r"(?<![\w.@])[0-9][0-9,]*(?:\.[0-9]+)?")
OWN_OF_A_CPU = "the layers are those of the plain decoder"
"""A note that is there only where the compiled kernel computes."""


def printed(words: list[str]) -> list[str]:
    how: dict[str, Any] = {"help_option_names": ["-h", "--help"], "catch_exceptions": False}
    done = CliRunner().invoke(command, [*words, "--no-legend"], **how)
    assert done.exit_code == 0, done.output
    return done.output.rstrip("\n").split("\n")


def told(line: str) -> str:
    """A line's words, without its numbers and the bars and lines drawn of them."""
    line = line.partition("; likeliest")[0]  # of a thousand unlikely tokens; a rounding orders them anew
    return re.sub(r"\s+", " ", re.sub(r"[█▏▎▍▌▋▊▉━─▲]+", "", NUMBER.sub("#", line))).strip()


def near(shown: str, found: str) -> bool:
    """A logit's rounding moves a share by a tenth; another CPU rounds, at most, by that."""
    one, other = ([float(number.replace(",", "")) for number in NUMBER.findall(line)] for line in (shown, found))
    return len(one) == len(other) and all(abs(a - b) <= 0.2 + 0.15 * abs(a) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("asked", "picture"), SHOWN, ids=[asked for asked, _ in SHOWN])
def test_what_is_shown_is_what_is_printed(asked: str, picture: str) -> None:
    shown, found = picture.split("\n"), printed(shlex.split(asked))
    if "   …" in shown:  # layers left out for want of room
        place = shown.index("   …")
        rest = len(shown) - place - 2
        found = [*found[:place], *shown[place : place + 2], *found[-rest:]]
    pairs = list(zip(shown, found, strict=False))
    for line, real in pairs:
        if line.startswith(OWN_OF_A_CPU) and not real.startswith(OWN_OF_A_CPU):
            break
        assert told(line) == told(real)
        assert near(line.partition("; likeliest")[0], real.partition("; likeliest")[0]), (line, real)
    else:
        assert len(shown) == len(found)


def test_the_guide_shows_pictures() -> None:
    assert len(SHOWN) == 2
    assert any("--layers" in asked for asked, _ in SHOWN)
