"""`loam agent`: runs of agents, from the terminal."""

import json
from typing import Any

import click

from loam.cli.reach import Gateway, gateway
from loam.cli.show import json_option, show

_WAIT = 20


@click.group(name="agent")
def command() -> None:
    """Run agents, look at their runs, and decide what they may do."""


@command.command()
@click.argument("agent")
@click.argument("question")
@click.option("--detach", is_flag=True, help="Print the run's id and do not follow it.")
@json_option
def run(agent: str, question: str, detach: bool, as_json: bool) -> None:
    """Begin a run and follow it until it ends or waits for a decision."""
    with gateway() as reached:
        begun = reached.send("POST", _runs(agent), {"input": question})
        if detach:
            click.echo(json.dumps(begun, indent=2) if as_json else begun["id"])
        else:
            _follow(reached, agent, begun["id"], as_json=as_json)


@command.command(name="show")
@click.argument("agent")
@click.argument("run_id")
@click.option("--events", is_flag=True, help="Every event, one JSON object a line.")
@json_option
def show_(agent: str, run_id: str, events: bool, as_json: bool) -> None:
    """Show where a run stands."""
    with gateway() as reached:
        if events:
            for entry in reached.get(f"{_runs(agent)}/{run_id}/events")["events"]:
                click.echo(json.dumps(entry))
        else:
            _print(reached.get(f"{_runs(agent)}/{run_id}"), as_json=as_json)


@command.command(name="list")
@click.argument("agent")
@json_option
def list_(agent: str, as_json: bool) -> None:
    """List an agent's latest runs."""
    with gateway() as reached:
        found = reached.get(_runs(agent))["runs"]
    rows = [{"reason": "", **one} for one in found]
    columns = ("id", "status", "reason", "steps", "tool_calls", "cost_usd")
    show(rows, columns, as_json=as_json, empty=f"{agent} has no runs; begin one with: loam agent run {agent} QUESTION")


@command.command()
@click.argument("agent")
@click.argument("run_id")
@click.option("--edit", metavar="JSON", help="Approve the call with these arguments instead.")
@click.option("--deny", is_flag=True, help="Do not allow the call.")
@click.option("--reason", default="", help="What the model is told of a denial.")
@json_option
def approve(agent: str, run_id: str, edit: str | None, deny: bool, reason: str, as_json: bool) -> None:
    """Decide on the tool call that a run waits for, and follow the run."""
    if deny and edit is not None:
        raise click.UsageError("--deny and --edit exclude each other")
    with gateway() as reached:
        waiting = reached.get(f"{_runs(agent)}/{run_id}").get("waiting", [])
        if not waiting:
            raise click.UsageError(f"{run_id} waits for no decision")
        verdict = {"decision": "deny" if deny else "approve" if edit is None else "edit", "reason": reason}
        body = {"key": waiting[0]["key"], "arguments": edit or "", **verdict}
        reached.send("POST", f"{_runs(agent)}/{run_id}/approvals", body)
        _follow(reached, agent, run_id, as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("run_id")
@json_option
def resume(agent: str, run_id: str, as_json: bool) -> None:
    """Take up a run whose process ended, and follow it."""
    with gateway() as reached:
        reached.send("POST", f"{_runs(agent)}/{run_id}/resume")
        _follow(reached, agent, run_id, as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("run_id")
@json_option
def cancel(agent: str, run_id: str, as_json: bool) -> None:
    """End a run."""
    with gateway() as reached:
        _print(reached.send("POST", f"{_runs(agent)}/{run_id}/cancel"), as_json=as_json)


def _runs(agent: str) -> str:
    return f"/loam/v1/agents/{agent}/runs"


def _follow(reached: Gateway, agent: str, run_id: str, *, as_json: bool) -> None:
    path = f"{_runs(agent)}/{run_id}"
    seen = 0
    while (view := reached.get(path))["status"] == "running":
        for entry in reached.get(f"{path}/events", after=seen, wait=_WAIT)["events"]:
            seen = entry["seq"]
            if entry["event"]["type"] == "started":
                click.echo(f"{entry['event']['tool']} {entry['event']['arguments']}", err=True)
    _print(view, as_json=as_json)


def _print(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    if view.get("answer"):
        click.echo(view["answer"])
    for waiting in view.get("waiting", []):
        click.echo(f"waits for your decision ({waiting['why']}): {waiting['tool']} {waiting['arguments']}")
        click.echo(f"  loam agent approve {view['agent']} {view['id']}")
    why = f" ({view['reason']})" if view.get("reason") else ""
    told = f": {view['message']}" if view.get("message") else ""
    click.echo(f"{view['id']} {view['status']}{why}{told}; {view['steps']} steps, ${view['cost_usd']}", err=True)
