import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import DocumentError
from loam.grounding.documents import FORMATS, read_document


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
        ("a.pdf", b"%PDF-1.7", ".md, .markdown, .txt"),
        ("Makefile", b"all:", "'nothing'"),
        ("a.md", b"\x89PNG\r\n\x1a\n\x00\x00", "not valid UTF-8 (byte 0"),
        ("a.md", b"PK\x03\x04 zipped", "binary data (a '\\x03' at character 2)"),
        ("a.txt", b"caf\xe9", "save it as UTF-8"),
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


@given(st.sampled_from([f"x{ending}" for ending in FORMATS]), st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_give_a_document_or_a_document_error(name: str, data: bytes) -> None:
    try:
        document = read_document(name, data)
    except DocumentError:
        return
    assert document.text.strip()
    document.text.encode()
