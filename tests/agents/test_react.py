"""Agents whose model calls no tools by itself: in text, under a grammar, within the same limits."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs

from loam.agents.calling import asked_as, chosen, held, longest
from loam.agents.events import Asked
from loam.agents.settings import LimitSettings
from loam.cli.reach import Gateway
from loam.config import parse
from loam.core.calls import Call, Tool
from loam.core.messages import say
from loam.core.tokens import upper_bound
from loam.kinds import with_checkpoint
from loam.prompting.schemas import Schemas
from loam.serving import running
from tests.agents.test_runs import python, run

ADD: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
    "required": ["a"],
    "additionalProperties": False,
}


def act(thought: str = "I add.", **arguments: Any) -> dict[str, Any]:
    turn = {"thought": thought, "action": {"tool": "add", "arguments": arguments}}
    return {"text": json.dumps(turn), "usage": [100, 50]}


DONE = {"text": json.dumps({"thought": "There it is.", "answer": "five"}), "usage": [100, 50]}


def settings(folder: Path, script: list[dict[str, Any]], calling: str = "text", **limits: Any) -> Any:
    tools = {"add": python("add", access="read")}
    agent = {"model": "fake/any", "max_tokens": 100, "calling": calling, "tools": tools, "limits": limits}
    return parse(
        {
            "data": str(folder / "data"),
            "server": {"port": 0},
            "grounding": {"encoder": {"name": "none"}},
            "providers": {"fake": {"kind": "scripted", "script": script}},
            "agents": {"clerk": agent},
            "prices": [{"provider": "fake", "model": "any", "input": 1.0, "output": 10.0}],
        }
    )


def test_an_agent_acts_in_text_and_its_thoughts_stay_with_it(tmp_path: Path) -> None:
    script = [act(a=2, b="three"), act(a=2, b=3), DONE]  # the first does not fit, and is asked again in the same step
    with running(settings(tmp_path, script)) as gateway:
        reached = Gateway(gateway.url)
        view = run(reached)
        events = reached.get(f"/loam/v1/agents/clerk/runs/{view['id']}/events")["events"]
    assert (view["reason"], view["answer"], view["steps"], view["tool_calls"]) == ("answered", "five", 2, 1)
    first = next(one["event"] for one in events if one["event"]["type"] == "answered")
    assert [part["type"] for part in first["parts"]] == ["thinking", "tool_call"]
    assert json.loads(first["parts"][1]["arguments"]) == {"a": 2, "b": 3}


def test_every_action_of_the_pocket_model_is_a_call_that_fits(tmp_path: Path) -> None:
    """It knows nothing of tools, and its template has no word for them; the grammar does."""
    tools = {"add": python("add", access="read")}
    limits = {"steps": 1}  # its context of 512 tokens has no room for a second
    agents = {"clerk": {"model": "local/pocket", "max_tokens": 150, "tools": tools, "limits": limits}}
    made = parse({"data": str(tmp_path), "server": {"port": 0}, "agents": agents})
    made, _ = with_checkpoint(made, "pocket")
    called = 0
    with running(made) as gateway:
        reached = Gateway(gateway.url)
        for question in ("2 and 3?", "What is 7 and 1?", "Add 5.", "1?", "9 + 9?", "Add."):
            view = run(reached, question)
            assert view["reason"] in ("answered", "steps"), view["message"]
            events = reached.get(f"/loam/v1/agents/clerk/runs/{view['id']}/events")["events"]
            for event in (one["event"] for one in events):
                if event["type"] == "answered":
                    for part in event["parts"]:
                        if part["type"] == "tool_call":
                            called += 1
                            assert part["name"] == "add"
                            assert jsonschema_rs.is_valid(ADD, json.loads(part["arguments"]))
                if event["type"] == "returned":
                    assert "do not fit" not in event["result"]
    assert called


def test_a_cent_is_never_exceeded_however_often_a_turn_is_asked_again(tmp_path: Path) -> None:
    wrong = {"text": "I had rather not say.", "usage": [400, 100]}
    script = [wrong, act(a=1), wrong, wrong, act(a=2), wrong, act(a=3), wrong, wrong, act(a=4)] * 9
    with running(settings(tmp_path, script, max_cost_usd=0.02, repeats=99)) as gateway:
        reached = Gateway(gateway.url)
        view = run(reached)
        billed = sum(row.get("cost_micro") or 0 for row in reached.get("/loam/v1/calls")["calls"])
    assert view["reason"] in ("money", "failed")
    assert view["tool_calls"] >= 1
    assert 0 < float(view["cost_usd"]) <= 0.02
    assert 0 < billed <= 20_000


def test_what_never_fits_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    with running(settings(tmp_path, [{"text": "no"}])) as gateway:
        view = run(Gateway(gateway.url))
    assert (view["reason"], view["steps"]) == ("failed", 1)
    assert "no turn of ReAct" in view["message"]


def asking() -> Call:
    return Call(id="c", model="m", messages=(say("user", "2 + 3?"),), tools=(Tool("add", "Adds.", ADD),))


def test_a_step_in_text_holds_more_and_is_capped_by_what_it_holds() -> None:
    call, schemas, worst = asking(), Schemas(), Asked(1_000, 500)
    assert longest(call, "native", schemas) is call
    assert upper_bound(longest(call, "text", schemas)) > upper_bound(call)
    limits = LimitSettings(max_cost_usd=0.01, tokens=10_000)
    assert held(worst, Asked(0, 0), "native", limits) == worst
    assert held(worst, Asked(0, 0), "text", limits) == Asked(2_000, 1_000)
    near = held(worst, Asked(8_500, 9_400), "text", limits)
    assert near == Asked(1_500, 600)
    wish = asked_as(call, "text", near, limits).controls.technique
    assert wish == {"name": "react", "calling": "text", "max_cost_usd": 0.0015, "max_tokens": 600}
    assert asked_as(call, "native", near, limits) is call


def test_how_an_agent_calls_is_its_settings_word_or_what_is_known_of_its_model() -> None:
    assert [chosen("auto", knows) for knows in ("yes", "no", "template")] == ["native", "text", "auto"]
    assert chosen("native", "no") == "native"
