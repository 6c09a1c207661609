"""An agent that looks something up, asks a person before it writes, and goes on where it was left.

Everything goes over HTTP to a gateway with a scripted provider; no key is needed. The tools are the two functions
below; each call runs in a process of its own.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from loam.cli.reach import Gateway
from loam.config import parse
from loam.serving import running

RUNS = "/loam/v1/agents/clerk/runs"


def order(number: int) -> dict[str, Any]:
    """Looks up an order."""
    return {"number": number, "total": "19.90", "state": "delivered"}


def refund(number: int, amount: str) -> str:
    """Pays an order back."""
    return f"paid {amount} back for order {number}"


def settings(folder: str) -> dict[str, Any]:
    script = [
        {"tools": [{"name": "order", "arguments": {"number": 7}}]},
        {"tools": [{"name": "refund", "arguments": {"number": 7, "amount": "1990"}}]},
        {"text": "Order 7 is paid back."},
    ]
    tools = {
        "order": {"kind": "python", "function": f"{__file__}:order", "access": "read"},
        "refund": {"kind": "python", "function": f"{__file__}:refund"},
    }
    agent = {"model": "fake/any", "instructions": "You help with orders.", "tools": tools, "limits": {"steps": 5}}
    providers = {"fake": {"kind": "scripted", "script": script}}
    return {"data": folder, "server": {"port": 0}, "providers": providers, "agents": {"clerk": agent}}


def settled(gateway: Gateway, run: str) -> dict[str, Any]:
    while (view := gateway.get(f"{RUNS}/{run}"))["status"] == "running":
        time.sleep(0.05)
    return view


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, running(parse(settings(folder))) as served:
        gateway = Gateway(served.url)
        view = settled(gateway, gateway.send("POST", RUNS, {"input": "Pay order 7 back."})["id"])
        (asked,) = view["waiting"]
        print(f"may it call {asked['tool']} with {asked['arguments']}? 1990 is wrong: edited.")
        verdict = {"key": asked["key"], "decision": "edit", "arguments": json.dumps({"number": 7, "amount": "19.90"})}
        gateway.send("POST", f"{RUNS}/{view['id']}/approvals", verdict)
        return settled(gateway, view["id"])


if __name__ == "__main__":
    view = main()
    assert (view["reason"], view["steps"], view["tool_calls"]) == ("answered", 3, 2), Path(__file__).name
    print(view["answer"])
