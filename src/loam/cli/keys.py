"""`loam keys`: the keys of users and teams."""

import json
import time
from typing import Any

import click

from loam.cli.reach import gateway
from loam.cli.show import json_option, show

_PATH = "/loam/v1/keys"


@click.group(name="keys")
def command() -> None:
    """Make, list and disable the keys of users and teams."""


@command.command()
@click.option("--name", required=True, help="What the key is for.")
@click.option("--user", default="", help="Whose it is; budgets and the ledger count by it.")
@click.option("--team", default="", help="The team it counts for.")
@click.option(
    "--model", "models", multiple=True, help="A model or pattern it may ask; give more than one, or none for all."
)
@click.option("--rpm", "requests_per_minute", type=int, help="Requests a minute.")
@click.option("--tpm", "tokens_per_minute", type=int, help="Tokens a minute.")
@click.option("--days", type=float, help="Days until it expires.")
@click.option("--redaction", type=click.Choice(["none", "redacted", "full"]), default="none", show_default=True)
@click.option("--admin", is_flag=True, help="May also use the native API.")
@json_option
def create(as_json: bool, models: tuple[str, ...], days: float | None, **fields: Any) -> None:
    """Make a key. Its secret is shown once and kept nowhere."""
    expires = None if days is None else time.time() + days * 86_400
    wish = {"models": list(models), "expires": expires, **fields}
    with gateway() as reached:
        made = reached.send("POST", _PATH, {name: value for name, value in wish.items() if value not in (None, "")})
    click.echo(
        json.dumps(made, indent=2) if as_json else f"{made['secret']}\n(key {made['key']['id']}; it is not shown again)"
    )


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the keys, without their secrets."""
    with gateway() as reached:
        rows = reached.get(_PATH)["keys"]
    columns = ("id", "name", "user", "team", "models", "admin", "disabled", "expires", "last_used")
    show(rows, columns, as_json=as_json, empty="There are no keys; make one with: loam keys create --name …")


@command.command()
@click.argument("key_id")
def disable(key_id: str) -> None:
    """Refuse a key from now on, without forgetting it."""
    with gateway() as reached:
        reached.send("PATCH", f"{_PATH}/{key_id}", {"disabled": True})
    click.echo(f"{key_id} is disabled")


@command.command()
@click.argument("key_id")
def delete(key_id: str) -> None:
    """Delete a key; its calls stay on record."""
    with gateway() as reached:
        reached.send("DELETE", f"{_PATH}/{key_id}")
    click.echo(f"{key_id} is deleted")
