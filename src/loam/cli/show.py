"""How commands print: tables for people, JSON for programs, one way for all of them."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import click
from rich.console import Console
from rich.table import Table

_LONG = ("text", "note", "chain", "models", "source", "message", "tags", "url")
_WIDE = 240
_FOLDED = 24  # characters to which a long text may be folded

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class _Out(Console):
    """Leaves a reader who has seen enough (`| head`) to `loam.cli.main`, where rich would end with 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """The terminal; where the output is none, plain text of any width."""
    return _Out(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Prints rows: all their fields as JSON, or the named columns as a table; `empty` says what to do when none."""
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo(empty)
        return
    out = console()
    cells = {column: [cell(column, row.get(column)) for row in rows] for column in columns}
    fitting = _fitting({column: [label(column), *found] for column, found in cells.items()}, out.width)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in fitting:
        table.add_column(label(column), overflow="fold", no_wrap=column not in _LONG)
    for row in zip(*(cells[column] for column in fitting), strict=True):
        table.add_row(*row)
    out.print(table)
    if hidden := [label(column) for column in columns if column not in fitting]:
        out.print(f"left out for want of room: {', '.join(hidden)}; a wider terminal or --json shows them", style="dim")


def _fitting(cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The first columns that fit beside each other; texts that may be folded count no more than `_FOLDED`."""
    room = width
    fitting: list[str] = []
    for column, texts in cells.items():
        longest = max(map(len, texts))
        room -= (min(longest, _FOLDED) if column in _LONG else longest) + 1
        if room < 0 and len(fitting) >= 2:
            break
        fitting.append(column)
    return fitting


def place(source: dict[str, Any]) -> str:
    """The title and section of a citation or passage."""
    return " › ".join(part for part in (source["title"], source["section"]) if part)


def whereabouts(source: dict[str, Any]) -> str:
    """Where a citation or passage stands: its document, page and characters."""
    page = f", page {source['page']}" if source["page"] else ""
    return f"{source['url']}{page}, characters {source['start']}–{source['end']}"


def label(name: str) -> str:
    """A field's name as people read it; its unit is shown with the value."""
    for unit in ("_micro", "_us"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def cell(name: str, value: Any) -> str:
    """One value as people read it; the name's ending says its unit."""
    if value is None or value in ("", [], {}):
        return "–"
    if name in ("expires", "last_used", "created") and isinstance(value, int | float):
        return moment(value)
    if name.endswith("micro") and isinstance(value, int):
        return f"${value / 1e6:.6f}".rstrip("0").rstrip(".")
    if name.endswith("_us") and isinstance(value, int):
        return f"{value / 1000:.1f} ms"
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value)))
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in cast("dict[str, Any]", value).items())
    if name.endswith("_at"):
        return str(value).replace("T", " ").partition(".")[0]
    return str(value)


def moment(value: float) -> str:
    """Seconds or microseconds since 1970 as local time."""
    seconds = value / 1e6 if value > 1e14 else value
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
