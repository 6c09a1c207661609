"""`agent:NAME` as a model, from clients that know nothing of agents: answers, waits, limits, and who may ask."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from loam.cli.reach import Gateway, Refused
from loam.config import parse
from loam.core.errors import SettingsError
from loam.serving import Running, running
from tests.agents.test_runs import called, python

ASKED: Any = [{"role": "user", "content": "2 + 3?"}]
RUNS = "/loam/v1/agents/{}/runs/{}"
ADD = called("add", a=2, b=3)


def settings(folder: Path) -> Any:
    def scripted(*script: Any) -> dict[str, Any]:
        return {"kind": "scripted", "script": list(script)}

    def agent(provider: str, tool: str = "add", access: str = "read", **more: Any) -> dict[str, Any]:
        return {"model": f"{provider}/any", "tools": {tool: python(tool, access=access)}, **more}

    note = str(folder / "note.txt")
    return parse(
        {
            "data": str(folder / "data"),
            "server": {"port": 0},
            "grounding": {"encoder": {"name": "none"}},
            "providers": {
                "adds": scripted(ADD, {"text": "five"}, ADD, {"text": "five"}, ADD, {"text": "five"}),
                "writes": scripted(called("write", file=note, text="x"), {"text": "written"}),
                "loops": scripted(ADD),
                "slow": scripted({"text": "late", "first_pause": 1.0}),
                "echo": scripted({"text": "{question}"}),
                "down": scripted({"fail": "bad_request", "message": "broken"}),
            },
            "agents": {
                "adder": agent("adds"),
                "writer": agent("writes", "write", "write"),
                "looper": agent("loops"),
                "slow": agent("slow"),
                "echo": agent("echo"),
                "down": agent("down"),
            },
        }
    )


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[Running, None, None]:
    with running(settings(tmp_path)) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=2) as client:
        yield client


def told(answer: Any) -> dict[str, Any]:
    """What the answer's `loam` object says of the run."""
    (report,) = answer.model_extra["loam"]["techniques"]
    assert report["name"] == "agent"
    return report


def test_an_agent_answers_as_a_model_and_says_which_run_it_was(client: openai.OpenAI, gateway: Running) -> None:
    answer = client.chat.completions.create(model="agent:adder", messages=ASKED)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("five", "stop")
    report = told(answer)
    assert (report["status"], report["reason"], report["steps"], report["tool_calls"]) == ("ended", "answered", 2, 1)
    assert Gateway(gateway.url).get(report["path"])["answer"] == "five"


def test_a_stream_tells_the_steps_while_it_goes(client: openai.OpenAI) -> None:
    extra = {"loam": {"metadata": True}}
    chunks = list(client.chat.completions.create(model="agent:adder", messages=ASKED, stream=True, extra_body=extra))
    events = [(chunk.model_extra or {}).get("loam", {}).get("event") for chunk in chunks]
    assert [event for event in events if event] == ["begun", "calls", "returned"]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "five"
    with client.responses.stream(model="agent:adder", input="2 + 3?", extra_body=extra) as stream:
        steps = [getattr(event, "loam", None) for event in stream if event.type == "response.in_progress"]
        assert stream.get_final_response().output_text == "five"
    assert [step["event"] for step in steps if step] == ["begun", "calls", "returned"]


def test_anthropics_client(gateway: Running) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key="-") as claude:
        extra = {"loam": {"metadata": True}}
        with claude.messages.stream(model="agent:adder", max_tokens=99, messages=ASKED, extra_body=extra) as stream:
            message = stream.get_final_message()
    assert (message.content[0].text, message.stop_reason) == ("five", "end_turn")  # pyright: ignore


def test_an_answer_that_waits_for_a_person_says_so(client: openai.OpenAI, gateway: Running, tmp_path: Path) -> None:
    answer = client.chat.completions.create(model="agent:writer", messages=ASKED)
    report, choice = told(answer), answer.choices[0]
    assert (report["status"], report["reason"]) == ("waiting", None)
    assert (choice.finish_reason, (choice.model_extra or {})["native_finish_reason"]) == ("length", "pause")
    assert "A person must decide" in (choice.message.content or "")
    assert not (tmp_path / "note.txt").exists()
    reached = Gateway(gateway.url)
    reached.send("POST", report["approve"], {"key": report["waiting"][0]["key"], "decision": "approve"})
    until = time.monotonic() + 20
    while (view := reached.get(report["path"]))["status"] != "ended":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert view["answer"] == "written"
    assert (tmp_path / "note.txt").read_text() == "x"


