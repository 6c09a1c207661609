"""CSV and TSV: each row a line that names its columns.

Knows delimiters, and how to tell the names of columns from values (`table` below, which sheets use too).
Invariant: each row stands alone: who finds it needs no other row to know what its values are.
"""

import csv
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
    """Writes rows; the first with two names or more, all of them words and different, names the columns.

    What comes before that row is taken for a caption.
    """
    names: list[str] | None = None
    first: list[list[str]] = []
    for row in rows:
        cells = [cell(value) for value in row]
        if not any(cells):
            continue
        if names is not None:
            _row(writer, names, cells)
        elif sum(map(bool, cells)) == 1 and len(first) < 5:
            first.append(cells)
        else:
            for caption in first:
                writer.paragraph("".join(caption))
            first = []
            names = cells if _are_names(cells) else []
            if not names:
                _row(writer, names, cells)
    for caption in first:  # nothing but single values: a list
        writer.row([value for value in caption if value])


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
    return csv.reader(text.split("\n"), delimiter=delimiter)


def _delimiter(text: str) -> str:
    """The one that cuts the first rows into most columns, and all of them into as many."""

    def fit(delimiter: str) -> int:
        try:
            widths = [len(row) for row in islice(_rows(text, delimiter), _LOOKED_AT) if any(row)]
        except csv.Error:
            return 0
        return min(widths, default=0) * 1000 + max(widths, default=0)

    return max(_DELIMITERS, key=fit)
