"""The order of the road is written once, and what the README draws is that order."""

import re
from pathlib import Path

from loam.assemble import ROAD

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_readmes_picture_is_the_codes_order() -> None:
    drawn = re.findall(r"^  → (\w+) ", README, re.MULTILINE)
    assert tuple(drawn) == ROAD


def test_the_order_is_changed_on_purpose_only() -> None:
    assert ROAD == (
        "keys",
        "ledger",
        "cache",
        "technique",
        "grounding",
        "route",
        "fallback",
        "budget",
        "retry",
        "provider",
    )
