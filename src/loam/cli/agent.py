"""`loam agent`: runs of agents, from the terminal."""

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from loam.cli import agent_tools
from loam.cli.reach import Gateway, gateway
from loam.cli.show import json_option, moment, show
from loam.core.errors import LoamError


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
        if detach and not reached.stays:
            raise click.UsageError("a detached run needs a gateway that stays; start one with: loam serve")
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
@json_option
def waiting(as_json: bool) -> None:
    """List the tool calls that wait for a decision, over all agents."""
    with gateway() as reached:
        found = reached.get("/loam/v1/agents/waiting", limit=200)["waiting"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [{**one, **one["waiting"], "call": _call(one["waiting"]), "until": _until(one["waiting"])} for one in found]
    columns = ("agent", "run", "key", "call", "why", "user", "until")
    show(rows, columns, as_json=False, empty="nothing waits for a decision")


@command.command()
@click.argument("agent")
@click.argument("run_id")
@click.option("--key", default="", help="The call that is meant; without it, whichever the run waits for.")
@click.option("--edit", metavar="JSON", help="Approve the call with these arguments instead.")
@click.option("--deny", is_flag=True, help="Do not allow the call.")
@click.option("--reason", default="", help="What the model is told of a denial.")
@json_option
def approve(agent: str, run_id: str, key: str, edit: str | None, deny: bool, reason: str, as_json: bool) -> None:
    """Decide on the tool call that a run waits for, and follow the run."""
    if deny and edit is not None:
        raise click.UsageError("--deny and --edit exclude each other")
    if reason and not deny:
        raise click.UsageError("--reason is for a denial; add --deny, or leave it out to approve")
    with gateway() as reached:
        view = reached.get(f"{_runs(agent)}/{run_id}")
        if not view.get("waiting"):
            raise click.UsageError(f"{run_id} waits for no decision: it is {_standing(view)}")
        verdict = {"decision": "deny" if deny else "approve" if edit is None else "edit", "reason": reason}
        body = {"key": key or view["waiting"][0]["key"], "arguments": edit or "", **verdict}
        reached.send("POST", f"{_runs(agent)}/{run_id}/approvals", body)
        _follow(reached, agent, run_id, after=view["events"], as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("run_id")
@json_option
def resume(agent: str, run_id: str, as_json: bool) -> None:
    """Follow a run again, and take it up where its process ended."""
    with gateway() as reached:
        view = reached.send("POST", f"{_runs(agent)}/{run_id}/resume")
        _follow(reached, agent, run_id, after=view["events"], as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("run_id")
@click.argument("after", type=click.IntRange(min=1))
@json_option
def fork(agent: str, run_id: str, after: int, as_json: bool) -> None:
    """Begin a run with the first AFTER events of another, and follow it."""
    with gateway() as reached:
        forked = reached.send("POST", f"{_runs(agent)}/{run_id}/fork", {"after": after})
        _follow(reached, agent, forked["id"], after=forked["events"], as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("run_id")
@json_option
def cancel(agent: str, run_id: str, as_json: bool) -> None:
    """End a run."""
    with gateway() as reached:
        _print(reached.send("POST", f"{_runs(agent)}/{run_id}/cancel"), as_json=as_json)


command.add_command(agent_tools.tools)
command.add_command(agent_tools.trust)


def _runs(agent: str) -> str:
    return f"/loam/v1/agents/{quote(agent, safe='')}/runs"


def _follow(reached: Gateway, agent: str, run_id: str, *, after: int = 0, as_json: bool) -> None:
    """Tells each step on stderr until the run ends or waits; then how it stands. Exits with 1 without an answer."""
    path = f"{_runs(agent)}/{run_id}"
    try:
        for name, data in reached.follow(f"{path}/events", after=after, stream="true"):
            if name == "run":
                _print(data, as_json=as_json)
                if data["status"] == "ended" and data["reason"] != "answered":
                    sys.exit(1)
                return
            after = data["seq"]
            if told := _step(data["event"]):
                click.echo(told, err=True)
    except KeyboardInterrupt:
        what = "the run goes on" if reached.stays else "the run stops here, with the gateway of this command"
        click.echo(f"no longer followed: {what}; go on with: loam agent resume {agent} {run_id}", err=True)
        sys.exit(130)
    raise LoamError(f"the gateway stopped telling; go on with: loam agent resume {agent} {run_id}")


def _step(event: dict[str, Any]) -> str:
    """An event in a line; empty for one that says nothing new."""
    match event["type"]:
        case "asked":
            return "thinking …"
        case "answered":
            calls = [part["name"] for part in event["parts"] if part["type"] == "tool_call"]
            return f"  wants {', '.join(calls) or 'no tool'}; ${event['money'] / 1e6:.6f}, {event['tokens']} tokens"
        case "failed":
            return f"  failed: {event['message']}"
        case "decided":
            why = f": {event['reason']}" if event.get("reason") else ""
            return f"{event['decision']} by {event['by']}{why}"
        case "started":
            return _call(event)
        case "returned":
            return f"  {'an error' if event.get('is_error') else 'a result'} of {len(event['result'])} characters"
        case _:
            return ""


def _call(asked: dict[str, Any]) -> str:
    """A tool and its arguments, as they are: signs that a terminal does not show are written out."""
    text = f"{asked['tool']} {asked['arguments']}"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _until(waiting: dict[str, Any]) -> str:
    return moment(waiting["expires"]) if waiting["expires"] else "for ever"


def _standing(view: dict[str, Any]) -> str:
    why = f" ({view['reason']})" if view.get("reason") else ""
    told = f": {view['message']}" if view.get("message") else ""
    return f"{view['status']}{why}{told}"


def _print(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    if view.get("answer"):
        click.echo(view["answer"])
    for waiting in view.get("waiting", []):
        click.echo(f"waits for your decision ({waiting['why']}) until {_until(waiting)}: {_call(waiting)}", err=True)
        click.echo(f"  loam agent approve {view['agent']} {view['id']} --key {waiting['key']}", err=True)
    click.echo(f"{view['id']} {_standing(view)}; {view['steps']} steps, ${view['cost_usd']}", err=True)
