"""An agent that a program holds itself: its own functions, a person's word before money moves, and a run in a file.

The same agent is then a model of a gateway, asked by the official OpenAI client as `agent:clerk`. No key is needed.
"""

import tempfile
from pathlib import Path
from typing import Any

import openai

import loam
from loam.agents.door import Pending
from loam.config import parse
from loam.providers.script import Asked, Line
from loam.providers.scripted import Scripted
from loam.serving import running

QUESTION = "Pay order 7 back."


def order(number: int) -> dict[str, Any]:
    """Looks up an order."""
    return {"number": number, "total": "19.90"}


def refund(number: int, amount: str) -> str:
    """Pays an order back."""
    return f"paid {amount} back for order {number}"


def decide(pending: Pending) -> dict[str, Any]:
    return {**pending.arguments, "amount": "19.90"}  # 1990 is wrong: edited


def in_python(folder: Path) -> str:
    script = [
        Line(tools=(Asked("order", {"number": 7}),)),
        Line(tools=(Asked("refund", {"number": 7, "amount": "1990"}),)),
        "Order 7 is paid back.",
    ]
    tools = [loam.tool(order, access="read"), refund]
    agent = loam.agent(Scripted(script), tools, instructions="You help.", steps=5, log=folder / "runs.db")
    ran = agent.run_sync(QUESTION)
    assert ran.waiting is not None  # nobody has decided yet; another process could, days later
    ran = agent.decide_sync(ran.id, decide(ran.waiting))
    assert (ran.reason, ran.steps, ran.tool_calls) == ("answered", 3, 2)
    return ran.answer


def over_http(folder: Path) -> str | None:
    script = [{"tools": [{"name": "order", "arguments": {"number": 7}}]}, {"text": "Order 7 is paid back."}]
    tools = {"order": {"kind": "python", "function": f"{__file__}:order", "access": "read"}}
    settings = {
        "data": str(folder / "data"),
        "server": {"port": 0},
        "providers": {"fake": {"kind": "scripted", "script": script}},
        "agents": {"clerk": {"model": "fake/any", "tools": tools}},
    }
    with running(parse(settings)) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
        answer = client.chat.completions.create(model="agent:clerk", messages=[{"role": "user", "content": QUESTION}])
    (run,) = (answer.model_extra or {})["loam"]["techniques"]
    assert (run["status"], run["reason"], run["tool_calls"]) == ("ended", "answered", 1)
    return answer.choices[0].message.content


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        answer = in_python(Path(folder))
        assert answer == over_http(Path(folder)) == "Order 7 is paid back."
    print(answer)
