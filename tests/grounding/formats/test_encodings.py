"""Bytes to text: what is sure, what is guessed and said, what is refused."""

import pytest

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document

_GERMAN = "Die Prüfung der Größe ist für alle Straßen nötig, sagt das Amt."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_without_a_word(encoding: str) -> None:
    document = read_document("a.txt", _GERMAN.encode(encoding))
    assert document.text == _GERMAN
    assert document.remarks == ()


def test_western_text_is_guessed_and_it_is_said() -> None:
    for name in ("a.txt", "a.md", "a.csv", "a.py", "a.html"):
        document = read_document(name, f"{_GERMAN} “Nichts” – kostet 5 €.".encode("cp1252"))
        assert "Prüfung der Größe" in document.text
        assert document.remarks == ("neither UTF-8 nor declared; read as Windows-1252, which is a guess",)


@pytest.mark.parametrize(
    "data",
    [
        "Привет, это обычный русский текст.".encode("koi8-r"),
        "Zażółć gęślą jaźń, a potem żyj spokojnie w domu i pracuj każdego dnia od rana.".encode("iso8859-2"),
        "これは普通の日本語の文章です。".encode("shift-jis"),
        "这是一个普通的中文句子。".encode("gb18030"),
        "Größe and ü".encode() + b" damaged \xc3 here",
        "Größe".encode() + b" ends in \xe2\x82",
        "Größe".encode("utf-16")[:-1],
    ],
)
def test_other_encodings_and_damage_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^a\.txt: not valid UTF-(8|16) .*save it as UTF-8"):
        read_document("a.txt", data)


@pytest.mark.parametrize(
    "charset", ["koi8-r", "windows-1251", "Shift_JIS", "gb2312", "EUC-JP", "iso-2022-jp", "ISO-8859-1"]
)
def test_a_page_s_own_declaration_counts(charset: str) -> None:
    words = {"koi8-r": "Привет", "windows-1251": "Привет", "gb2312": "中文", "ISO-8859-1": "Größe"}.get(
        charset, "日本語"
    )
    page = f'<html><head><meta http-equiv="Content-Type" content="text/html; charset={charset}"></head><p>{words}</p>'
    document = read_document("a.html", page.encode(charset))
    assert document.text == words
    assert document.remarks == ()


@pytest.mark.parametrize("charset", ["unicode_escape", "idna", "zlib", "no-such-thing", "utf-7"])
def test_a_declaration_of_what_is_no_character_set_is_not_followed(charset: str) -> None:
    page = f'<meta charset="{charset}"><p>Größe \\x41</p>'.encode("cp1252")
    assert read_document("a.html", page).text == "Größe \\x41"
