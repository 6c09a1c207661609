"""`loam calls`: the record."""

import json
import time
from typing import Any

import click

from loam.cli.reach import gateway
from loam.cli.show import cell, console, json_option, label, show

_PATH = "/loam/v1/calls"
_COLUMNS = (
    "id",
    "started_at",
    "state",
    "user",
    "model",
    "input_tokens",
    "output_tokens",
    "cost_micro",
    "latency_us",
    "cache",
)


@click.group(name="calls")
def command() -> None:
    """List, show and follow the calls on record."""


@command.command(name="list")
@click.option("--user", help="Only this user's.")
@click.option("--model", help="Only this model's.")
@click.option("--state", type=click.Choice(["open", "done", "failed", "cancelled", "lost"]))
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@json_option
def list_(user: str | None, model: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List calls, newest first."""
    with gateway() as reached:
        rows = reached.get(_PATH, user=user, model=model, state=state, limit=limit)["calls"]
    show(rows, _COLUMNS, as_json=as_json, empty="No call is on record.")


@command.command(name="show")
@click.argument("call_id")
@json_option
def show_(call_id: str, as_json: bool) -> None:
    """Show everything on record of one call: its row, attempts, prompt, response and feedback."""
    with gateway() as reached:
        found = reached.get(f"{_PATH}/{call_id}")
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    out = console()
    for name, value in found["call"].items():
        if name != "attempts":
            out.print(f"{label(name):<22} {cell(name, value)}", markup=False)
    for attempt in found["call"]["attempts"]:
        out.print(f"\nattempt {attempt['number']}", style="bold")
        for name, value in attempt.items():
            out.print(f"  {label(name):<20} {cell(name, value)}", markup=False)
    for kind in ("request", "response"):
        if found.get(kind):
            out.print(f"\n{kind}", style="bold")
            out.print(json.dumps(found[kind]["content"], indent=2, ensure_ascii=False), markup=False)
    for given in found["feedback"]:
        out.print(f"\nfeedback  {cell('', {name: value for name, value in given.items() if value})}", markup=False)


@command.command()
@click.option("--user", help="Only this user's.")
@json_option
def tail(user: str | None, as_json: bool) -> None:
    """Follow calls as they end, until Ctrl-C."""
    with gateway() as reached:
        last = reached.get(f"{_PATH}/tail", limit=1)["calls"]
        after = last[-1]["seq"] if last else 0
        while True:
            rows = reached.get(f"{_PATH}/tail", after=after)["calls"]
            for row in rows:
                after = row["seq"]
                if user and row["user"] != user:
                    continue
                if as_json:
                    click.echo(json.dumps(row, ensure_ascii=False))
                else:
                    click.echo("  ".join(cell(name, row.get(name)) for name in _COLUMNS))
            time.sleep(1.0)


@command.command()
@click.argument("call_id")
@click.option("--up/--down", "thumb", default=None, help="A thumb.")
@click.option("--score", type=float, help="A number.")
@click.option("--comment", default="", help="A remark.")
@click.option("--correction", default="", help="The answer it should have been.")
def feedback(call_id: str, thumb: bool | None, score: float | None, comment: str, correction: str) -> None:
    """Say what an answer was worth."""
    wish: dict[str, Any] = {"comment": comment, "correction": correction, "score": score}
    wish["thumb"] = None if thumb is None else ("up" if thumb else "down")
    with gateway() as reached:
        reached.send(
            "POST",
            f"{_PATH}/{call_id}/feedback",
            {name: value for name, value in wish.items() if value not in (None, "")},
        )
    click.echo(f"noted on {call_id}")
