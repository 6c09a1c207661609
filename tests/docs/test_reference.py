"""The reference is what the program prints, and it leaves nothing unexplained."""

from pathlib import Path

import pytest

from loam.cli.docs import PAGES, Setting, every_setting
from loam.config import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_program_prints(name: str) -> None:
    page = (REFERENCE / name).read_text("utf-8")
    assert page == PAGES[name](), "print it again: loam docs reference docs/reference"


def test_there_is_no_other_page() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


@pytest.mark.parametrize(
    "setting", tuple(every_setting(Settings)), ids=lambda setting: f"{setting.section}{setting.name}"
)
def test_every_setting_says_what_it_means(setting: Setting) -> None:
    assert setting.description, "give it a msgspec.Meta(description=…)"


def test_examples_in_the_help_stand_each_on_its_line() -> None:
    assert "\\b" not in PAGES["commands.md"](), "no r before the docstring: click reads the mark, not its two letters"
