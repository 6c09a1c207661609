"""`loam doctor`: what is wrong with this installation."""

import os
import shutil
import sqlite3
import sys
from pathlib import Path

import click

from loam.cli.reach import gateway
from loam.core.errors import LoamError
from loam.kinds import PROVIDERS, check, configured

_LEAST_FREE = 1 << 30


@click.command(name="doctor")
def command() -> None:
    """Look for what is wrong, and say what to do about it. Exit status 1 when something is."""
    good = True
    for name, problem in (("Python", _python()), ("SQLite", _sqlite()), ("settings", _settings()), ("disk", _disk())):
        good &= _say(name, problem)
    if good:
        good = _say("gateway", _gateway())
    keys = [kind.key_variable for kind in PROVIDERS if kind.key_variable]
    if not any(os.environ.get(key) for key in keys):
        click.echo(f"  note: no provider's key is set ({', '.join(keys)}); the reader and scripted models work without")
    sys.exit(0 if good else 1)


def _say(name: str, problem: str) -> bool:
    click.echo(
        click.style("  ok   " if not problem else "  FAIL ", fg="red" if problem else "green") + f"{name} {problem}"
    )
    return not problem


def _python() -> str:
    return "" if sys.version_info >= (3, 11) else f"is {sys.version.split()[0]}; Loam needs 3.11 or newer"


def _sqlite() -> str:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.OperationalError:
        return "has no full-text search (FTS5); use a Python whose SQLite has it"
    finally:
        connection.close()
    return ""


def _settings() -> str:
    try:
        check(configured(os.environ))
    except LoamError as error:
        return str(error)
    return ""


def _disk() -> str:
    folder = Path(configured(os.environ).data).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return "" if free >= _LEAST_FREE else f"has {free >> 20} MiB free at {folder}; the ledger needs room to write"


def _gateway() -> str:
    try:
        with gateway() as reached:
            health = reached.get("/health")
    except LoamError as error:
        return str(error)
    for note in health["notes"]:
        click.echo(f"  note: {note}")
    return "" if health["status"] == "ok" else str(health)
