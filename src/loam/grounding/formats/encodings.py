"""Bytes to text.

Knows byte order marks, declared character sets, and what Western text in Windows-1252 looks like. Knows no format.
The order: a mark; UTF-8 if the bytes are that; what the document declares; Windows-1252, said in a remark, if nothing
speaks against it. Text that looks like another old encoding is refused, for no guess at it is safe.
Invariant: no guess is silent, and text with letters of UTF-8 in it is never taken for something else.
"""

import re

from msgspec import Struct

from loam.grounding.formats.source import Source

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CHARSET = re.compile(
    r"(?:x-)?(?:iso-?8859-?\d+|iso-2022-\w+|windows-?\d+|cp-?\d+|koi8-[rut]|gb\w+|hz|big5\w*|euc-\w+|shift-jis|sjis"
    r"|ks-c-5601\w*|mac-?\w+|latin-?\d+|us-ascii|ascii|utf-?8|utf-16\w*|tis-620)"
)
"""Names of character sets: Python's decoders also know things that are none."""
_WIDER = {
    **dict.fromkeys(("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    **dict.fromkeys(("shift-jis", "sjis"), "cp932"),
    "ks-c-5601-1987": "cp949",
}
"""What a declared name is taken for: the larger set of which it is part, as browsers do."""
_SEVEN_BIT = ("iso-2022", "hz")  # they look like ASCII
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_UTF_8 = re.compile(rb"[\xc3-\xdf][\x80-\xbf](?![\x80-\xff])|[\xe1-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_STRANGE = re.compile(r"[^\W\d_][¡-©«-±³´¶-¹»-¿×÷\x80-\x9f][^\W\d_]")  # a sign amid a word: not Western European
_HIGH = re.compile(rb"[\x80-\xff]")


class Decoded(Struct, frozen=True):
    """Text, and what had to be guessed to get it."""

    text: str
    remark: str = ""


def decoded(source: Source, data: bytes | None = None, *, declared: str = "", controls: bool = False) -> Decoded:
    """The text of `data` (by default all of the source) with plain line ends.

    Control characters are refused unless `controls`, for formats that drop them anyway. Raises DocumentError.
    """
    data = source.data if data is None else data
    found = _decoded(source, data, declared.strip().lower().replace("_", "-"))
    text = found.text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    if not controls and (control := _CONTROL.search(text)):
        raise source.refuse(
            f"binary data (a {control.group()!r} at character {control.start()}), not text; "
            "give it the ending of its real format, or leave it out"
        )
    return Decoded(text, found.remark)


def _decoded(source: Source, data: bytes, declared: str) -> Decoded:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return Decoded(_marked(source, data, encoding))
    order = [declared, "utf-8"] if declared.startswith(_SEVEN_BIT) else ["utf-8", declared]
    for encoding in order:
        text = _by_name(data, encoding)
        if text is not None:
            return Decoded(text)
    if _looks_western(data):
        return Decoded(data.decode("cp1252"), "neither UTF-8 nor declared; read as Windows-1252, which is a guess")
    position = _broken_at(data)
    raise source.refuse(
        f"not valid UTF-8 (byte {position} of {len(data)}), and no other encoding that is sure; save it as UTF-8"
    )


def _marked(source: Source, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise source.refuse(
            f"not valid {encoding.upper()} (byte {error.start} of {len(data)}); save it as UTF-8"
        ) from error


def _by_name(data: bytes, name: str) -> str | None:
    if not _CHARSET.fullmatch(name):
        return None
    try:
        return data.decode(_WIDER.get(name, name))
    except (UnicodeDecodeError, LookupError):
        return None


def _broken_at(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _looks_western(data: bytes) -> bool:
    """Few letters beyond ASCII, none of the bytes that Windows-1252 lacks, no traces of UTF-8, no signs amid words."""
    if _UTF_8.search(data) or 4 * len(_HIGH.findall(data)) > len(data):
        return False
    text = _by_name(data, "cp1252")
    return text is not None and not _STRANGE.search(text) and not _CONTROL.search(text)
