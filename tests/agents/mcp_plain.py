"""An MCP server of 2025 without any SDK, which asks its client for things in the middle of a call, and says rubbish."""

import json
import sys
from typing import Any

TOOL = {"name": "ask", "description": "Asks back.", "inputSchema": {"type": "object", "properties": {}}}


def say(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit
    return json.loads(line)


def asked(method: str, params: dict[str, Any]) -> str:
    say({"id": method, "method": method, "params": params})
    while (answer := hear()).get("id") != method:
        pass
    return f"{method}: {answer.get('error', {}).get('message', 'granted')}"


def answer(asks: dict[str, Any]) -> dict[str, Any]:
    match asks["method"]:
        case "initialize":
            info = {"name": "plain", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [TOOL]}
        case _:
            question = {"role": "user", "content": {"type": "text", "text": "think"}}
            told = [
                asked("sampling/createMessage", {"messages": [question], "maxTokens": 5}),
                asked("elicitation/create", {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}),
                asked("roots/list", {}),
            ]
            return {"content": [{"type": "text", "text": "\n".join(told)}]}


if __name__ == "__main__":
    print("this is no JSON", flush=True)
    while True:
        asks = hear()
        if asks["method"] in ("initialize", "tools/list", "tools/call"):
            say({"id": asks["id"], "result": answer(asks)})
        elif "id" in asks:
            say({"id": asks["id"], "error": {"code": -32601, "message": "no such method"}})
