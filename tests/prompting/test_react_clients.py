"""ReAct through clients that know nothing of it: OpenAI's chat and Responses, Anthropic's messages."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from loam.config import parse
from loam.serving import Running, running

ACT = '{"thought": "I need it.", "action": {"tool": "order", "arguments": {"number": 7}}}'
DONE = '{"thought": "There.", "answer": "Delivered."}'
PARAMETERS: Any = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
EXTRA: Any = {"loam": {"technique": "react", "metadata": True}}


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[Running, None, None]:
    script = [{"text": text} for text in (f"Sure.\n{ACT}\nObservation: lost", DONE) * 4]
    providers = {"fake": {"kind": "scripted", "script": script}}
    with running(parse({"data": str(tmp_path), "server": {"port": 0}, "providers": providers})) as started:
        yield started


def test_openais_chat(gateway: Running) -> None:
    messages: Any = [{"role": "user", "content": "Where is order 7?"}]
    tools: Any = [{"type": "function", "function": {"name": "order", "parameters": PARAMETERS}}]
    asked: Any = {"model": "fake/m", "tools": tools, "extra_body": EXTRA}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0) as client:
        with client.chat.completions.stream(messages=messages, **asked) as stream:
            answer = stream.get_final_completion()
        (call,) = answer.choices[0].message.tool_calls or []
        assert (call.function.name, json.loads(call.function.arguments)) == ("order", {"number": 7})
        assert answer.choices[0].finish_reason == "tool_calls"
        assert not answer.choices[0].message.content
        messages += [
            answer.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "delivered"},
        ]
        last: Any = client.chat.completions.create(messages=messages, **asked)
    assert (last.choices[0].message.content, last.choices[0].finish_reason) == ("Delivered.", "stop")
    assert last.choices[0].message.reasoning_content == "There."
    assert last.loam["techniques"][0]["name"] == "react"


def test_openais_responses(gateway: Running) -> None:
    tools: Any = [{"type": "function", "name": "order", "parameters": PARAMETERS, "strict": False}]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0) as client:
        with client.responses.stream(model="fake/m", input="Where?", tools=tools, extra_body=EXTRA) as stream:
            told = [getattr(event, "loam", None) for event in stream if event.type == "response.in_progress"]
            response = stream.get_final_response()
        call: Any = next(item for item in response.output if item.type == "function_call")
        assert (call.name, json.loads(call.arguments)) == ("order", {"number": 7})
        assert "mode" in [step["event"] for step in told if step]
        given: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "delivered"}]
        last = client.responses.create(
            model="fake/m", input=given, previous_response_id=response.id, tools=tools, extra_body=EXTRA
        )
    assert last.output_text == "Delivered."


def test_anthropics_messages(gateway: Running) -> None:
    messages: Any = [{"role": "user", "content": "Where is order 7?"}]
    tools: Any = [{"name": "order", "input_schema": PARAMETERS}]
    asked: Any = {"model": "fake/m", "max_tokens": 200, "tools": tools, "extra_body": EXTRA}
    with anthropic.Anthropic(base_url=gateway.url, api_key="-", max_retries=0) as claude:
        with claude.messages.stream(messages=messages, **asked) as stream:
            message = stream.get_final_message()
        used: Any = next(block for block in message.content if block.type == "tool_use")
        assert (used.name, used.input, message.stop_reason) == ("order", {"number": 7}, "tool_use")
        result = {"type": "tool_result", "tool_use_id": used.id, "content": "delivered"}
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        last: Any = claude.messages.create(messages=messages, **asked)
    assert [block.type for block in last.content] == ["thinking", "text"]
    assert (last.content[1].text, last.stop_reason) == ("Delivered.", "end_turn")
