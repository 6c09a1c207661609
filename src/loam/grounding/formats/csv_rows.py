"""CSV and TSV: each row a line that names its columns.

Knows delimiters, and how to tell the names of columns from values (`table` below, which sheets use too).
Invariant: each row stands alone: who finds it needs no other row to know what its values are.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import PurePosixPath

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import Source, cell

_DELIMITERS = ",;\t|"
_LOOKED_AT = 50  # rows, to find the delimiter


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text, and for a quote that is never closed."""
    found = decoded(source)
    writer = Writer()
    if found.remark:
        writer.remark(found.remark)
    delimiter = "\t" if PurePosixPath(source.name).suffix.lower() == ".tsv" else _delimiter(found.text)
    try:
        table(writer, _rows(found.text, delimiter))
    except csv.Error as error:
        raise source.refuse(f"not CSV ({error}); is a quotation mark never closed? save it anew") from error
    return writer.document(source.title)


def table(writer: Writer, rows: Iterable[list[str]]) -> None:
    """Writes rows; the first of two values or more names the columns, if they are words and all different.

    What comes before that row is taken for a caption.
    """
    filled = _filled(rows)
    captions: list[str] = []
    for cells in filled:
        if sum(map(bool, cells)) > 1:
            break
        captions.append("".join(cells))
    else:
        for value in captions:  # nothing but single values: a list
            writer.row([value])
        return
    for caption in captions:
        writer.paragraph(caption)
    names = cells if _are_names(cells) else []
    following = next(filled, None)
    if not names or following is None:
        _row(writer, [], cells)
    if following is not None:
        _row(writer, names, following)
    for others in filled:
        _row(writer, names, others)


def _filled(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    for row in rows:
        cells = [cell(value) for value in row]
        if any(cells):
            yield cells


def _row(writer: Writer, names: list[str], cells: list[str]) -> None:
    pairs = [
        f"{names[index]}: {value}" if index < len(names) and names[index] else value
        for index, value in enumerate(cells)
        if value
    ]
    writer.row(pairs)


def _are_names(cells: list[str]) -> bool:
    words = [value for value in cells if value]
    return (
        len(words) > 1
        and len(words) == len(set(words))
        and all(any(map(str.isalpha, word)) and not word[0].isdigit() and len(word) < 80 for word in words)
    )


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text), delimiter=delimiter)


def _delimiter(text: str) -> str:
    """The one that cuts the first rows into most columns, and all of them into as many."""

    def fit(delimiter: str) -> int:
        try:
            widths = [len(row) for row in islice(_rows(text, delimiter), _LOOKED_AT) if any(row)]
        except csv.Error:
            return 0
        return min(widths, default=0) * 1000 + max(widths, default=0)

    return max(_DELIMITERS, key=fit)
