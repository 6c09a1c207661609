import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import FORMATS, KINDS, read_document, supported


def test_text_is_kept_as_it_stands_but_for_its_line_ends() -> None:
    document = read_document("notes/out-of-office.txt", "\ufeff One.\r\n\r\nTwo — drei.\r".encode())
    assert document.title == "Out of office"
    assert document.text == "One.\n\nTwo — drei."


def test_an_index_is_called_like_its_folder() -> None:
    assert read_document("slack/index.md", b"Text.").title == "Slack"
    assert read_document("README.md", b"Text.").title == "README"


def test_utf_16_with_its_mark_is_read() -> None:
    assert read_document("a.txt", "Grüße.".encode("utf-16")).text == "Grüße."


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.zip", b"PK", "Loam reads Markdown (.md), text (.txt), HTML (.html), PDF (.pdf)"),
        ("a.doc", b"x", "save it as .docx"),
        ("a.png", b"x", "OCR"),
        ("Makefile", b"all:", "'nothing'"),
        ("a.md", b"\x89PNG\r\n\x1a\n\x00\x00", "by its first bytes it is a picture"),
        ("a.md", b"PK\x03\x04 zipped", "rename it to end in .docx or .pptx or .xlsx or .xlsm or .epub"),
        ("a.txt", b"%PDF-1.7 and so on", "it is a PDF; rename it to end in .pdf"),
        ("a.pdf", b"Dear all,", "does not begin as such files do (with %PDF-)"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "take off its password"),
        ("a.txt", b"words \x03 words", "binary data (a '\\x03' at character 6)"),
        ("a.txt", b"\xff\xfea", "UTF-16"),
        ("a.md", b"", "no text in it"),
        ("a.md", b"---\ntitle: Only\n---\n\n# Headings\n\n## Here\n", "no text in it"),
        ("a.txt", b" \n\t\n", "no text in it"),
    ],
)
def test_what_is_no_document_is_refused_by_name_and_reason(name: str, data: bytes, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(name, data)
    assert str(caught.value).startswith(f"{name}: ")
    assert told in str(caught.value)


def test_a_text_that_speaks_of_pdf_is_a_text() -> None:
    assert read_document("a.txt", b"A PDF begins with %PDF-1.7.").text == "A PDF begins with %PDF-1.7."


def test_an_ending_belongs_to_one_format_and_counts_in_either_case() -> None:
    assert sum(len(kind.endings) for kind in KINDS) == len(FORMATS)
    assert supported("A.PDF")
    assert not supported("a.exe")
