"""`loam prompts`: versions of prompts, and the labels that say which one is asked."""

import difflib
import json
import sys
from pathlib import Path
from typing import Any

import click

from loam.cli.reach import Gateway, gateway
from loam.cli.show import json_option, moment, show
from loam.prompting.prompts import parsed

_PATH = "/loam/v1/prompts"


@click.group(name="prompts")
def command() -> None:
    """Push, show and compare prompts, and move their labels.

    A prompt is asked as the model prompt:NAME@LABEL (or @HASH; without either, its label prod).
    """


@command.command()
@click.argument("file")
@click.option("--name", help="Its name; without it the one in the file, else the file's own.")
@click.option("--label", help="Move this label to it at once.")
@json_option
def push(file: str, name: str | None, label: str | None, *, as_json: bool) -> None:
    """Keep FILE (or "-" for what is piped in) as a version; the same content is the same version."""
    text = sys.stdin.read() if file == "-" else _text(file)
    named = name or parsed(text)[0] or ("" if file == "-" else Path(file).stem)
    body = {"text": text, **({"name": named} if named else {}), **({"label": label} if label else {})}
    with gateway() as reached:
        made = reached.send("POST", _PATH, body)
    labels = f" ({', '.join(made['labels'])})" if made["labels"] else ""
    click.echo(json.dumps(made, indent=2) if as_json else f"{made['name']}@{made['hash'][:12]}{labels}")


@command.command(name="list")
@json_option
def list_(*, as_json: bool) -> None:
    """List the prompts and where their labels stand."""
    with gateway() as reached:
        rows = reached.get(_PATH)["prompts"]
    if not as_json:
        rows = [{**row, "labels": _short(row["labels"]), "pushed": moment(row["at"])} for row in rows]
    columns = ("name", "labels", "model", "versions", "pushed", "by", "description")
    show(rows, columns, as_json=as_json, empty="There are no prompts; push one with: loam prompts push FILE")


@command.command(name="show")
@click.argument("prompt")
@click.option("--history", is_flag=True, help="Who moved which label when, and all versions, instead of the text.")
@json_option
def show_(prompt: str, *, history: bool, as_json: bool) -> None:
    """Print the text of PROMPT: NAME, NAME@LABEL or NAME@HASH."""
    name, _, ref = prompt.partition("@")
    with gateway() as reached:
        if history:
            state = reached.get(f"{_PATH}/{name}")
        else:
            found = _version(reached, name, ref)
            click.echo(json.dumps(found, indent=2) if as_json else found["text"])
            return
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    moves = [_told(move, "from_hash", "to_hash") for move in state["moves"]]
    columns = ("when", "label", "from_hash", "to_hash", "by")
    show(moves, columns, as_json=False, empty="No label was ever moved.")
    click.echo()
    versions = [_told(version, "hash") for version in state["versions"]]
    show(versions, ("hash", "labels", "when", "by"), as_json=False, empty="")


@command.command()
@click.argument("prompt")
@click.argument("label")
@click.option("--expect", help='Hash (or "none") where the label must stand now; else nothing is moved.')
@click.option("--remove", is_flag=True, help="Take the label away instead; PROMPT is then its name alone.")
@json_option
def label(prompt: str, label: str, expect: str | None, *, remove: bool, as_json: bool) -> None:
    """Move LABEL to PROMPT: NAME@HASH, or NAME@LABEL for where another label stands."""
    name, _, ref = prompt.partition("@")
    if not ref and not remove:
        raise click.UsageError("say which version: NAME@HASH or NAME@LABEL")
    body: dict[str, Any] = {"to": "" if remove else ref}
    if expect is not None:
        body["expected"] = "" if expect == "none" else expect
    with gateway() as reached:
        moved = reached.send("POST", f"{_PATH}/{name}/labels/{label}", body)
    if as_json:
        click.echo(json.dumps(moved, indent=2))
    else:
        before, after = (moved[end][:12] or "nothing" for end in ("from_hash", "to_hash"))
        click.echo(f"{name}: {label} moved from {before} to {after}")


@command.command()
@click.argument("first")
@click.argument("second")
def diff(first: str, second: str) -> None:
    """Show how SECOND differs from FIRST: each NAME@LABEL, NAME@HASH or a file. Exit status 1 where they do."""
    with gateway() as reached:
        texts = [_any(reached, one) for one in (first, second)]
    before, after = (text.splitlines() for text in texts)
    lines = list(difflib.unified_diff(before, after, first, second, lineterm=""))
    for line in lines:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.secho(line, fg=colour)
    if lines:
        raise SystemExit(1)


def _any(reached: Gateway, place: str) -> str:
    """The text of a file that is there, or of a version."""
    if Path(place).is_file():
        return _text(place)
    name, _, ref = place.partition("@")
    return _version(reached, name, ref)["text"]


def _version(reached: Gateway, name: str, ref: str) -> dict[str, Any]:
    return reached.get(f"{_PATH}/{name}/versions/{ref or 'prod'}")


def _text(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {file}: {error}") from error


def _short(labels: dict[str, str]) -> list[str]:
    return [f"{label}={digest[:12]}" for label, digest in sorted(labels.items())]


def _told(row: dict[str, Any], *hashes: str) -> dict[str, Any]:
    """A row with its time as people read it and its hashes short."""
    return {**row, "when": moment(row["at"]), **{name: row[name][:12] for name in hashes}}
