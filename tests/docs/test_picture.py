"""The picture in the README is of the demo as it is: its questions, what it declines, and what was left out."""

import html
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
SVG = (ROOT / "docs" / "pictures" / "demo.svg").read_text("utf-8")
DEMO = runpy.run_path(str(ROOT / "examples" / "demo.py"))
DRAWN = runpy.run_path(str(ROOT / "docs" / "pictures" / "draw.py"))


def said() -> str:
    """The words of the picture, its lines joined as the terminal broke them."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", SVG)
    return re.sub(r"\s+", " ", html.unescape(" ".join(texts)).replace("\xa0", " "))


def test_the_readme_shows_it() -> None:
    assert "](docs/pictures/demo.svg)" in (ROOT / "README.md").read_text("utf-8")


def test_it_is_of_the_demo_as_it_is() -> None:
    words = said()
    for place in DRAWN["SHOWN"]:
        question, expected = DEMO["QUESTIONS"][place]
        assert question in words
        assert expected in words
    assert DEMO["DECLINED"] in words
    count = len(DEMO["QUESTIONS"])
    assert f"{count} of {count} as they should be" in re.sub(r"\s+", " ", words)
    assert "the addition was left out" in words
    assert words.count(DEMO["INVENTED"]) == 1  # where the demo says what the model adds