def test_a_run_without_an_answer_is_an_error_that_no_sdk_repeats(client: openai.OpenAI, gateway: Running) -> None:
    for agent, code, status in (("looper", "agent_repetition", 503), ("down", "agent_failed", 503)):
        with pytest.raises(openai.APIStatusError) as raised:
            client.chat.completions.create(model=f"agent:{agent}", messages=ASKED)
        body: Any = raised.value.body
        assert (raised.value.status_code, body["code"]) == (status, code)
        assert raised.value.response.headers["x-should-retry"] == "false"
        assert len(Gateway(gateway.url).get(f"/loam/v1/agents/{agent}/runs")["runs"]) == 1
        assert body["details"]["run"].startswith("run_")


def test_a_client_that_leaves_does_not_end_the_run(client: openai.OpenAI, gateway: Running) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3, max_retries=0).chat.completions.create(model="agent:slow", messages=ASKED)
    reached = Gateway(gateway.url)
    until = time.monotonic() + 20
    while (view := reached.get("/loam/v1/agents/slow/runs")["runs"][0])["status"] != "ended":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (view["reason"], view["answer"]) == ("answered", "late")


def test_a_deadline_ends_the_wait_and_not_the_run(client: openai.OpenAI) -> None:
    extra = {"loam": {"deadline": 0.2}}
    answer = client.chat.completions.create(model="agent:slow", messages=ASKED, extra_body=extra)
    assert told(answer)["status"] == "running"
    assert "still at work" in (answer.choices[0].message.content or "")


def test_the_conversation_before_is_told(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(model="agent:echo", messages=ASKED).choices[0].message.content == "2 + 3?"
    before: Any = [*ASKED, {"role": "assistant", "content": "five"}, {"role": "user", "content": "Sure?"}]
    said = client.chat.completions.create(model="agent:echo", messages=before).choices[0].message.content or ""
    assert "user: 2 + 3?\n\nassistant: five\n\nNow:\n\nSure?" in said


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n"),
        ({"extra_body": {"loam": {"technique": "react"}}}, "loam.technique"),
    ],
)
def test_what_an_agent_has_of_its_own_is_refused(client: openai.OpenAI, more: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="agent:adder", messages=ASKED, **more)
    assert raised.value.param == param


def test_a_key_sees_and_asks_the_agents_that_it_may(gateway: Running) -> None:
    local = Gateway(gateway.url)
    names = [one["id"] for one in local.get("/v1/models")["data"]]
    assert "agent:adder" in names
    entry = next(one for one in local.get("/loam/v1/models")["models"] if one["name"] == "agent:adder")
    assert (entry["kind"], entry["chain"]) == ("agent", ["adds/any"])
    key = local.send("POST", "/loam/v1/keys", {"user": "ann", "models": ["agent:adder"]})["secret"]
    ann = Gateway(gateway.url, key)
    assert [one["id"] for one in ann.get("/v1/models")["data"]] == ["agent:adder"]
    body = {"model": "agent:adder", "messages": ASKED}
    assert ann.send("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"] == "five"
    with pytest.raises(Refused, match="agent:echo") as refused:
        ann.send("POST", "/v1/chat/completions", {**body, "model": "agent:echo"})
    assert refused.value.status in (403, 404)


def test_no_agent_asks_another(gateway: Running, tmp_path: Path) -> None:
    agents = {"one": {"model": "agent:two"}}
    with (
        pytest.raises(SettingsError, match="never another agent"),
        running(parse({"data": str(tmp_path / "other"), "server": {"port": 0}, "agents": agents})),
    ):
        pass
    local = Gateway(gateway.url)
    text = '+++\nname = "sly"\nmodel = "agent:adder"\n+++\nAsk.'
    local.send("POST", "/loam/v1/prompts", {"text": text, "label": "prod"})
    with pytest.raises(Refused, match="agent:adder") as refused:
        local.send("POST", "/v1/chat/completions", {"model": "prompt:sly", "messages": ASKED})
    assert refused.value.status == 404
