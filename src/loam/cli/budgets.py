"""`loam budgets`: what may be spent."""

import json
from decimal import Decimal
from typing import Any

import click

from loam.cli.reach import gateway
from loam.cli.show import json_option, show
from loam.core.money import money

_PATH = "/loam/v1/budgets"
_NOBODY: dict[str, Any] = {}


@click.group(name="budgets")
def command() -> None:
    """Limit what a key, a user or a team may spend."""


@command.command()
@click.option("--key", "key", help="Id of the key it limits.")
@click.option("--user", help="User it limits; * gives each user one of this size.")
@click.option("--team", help="Team it limits; * gives each team one of this size.")
@click.option("--all", "everyone", is_flag=True, help="Limits everything together.")
@click.option("--period", type=click.Choice(["day", "week", "month", "ever"]), required=True)
@click.option("--dollars", type=Decimal, help="Limit in dollars.")
@click.option("--tokens", type=int, help="Limit in tokens.")
@json_option
def create(
    key: str | None,
    user: str | None,
    team: str | None,
    everyone: bool,
    period: str,
    dollars: Decimal | None,
    tokens: int | None,
    as_json: bool,
) -> None:
    """Make a budget, in dollars or tokens or both."""
    named = [(scope, subject) for scope, subject in (("key", key), ("user", user), ("team", team)) if subject]
    if everyone:
        named.append(("all", ""))
    if len(named) != 1:
        raise click.UsageError("say whom it limits: one of --key, --user, --team, --all")
    scope, subject = named[0]
    wish = {"scope": scope, "subject": subject, "period": period, "money": _micros(dollars), "tokens": tokens}
    with gateway() as reached:
        made = reached.send("POST", _PATH, {name: value for name, value in wish.items() if value not in (None, "")})
    click.echo(json.dumps(made, indent=2) if as_json else f"budget {made['id']} limits {scope} {subject} per {period}")


def _micros(dollars: Decimal | str | None) -> int | None:
    try:
        return None if dollars in (None, "none") else money(dollars)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _whole(tokens: str) -> int | None:
    if tokens == "none":
        return None
    if not tokens.isdecimal():
        raise click.UsageError(f"{tokens!r} is neither a whole number of tokens nor 'none'")
    return int(tokens)


@command.command()
@click.argument("budget_id")
@click.option("--dollars", metavar="AMOUNT|none", help="New limit in dollars.")
@click.option("--tokens", metavar="NUMBER|none", help="New limit in tokens.")
@json_option
def change(budget_id: str, dollars: str | None, tokens: str | None, as_json: bool) -> None:
    """Change a budget's limits; what is not named stays, and what is spent stays spent."""
    limits = {} if dollars is None else {"money": _micros(dollars)}
    if tokens is not None:
        limits["tokens"] = _whole(tokens)
    if not limits:
        raise click.UsageError("say what changes: --dollars, --tokens or both")
    with gateway() as reached:
        changed = reached.send("PATCH", f"{_PATH}/{budget_id}", limits)
    click.echo(json.dumps(changed, indent=2) if as_json else f"budget {budget_id} has its new limits")


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the budgets with what is spent and reserved in their current window."""
    with gateway() as reached:
        found = reached.get(_PATH)["budgets"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [_row(entry["budget"], standing) for entry in found for standing in entry["standing"] or [_NOBODY]]
    columns = ("id", "whom", "period", "limit_micro", "spent_micro", "reserved_micro", "token_limit", "spent_tokens")
    show(rows, columns, as_json=False, empty="There are no budgets; make one with: loam budgets create --help")


def _row(budget: dict[str, Any], standing: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": budget["id"],
        "whom": f"{budget['scope']} {standing.get('subject') or budget.get('subject') or ''}".strip(),
        "period": budget["period"],
        "limit_micro": budget.get("money"),
        "spent_micro": standing.get("spent", 0),
        "reserved_micro": standing.get("reserved", 0),
        "token_limit": budget.get("tokens"),
        "spent_tokens": standing.get("spent_tokens", 0),
    }


@command.command()
@click.argument("budget_id")
def delete(budget_id: str) -> None:
    """Delete a budget."""
    with gateway() as reached:
        reached.send("DELETE", f"{_PATH}/{budget_id}")
    click.echo(f"{budget_id} is deleted")
