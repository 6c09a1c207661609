"""The faulty upstream itself: official clients understand it, and it keeps account of what came."""

import json
import urllib.request
from collections.abc import Iterator

import anthropic
import openai
import pytest

from loam.providers.faults import FAULTS, fault_of
from loam.providers.faulty import running
from loam.providers.faulty_answers import example

MESSAGES = [{"role": "user", "content": "one two"}]
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as claude:
        yield claude


def fetch(url: str, *, method: str = "GET") -> object:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
        return json.load(response)


def test_the_table_is_long_and_each_row_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) > 24
    assert all(fault.description.endswith(".") for fault in FAULTS)


@pytest.mark.parametrize(
    ("model", "fault"),
    [("429-once", "429-once"), ("429-once#mine", "429-once"), ("503", "503-always"), ("gpt-4o", "ok"), ("", "ok")],
)
def test_a_name_chooses_its_fault(model: str, fault: str) -> None:
    assert fault_of(model).name == fault


def test_openais_client_understands_it(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="ok", messages=MESSAGES, max_tokens=3, n=2, logprobs=True)
    assert [choice.message.content for choice in whole.choices] == ["one two one"] * 2
    assert whole.choices[0].finish_reason == "length"
    assert whole.choices[0].logprobs is not None
    assert whole.usage is not None
    stream = client.chat.completions.create(
        model="ok", messages=MESSAGES, max_tokens=3, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two one"
    assert last.usage == whole.usage
    assert [len(item.embedding) for item in client.embeddings.create(model="ok", input=["a", "b"]).data] == [8, 8]
    assert client.completions.create(model="ok", prompt="a b", max_tokens=3).choices[0].text == "a b a"
    assert "429-once" in [model.id for model in client.models.list()]


def test_openais_client_is_asked_for_tools(client: openai.OpenAI) -> None:
    call = {"model": "tools", "messages": MESSAGES, "tools": [{"type": "function", "function": TOOL}]}
    (tool,) = client.chat.completions.create(**call).choices[0].message.tool_calls
    with client.chat.completions.stream(**call) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(tool.function.arguments) == json.loads(streamed.function.arguments) == {"city": "one two"}


def test_anthropics_client_understands_it(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(model="thinking", messages=MESSAGES, max_tokens=3)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    with claude.messages.stream(model="thinking", messages=MESSAGES, max_tokens=3) as stream:
        streamed = stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert whole.stop_reason == streamed.stop_reason == "max_tokens"
    assert claude.messages.count_tokens(model="ok", messages=MESSAGES).input_tokens == 2


def test_anthropics_client_is_asked_for_tools(claude: anthropic.Anthropic) -> None:
    tools = [{"name": "weather", "input_schema": TOOL["parameters"]}]
    with claude.messages.stream(model="tools", messages=MESSAGES, max_tokens=30, tools=tools) as stream:
        (tool,) = stream.get_final_message().content
    assert (tool.name, tool.input) == ("weather", {"city": "one two"})


def test_errors_have_their_classes(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="429-retry-after#classes", messages=MESSAGES)
    assert caught.value.response.headers["retry-after"] == "2"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="404", messages=MESSAGES, max_tokens=3)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="stream-error-after-5", messages=MESSAGES, stream=True))


def test_once_is_once_a_name_and_key(url: str, client: openai.OpenAI) -> None:
    other = client.with_options(default_headers={"x-fault-session": "other"})
    for one, model in ((client, "500-once#a"), (client, "500-once#b"), (other, "500-once#a")):
        with pytest.raises(openai.InternalServerError):
            one.chat.completions.create(model=model, messages=MESSAGES)
        assert one.chat.completions.create(model=model, messages=MESSAGES).choices
    assert fetch(f"{url}/requests?model=500-once%23a")["count"] == 4


def test_requests_are_on_record_until_forgotten(client: openai.OpenAI) -> None:
    with running() as url:
        fresh = client.with_options(base_url=f"{url}/v1")
        with pytest.raises(openai.APIConnectionError):
            fresh.chat.completions.create(model="cut-mid-body-always", messages=MESSAGES)
        fresh.chat.completions.create(model="ok", messages=MESSAGES)
        first, second = fetch(f"{url}/requests")["requests"]
        assert (first["model"], first["ending"], second["ending"]) == ("cut-mid-body-always", "broken", "answered")
        assert first["at"] <= first["ended"] <= second["at"]
        assert second["body"]["messages"] == MESSAGES
        fetch(f"{url}/requests", method="DELETE")
        assert fetch(f"{url}/requests")["count"] == 0
        assert len(fetch(f"{url}/faults")) == len(FAULTS)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "hi"),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 3}, 3),
        ({"type": ["integer", "null"], "minimum": 7}, 7),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, 1),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"y": {"type": "string"}}}}}, {"y": "hi"}),
    ],
)
def test_schemas_get_an_example(schema: dict[str, object], value: object) -> None:
    assert example(schema, "hi") == value
