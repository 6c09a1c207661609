"""ReAct: tools for a model that calls none by itself. It writes turns in text; the program sees calls of tools.

The first half holds a model in Python, as an agent; the second asks a gateway with the official OpenAI client, which
knows nothing of ReAct. No key is needed.
"""

import json
import tempfile
from typing import Any

import openai

import loam
from loam.config import parse
from loam.providers.scripted import Scripted
from loam.serving import running

SCRIPT = [
    '{"thought": "I need the order.", "action": {"tool": "order", "arguments": {"number": "seven"}}}',  # asked again
    '{"thought": "I need the order.", "action": {"tool": "order", "arguments": {"number": 7}}}',
    '{"thought": "It is there.", "answer": "Order 7 was delivered."}',
]
QUESTION = "Where is order 7?"


def order(number: int) -> dict[str, Any]:
    """Looks up an order."""
    return {"number": number, "state": "delivered"}


def in_python() -> str:
    tools = [loam.tool(order, access="read")]
    ran = loam.agent(Scripted(SCRIPT), tools, calling="text", instructions="You help with orders.").run_sync(QUESTION)
    assert (ran.reason, ran.steps, ran.tool_calls) == ("answered", 2, 1)
    return ran.answer


def over_http() -> str:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    function = {"name": "order", "description": "Looks up an order.", "parameters": {
        "type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"],
    }}  # fmt: skip
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            while True:
                answer = client.chat.completions.create(
                    model="fake/any",
                    messages=messages,
                    tools=[{"type": "function", "function": function}],  # pyright: ignore[reportArgumentType]
                    extra_body={"loam": {"technique": "react"}},
                )
                message: Any = answer.choices[0].message
                if answer.choices[0].finish_reason != "tool_calls":
                    return message.content
                messages.append(message)
                for call in message.tool_calls:
                    result = json.dumps(order(**json.loads(call.function.arguments)))
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    answer = in_python()
    assert answer == over_http() == "Order 7 was delivered."
    print(answer)
