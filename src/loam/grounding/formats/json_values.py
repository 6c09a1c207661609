"""JSON and JSON Lines: each value with the path that leads to it.

Knows what a reader of the values needs: a record of short values is a row that names them, long text is a paragraph.
Invariant: every value but null stands in the document, in order.
"""

import json
from pathlib import PurePosixPath
from typing import Any, cast

from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.source import Source, cell, tidy

_SHORT = 160  # characters


def read(source: Source) -> Document:
    """Raises DocumentError for bytes that are no text, for what is no JSON, and for nesting beyond reason."""
    found = decoded(source)
    writer = Writer()
    if found.remark:
        writer.remark(found.remark)
    lines = PurePosixPath(source.name).suffix.lower() != ".json"
    pieces = found.text.split("\n") if lines else [found.text]
    for number, piece in enumerate(pieces, 1):
        where = f" in line {number}" if lines else ""
        try:
            if piece.strip():
                _write(writer, "", json.loads(piece, parse_int=str, parse_float=str))
        except json.JSONDecodeError as error:
            raise source.refuse(
                f"not JSON{where} ({error.msg} at character {error.pos}); mend it, or give it the ending .txt"
            ) from error
        except RecursionError as error:
            raise source.refuse(f"its JSON is nested too deep{where}; flatten it, or end its name in .txt") from error
    return writer.document(source.title)


def _write(writer: Writer, path: str, value: Any) -> None:
    if isinstance(value, dict):
        _record(writer, path, cast("dict[str, Any]", value))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in cast("list[Any]", value)):
        for item in cast("list[Any]", value):
            _write(writer, path, item)
    elif text := _shown(value):
        writer.paragraph(f"{path}: {text}" if path else text)


def _record(writer: Writer, path: str, record: dict[str, Any]) -> None:
    """Its short values in a row, then the rest."""
    row: list[str] = []
    rest: list[str] = []
    for key, value in record.items():
        if isinstance(value, dict | list) or len(_shown(value)) > _SHORT:
            rest.append(key)
        elif text := _shown(value):
            row.append(cell(f"{_joined(path, key)}: {text}"))
    if row:
        writer.row(row)
    for key in rest:
        _write(writer, _joined(path, key), record[key])


def _joined(path: str, key: str) -> str:
    """No longer than a reader can use, or many values under a long path would fill the memory with it."""
    return (f"{path}.{tidy(key)}" if path else tidy(key))[-_SHORT:]


def _shown(value: Any) -> str:
    """A value that holds no other, or a list of such, as text."""
    if isinstance(value, list):
        return tidy(", ".join(_shown(item) for item in cast("list[Any]", value)))
    if value is None or isinstance(value, dict):
        return ""
    return tidy(value) if isinstance(value, str) else str(value).lower()
