"""Excel: each sheet a section, each row a line that names its columns.

Knows openpyxl, which reads row by row: blank rows cost nothing. Values are those that were last computed and stored.
Hidden sheets are passed over.
Invariant: what a cell shows is what is written, as far as numbers, dates and percentages go.
"""

import io
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, cast

import openpyxl

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.archive import Archive
from loam.grounding.formats.csv_rows import table
from loam.grounding.formats.source import Source, tidy

_COLUMNS = 1024  # a row made of one cell in the last column of 16 384 would cost as much as a full one


def read(source: Source) -> Document:
    """Raises DocumentError for archives that are damaged or dangerous."""
    archive = Archive(source)
    archive.check_xml()
    archive.needs("xl/workbook.xml", "an Excel workbook")
    book = openpyxl.load_workbook(io.BytesIO(source.data), read_only=True, data_only=True, keep_links=False)
    writer = Writer()
    for sheet in cast("list[Any]", book.worksheets):
        if sheet.sheet_state != "visible":
            writer.remark("hidden sheets are passed over")
            continue
        writer.heading(1, tidy(sheet.title))
        sheet.reset_dimensions()  # they are what the file claims, a million rows if it likes
        table(writer, _rows(sheet))
    title = book.properties.title
    return writer.document(tidy(title or "") or source.title)


def _rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows(max_col=None):
        yield [_shown(one) for one in row[:_COLUMNS]]


def _shown(one: Any) -> str:
    value = one.value
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() | int() if "%" in (one.number_format or ""):
            return f"{value * 100:.10g}%"
        case float():
            return f"{value:.15g}"
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(" ", "minutes")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case _:
            return str(value)
