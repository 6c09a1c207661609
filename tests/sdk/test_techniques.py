"""Techniques and structured output through unmodified clients: official ones, instructor, pydantic-ai, LangChain."""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from loam.cli.reach import Gateway
from loam.config import parse
from loam.serving import Running, running

GOOD, BAD = '{"name": "Lima", "people": 10}', '{"name": "Lima", "people": -1}'
ASKED: Any = [{"role": "user", "content": "Which city?"}]


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": City.model_json_schema()}}


def says(*texts: str) -> dict[str, Any]:
    return {"kind": "scripted", "script": [{"text": text} for text in texts]}


def tools(**arguments: Any) -> dict[str, Any]:
    return {"kind": "scripted", "script": [{"tools": [{"name": "City", "arguments": arguments}]}]}


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[Running, None, None]:
    settings = parse(
        {
            "data": str(tmp_path),
            "server": {"port": 0},
            "grounding": {"encoder": {"name": "none"}},
            "prices": [{"model": "*", "input": 1, "output": 1}],
            "providers": {
                "mends": says(BAD, "Here you are:\n```json\n" + GOOD + "\n```"),
                "good": says(GOOD),
                "never": says(BAD),
                "solver": says(*("Six and one.\n<answer>7</answer>", "<answer>7.0</answer>", "<answer>8</answer>") * 9),
                "calls": tools(name="Lima", people=10),
            },
        }
    )
    with running(settings) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def test_a_response_format_is_kept_without_any_other_wish(client: openai.OpenAI, gateway: Running) -> None:
    answer = client.chat.completions.create(model="mends/m", messages=ASKED, response_format=FORMAT)
    assert answer.choices[0].message.content == GOOD
    assert len(Gateway(gateway.url).get("/loam/v1/calls", limit=1)["calls"][0]["attempts"]) == 2


def test_parse_gives_the_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="mends/m", messages=ASKED, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Lima", people=10)
    with client.chat.completions.stream(model="good/m", messages=ASKED, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == City(name="Lima", people=10)
    response = client.responses.parse(model="mends/m", input="Which city?", text_format=City)
    assert response.output_parsed == City(name="Lima", people=10)


def test_what_never_fits_is_an_error_that_tells_every_try(client: openai.OpenAI, gateway: Running) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="never/m", messages=ASKED, response_format=FORMAT)
    body: Any = raised.value.body
    assert body["code"] == "invalid_output"
    assert [one["valid"] for one in body["details"]["attempts"]] == [False] * 3
    assert body["details"]["attempts"][0]["cost_usd"] > "0"
    assert raised.value.response.headers["x-should-retry"] == "false"
    with (
        pytest.raises(openai.APIError),
        client.chat.completions.stream(model="never/m", messages=ASKED, response_format=City) as stream,
    ):
        stream.until_done()
    rows = Gateway(gateway.url).get("/loam/v1/calls", limit=2)["calls"]
    assert {row["failure_kind"] for row in rows} == {"malformed"}


def test_techniques_in_any_call(client: openai.OpenAI) -> None:
    technique = [{"name": "self_consistency", "n": 5, "max_cost_usd": 1}, "chain_of_thought"]
    extra = {"loam": {"technique": technique, "metadata": True}}
    answer = client.chat.completions.create(model="solver/m", messages=ASKED, extra_body=extra)
    assert answer.choices[0].message.content == "7"
    told: Any = answer.model_extra
    (votes,) = told["loam"]["techniques"]
    assert (votes["name"], votes["samples_used"], votes["share"]) == ("self_consistency", 4, 0.75)
    assert votes["cost_usd"] == told["loam"]["cost_usd"]
    chunks = list(client.chat.completions.create(model="solver/m", messages=ASKED, extra_body=extra, stream=True))
    events = [
        chunk.model_extra["loam"]["event"] for chunk in chunks if "event" in (chunk.model_extra or {}).get("loam", {})
    ]
    assert events[:3] == ["sample"] * 3
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) in ("7", "7.0")


def test_by_header_and_with_what_cannot_be_read(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="solver/m", messages=ASKED, extra_headers={"x-loam-technique": "chain_of_thought"}
    )
    assert answer.choices[0].message.content == "7"
    with pytest.raises(openai.BadRequestError, match="no technique is called 'magic'") as raised:
        client.chat.completions.create(model="solver/m", messages=ASKED, extra_body={"loam": {"technique": "magic"}})
    assert raised.value.param == "loam.technique.name"


def test_anthropics_client(gateway: Running) -> None:
    claude = anthropic.Anthropic(base_url=gateway.url, api_key="-")
    extra = {"loam": {"technique": {"name": "chain_of_thought", "visible": True}, "metadata": True}}
    answer = claude.messages.create(model="solver/m", max_tokens=99, messages=ASKED, extra_body=extra)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    extra["loam"]["technique"] = {"name": "self_consistency", "n": 3}
    with claude.messages.stream(model="solver/m", max_tokens=99, messages=ASKED, extra_body=extra) as stream:
        assert stream.get_final_message().stop_reason == "end_turn"
    shape: Any = {"format": {"type": "json_schema", "schema": City.model_json_schema()}}
    answer = claude.messages.create(model="mends/m", max_tokens=99, messages=ASKED, output_config=shape)
    assert answer.content[0].type == "text"
    assert answer.content[0].text == GOOD
    claude.close()


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_langchains_with_structured_output(gateway: Running, method: Any) -> None:
    model = "calls/m" if method == "function_calling" else "mends/m"
    chat = ChatOpenAI(model=model, base_url=f"{gateway.url}/v1", api_key="-", max_retries=0)  # pyright: ignore
    if method == "json_mode":
        chat = ChatOpenAI(model="good/m", base_url=f"{gateway.url}/v1", api_key="-")  # pyright: ignore
    assert chat.with_structured_output(City, method=method).invoke("Which city?") == City(name="Lima", people=10)


@pytest.mark.parametrize("output", [NativeOutput(City), PromptedOutput(City)], ids=["native", "prompted"])
def test_pydantic_ai(gateway: Running, output: Any) -> None:
    provider = OpenAIProvider(base_url=f"{gateway.url}/v1", api_key="-")
    model = "mends/m" if isinstance(output, NativeOutput) else "good/m"
    agent = Agent(OpenAIChatModel(model, provider=provider), output_type=output)
    assert agent.run_sync("Which city?").output == City(name="Lima", people=10)


INSTRUCTOR = """
import sys, instructor, openai
from pydantic import BaseModel, Field
class City(BaseModel):
    name: str
    people: int = Field(ge=0)
modes = instructor.Mode
for mode, model in ((modes.JSON, "good/m"), (modes.JSON_SCHEMA, "mends/m"), (modes.TOOLS, "calls/m")):
    client = instructor.from_openai(openai.OpenAI(base_url=sys.argv[1], api_key="-"), mode=mode)
    print(client.chat.completions.create(
        model=model, response_model=City, max_retries=0, messages=[{"role": "user", "content": "Which city?"}]).people)
"""


def test_instructor(gateway: Running) -> None:
    python = Path(sys.prefix) / "instructor" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", INSTRUCTOR, f"{gateway.url}/v1"], capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["10"] * 3
