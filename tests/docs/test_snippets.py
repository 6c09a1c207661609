"""Every snippet of the README and the guide runs: Python in order, a page at a time; settings are read as settings."""

import re
import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import groq
import openai
import pytest
import together
from msgspec import Struct

from loam.config import parse
from loam.kinds import with_checkpoint
from loam.serving import Running, running

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w+)( skip)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


class Snippet(Struct, frozen=True):
    page: Path
    line: int
    language: str
    skip: bool
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text("utf-8")
    return [
        Snippet(page, text.count("\n", 0, found.start()) + 2, found[1], bool(found[2]), found[3])
        for found in _FENCE.finditer(text)
    ]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    settings = parse(
        {
            "data": str(tmp_path_factory.mktemp("data")),
            "server": {"port": 0},
            "providers": {"fake": {"kind": "scripted", "script": [{"text": "You said: {question}"}]}},
            "default_route": "fake/any",
        }
    )
    settings, _ = with_checkpoint(settings, "pocket", at_start=False)
    with running(settings) as gateway:
        yield gateway


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, gateway: Running) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem, "gateway": gateway}
    for snippet in snippets(page):
        if snippet.language == "python" and not snippet.skip:
            # the blank lines make an error name the line in the page
            source = "\n" * (snippet.line - 1) + snippet.text
            exec(compile(source, str(page), "exec"), namespace)
    for value in namespace.values():
        if isinstance(value, openai.OpenAI | anthropic.Anthropic | groq.Groq | together.Together):
            value.close()


@pytest.mark.parametrize("snippet", [s for page in PAGES for s in snippets(page) if s.language == "toml"], ids=str)
def test_settings_are_settings(snippet: Snippet) -> None:
    assert parse(tomllib.loads(snippet.text), str(snippet))


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
