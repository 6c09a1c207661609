"""The other official clients, and the frameworks, unmodified, against a running Loam."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import anthropic
import groq
import pytest
import together
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from loam.serving import Running

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]
TOOLS = [{"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {}}}]


@pytest.fixture
def claude(gateway: Running) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key="-")


@pytest.mark.parametrize("model", ["a/ok", "o/ok", "chain"])
def test_messages_answer_and_stream(claude: anthropic.Anthropic, model: str) -> None:
    whole = claude.messages.create(model=model, max_tokens=100, messages=MESSAGES)
    assert whole.content[0].type == "text"
    assert whole.stop_reason == "end_turn"
    assert whole.usage.input_tokens > 0
    with claude.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def test_a_beta_of_the_client_reaches_anthropic(claude: anthropic.Anthropic, upstream: str) -> None:
    claude.beta.messages.create(model="a/ok#betas", max_tokens=9, messages=MESSAGES, betas=["context-1m-2025-08-07"])
    with urllib.request.urlopen(f"{upstream}/requests?model=ok%23betas") as answer:
        (visit,) = json.load(answer)["requests"]
    assert visit["headers"]["anthropic-beta"] == "context-1m-2025-08-07"


@pytest.mark.anyio
async def test_the_async_client(gateway: Running) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key="-") as client,
        client.messages.stream(model="o/ok", max_tokens=100, messages=MESSAGES) as stream,
    ):
        final = await stream.get_final_message()
    assert final.stop_reason == "end_turn"


@pytest.mark.parametrize("model", ["a/tools", "o/tools"])
def test_tools(claude: anthropic.Anthropic, model: str) -> None:
    first = claude.messages.create(model=model, max_tokens=100, messages=MESSAGES, tools=TOOLS)
    assert first.stop_reason == "tool_use"
    use = next(block for block in first.content if block.type == "tool_use")
    conversation = [
        *MESSAGES,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]},
    ]
    second = claude.messages.create(
        model=model.replace("tools", "ok"), max_tokens=100, messages=conversation, tools=TOOLS
    )
    assert second.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400-always", anthropic.BadRequestError),
        ("401-always", anthropic.AuthenticationError),
        ("404-always", anthropic.NotFoundError),
        ("429-always", anthropic.RateLimitError),
        ("500-always", anthropic.InternalServerError),
    ],
)
def test_each_status_raises_its_class(claude: anthropic.Anthropic, fault: str, error: type[Exception]) -> None:
    for family in ("a", "o"):
        with pytest.raises(error):
            claude.messages.create(model=f"{family}/{fault}", max_tokens=10, messages=MESSAGES)


def test_a_broken_stream_never_looks_whole(claude: anthropic.Anthropic) -> None:
    for model in ("a/stream-cut-after-5", "o/stream-cut-after-5"):
        with (
            pytest.raises(anthropic.APIError),
            claude.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream,
        ):
            stream.get_final_message()


def test_tokens_are_counted(claude: anthropic.Anthropic) -> None:
    for model in ("a/ok", "o/ok"):
        assert claude.messages.count_tokens(model=model, messages=MESSAGES).input_tokens > 0


def test_groq_and_together(gateway: Running) -> None:
    fast = groq.Groq(base_url=gateway.url, api_key="-")  # its paths begin with /openai/v1
    assert fast.chat.completions.create(model="o/ok", messages=MESSAGES).choices[0].message.content
    with pytest.raises(groq.RateLimitError):
        fast.chat.completions.create(model="o/429-always", messages=MESSAGES)
    joint = together.Together(base_url=gateway.url, api_key="-")
    assert joint.chat.completions.create(model="o/ok", messages=MESSAGES).choices[0].message.content
    chunks = list(joint.chat.completions.create(model="a/ok", messages=MESSAGES, stream=True))
    assert chunks
    with pytest.raises(together.BadRequestError):
        joint.chat.completions.create(model="o/400-always", messages=MESSAGES)


def test_langchain(gateway: Running) -> None:
    model = ChatOpenAI(model="a/ok", base_url=f"{gateway.url}/v1", api_key="-")
    assert model.invoke("the quick brown fox").content


def test_pydantic_ai(gateway: Running) -> None:
    provider = OpenAIProvider(base_url=f"{gateway.url}/v1", api_key="-")
    agent = Agent(OpenAIChatModel("o/ok", provider=provider))
    assert agent.run_sync("the quick brown fox").output


INSTRUCTOR = """
import sys, instructor, openai
from pydantic import BaseModel
class City(BaseModel):
    city: str
client = instructor.from_openai(openai.OpenAI(base_url=sys.argv[1], api_key="-"))
print(client.chat.completions.create(
    model="o/tools", response_model=City, max_retries=0, messages=[{"role": "user", "content": "hello"}]).city)
"""


def test_instructor(gateway: Running) -> None:
    """It asks for an older OpenAI client than the others, so it runs in an environment of its own."""
    python = Path(sys.prefix) / "instructor" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", INSTRUCTOR, f"{gateway.url}/v1"], capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
