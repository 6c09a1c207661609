"""Reading in a process apart: what crashes, hangs or swells there is one sentence here."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document
from loam.grounding.formats.apart import Limits, read_apart, read_here
from loam.grounding.formats.source import Source
from tests.grounding.formats import made


def test_a_parser_that_never_ends_is_ended() -> None:
    """The parser's time grows with the square of the depth: 200 000 levels take it minutes."""
    source = Source("deep.html", "Deep", b"<div>" * 200_000 + b"words")
    began = time.monotonic()
    with pytest.raises(DocumentError, match=r"deep\.html: reading it takes more than 1 seconds"):
        read_apart("html", source, Limits(cpu_seconds=1))
    assert time.monotonic() - began < 60


def test_elapsed_time_is_bounded_too() -> None:
    source = Source("deep.html", "Deep", b"<div>" * 200_000)
    with pytest.raises(DocumentError, match="more than 1 seconds"):
        read_apart("html", source, Limits(seconds=1))


def test_memory_is_bounded() -> None:
    source = Source("x.json", "X", b"[" + b'{"a":"bcdefgh"},' * 1_000_000 + b"{}]")
    with pytest.raises(DocumentError, match="takes more than 200 MiB of memory"):
        read_apart("json_values", source, Limits(memory_bytes=200 * 2**20))


@pytest.mark.parametrize("reader", [read_here, read_apart])
def test_a_missing_library_is_named_with_what_to_install(
    reader: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pypdfium2.py").write_text("raise ModuleNotFoundError(name='pypdfium2')")
    script = (
        "from loam.grounding.formats.apart import read_here, read_apart\n"
        "from loam.grounding.formats.source import Source\n"
        f"{reader.__name__}('pdf', Source('x.pdf', 'X', b'%PDF-'))"  # type: ignore[attr-defined]
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("loam.core.errors.DocumentError: x.pdf: ")
    assert "needs pypdfium2" in done.stderr
    assert "pip install 'loam[grounding]'" in done.stderr


def test_no_format_library_is_imported_before_a_file_of_its_kind_is_read() -> None:
    libraries = ("pypdfium2", "selectolax", "docx", "pptx", "openpyxl", "lxml")
    script = (
        "import sys; from loam.grounding.documents import read_document\n"
        "read_document('a.md', b'Text.'); read_document('a.csv', b'a,b'); read_document('a.py', b'x = 1')\n"
        f"print([name for name in {libraries!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_read_apart_is_what_is_read_here() -> None:
    source = Source("x.docx", "X", made.word(headings=[("Leave", "You may take leave.")]))
    assert read_apart("word", source) == read_here("word", source)


def test_a_large_page_is_read_though_in_a_process_of_its_own() -> None:
    page = "<main>" + "".join(f"<h2>Rule {n}</h2><p>The rule says {n}.</p>" for n in range(3000)) + "</main>"
    document = read_document("rules.html", page.encode())
    assert len(document.sections) == 3000
