"""`loam agent tools` and `loam agent trust`: an agent's tools of MCP servers, and what changed about them."""

import json
from typing import Any
from urllib.parse import quote

import click

from loam.cli.reach import gateway
from loam.cli.show import json_option, show

_COLUMNS = ("name", "state", "access", "asks", "why")


@click.command()
@click.argument("agent")
@json_option
def tools(agent: str, as_json: bool) -> None:
    """List an agent's tools of MCP servers, with what is to be reviewed."""
    with gateway() as reached:
        _print(agent, reached.get(_tools(agent))["tools"], as_json=as_json)


@click.command()
@click.argument("agent")
@click.argument("tool")
@click.argument("hash")
@json_option
def trust(agent: str, tool: str, hash: str, as_json: bool) -> None:
    """Trust a tool as it was shown, by the hash that was shown with it."""
    with gateway() as reached:
        path = f"{_tools(agent)}/{quote(tool, safe='')}/trust"
        _print(agent, reached.send("POST", path, {"hash": hash})["tools"], as_json=as_json)


def _tools(agent: str) -> str:
    return f"/loam/v1/agents/{quote(agent, safe='')}/tools"


def _print(agent: str, found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    show([{"why": "", **one} for one in found], _COLUMNS, as_json=False, empty=f"{agent} has no tools of MCP servers")
    for one in found:
        if diff := one.get("diff"):
            click.echo(f"\n{one['name']}\n{diff}\n\n  loam agent trust {agent} {one['name']} {one['hash']}")
