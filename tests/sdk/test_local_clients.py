"""Official clients, unmodified, against a checkpoint on this machine: no setting but its path."""

import json
from collections.abc import Generator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import anthropic
import openai
import pytest

from loam.config import parse
from loam.kinds import with_checkpoint
from loam.serving import Running, running
from tests.engine import checkpoints

MESSAGES: Any = [{"role": "user", "content": "Hello there"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Lima", "Rome"]}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running, None, None]:
    folder = checkpoints.make(tmp_path_factory.mktemp("models") / "tiny")
    data = tmp_path_factory.mktemp("data")
    plain = {"data": str(data), "server": {"port": 0}, "grounding": {"encoder": {"name": "none"}}}
    settings, name = with_checkpoint(parse(plain), str(folder))
    assert name == "local/tiny"
    with running(settings) as gateway:
        yield gateway


@pytest.fixture
def client(here: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{here.url}/v1", api_key="-", max_retries=0)


def test_it_is_listed_and_free(client: openai.OpenAI) -> None:
    assert "tiny" in [model.id for model in client.models.list()]
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES, max_tokens=4)
    assert raw.headers["x-loam-cost-usd"] == "0.000000"
    assert raw.headers["x-loam-model"] == "local/tiny"


@pytest.mark.parametrize("model", ["tiny", "local/tiny"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert (whole.usage.completion_tokens, whole.usage.prompt_tokens > 3) == (12, True)


def test_log_probabilities_are_openais(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "temperature": 0}
    told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert len(told.content) == 5
    for entry in told.content:
        assert len(entry.top_logprobs) == 3
        best = entry.top_logprobs[0]
        assert best.logprob == entry.logprob, "at temperature 0 the likeliest is drawn"
        assert best.bytes == entry.bytes


def test_a_prompt_is_scored_by_its_echo(client: openai.OpenAI) -> None:
    done = client.completions.create(model="tiny", prompt="The quick brown", echo=True, logprobs=1, max_tokens=0)
    (choice,) = done.choices
    assert choice.text == "The quick brown"
    told = choice.logprobs
    assert told is not None
    assert "".join(told.tokens or []) == "The quick brown"
    assert (told.token_logprobs or [])[0] is None
    assert all(value < 0 for value in (told.token_logprobs or [])[1:])
    assert (told.text_offset or [])[0] == 0
    assert done.usage is not None
    assert done.usage.completion_tokens == 0


def test_ids_are_continued_as_their_text_is(client: openai.OpenAI, here: Running) -> None:
    tokens = post(here, "/tokenize", {"prompt": "The quick", "add_special_tokens": True})["tokens"]
    asked: Any = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    by_text = client.completions.create(prompt="The quick", **asked).choices[0].text
    assert client.completions.create(prompt=tokens, **asked).choices[0].text == by_text
    several = client.completions.create(prompt=["The quick", "A model"], n=2, **asked)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == by_text


def test_a_seed_draws_again_and_a_stop_string_ends(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "prompt": "The quick", "max_tokens": 20, "seed": 5}
    text = client.completions.create(**asked).choices[0].text
    assert client.completions.create(**asked).choices[0].text == text
    middle = text[len(text) // 2 : len(text) // 2 + 3]
    cut = client.completions.create(**asked, stop=[middle]).choices[0]
    assert cut.text == text[: text.index(middle)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("more", "check"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}},
            lambda text: set(json.loads(text)) == {"city", "people"},
        ),
        ({"response_format": {"type": "json_object"}}, lambda text: isinstance(json.loads(text), dict)),
        ({"extra_body": {"guided_choice": ["yes", "no"]}}, lambda text: text in ("yes", "no")),
        ({"extra_body": {"guided_regex": "[a-c]{3}"}}, lambda text: len(text) == 3 and set(text) <= set("abc")),
        ({"extra_body": {"structured_outputs": {"json": SCHEMA}}}, lambda text: json.loads(text)["city"] in text),
    ],
)
def test_a_shape_is_kept(client: openai.OpenAI, more: Any, check: Any) -> None:
    for seed in range(2):
        done = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=200, seed=seed, **more)
        assert check(done.choices[0].message.content), done.choices[0].message.content


def test_a_demanded_tool_is_called(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    done = client.chat.completions.create(
        model="tiny", messages=MESSAGES, tools=[tool], tool_choice="required", max_tokens=200
    )
    (call,) = done.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Lima", "Rome")
    assert done.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"temperature": -1}, "temperature"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "reads 512 in all"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "teaches no calls"),
        ({"extra_body": {"guided_json": 3}}, "guided_json"),
        ({"extra_body": {"guided_regex": "("}}, "grammar"),
        ({"logit_bias": {"99999": 1}}, "no token id"),
        ({"model": "local/nobody"}, "no checkpoint called 'nobody'"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
                ]
            },
            "reads text only",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(client: openai.OpenAI, more: Any, said: str) -> None:
    with pytest.raises(openai.APIStatusError, match=said) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": MESSAGES, "max_tokens": 5, **more})
    assert 400 <= caught.value.status_code < 500


def test_a_decoder_makes_no_embeddings(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="tiny", input="a")


def test_anthropics_client_talks_streams_and_counts(here: Running) -> None:
    client = anthropic.Anthropic(base_url=here.url, api_key="-", max_retries=0)
    asked: Any = {"model": "local/tiny", "max_tokens": 8, "messages": MESSAGES, "system": "Be brief."}
    asked["extra_body"] = {"temperature": 0}
    whole = client.messages.create(**asked)
    assert whole.stop_reason == "max_tokens"
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "".join(block.text for block in whole.content if block.type == "text")
    counted = client.messages.count_tokens(model="local/tiny", messages=MESSAGES, system="Be brief.")
    assert counted.input_tokens == whole.usage.input_tokens


def post(here: Running, path: str, body: Any) -> Any:
    with urlopen(Request(here.url + path, json.dumps(body).encode(), {"content-type": "application/json"})) as answer:
        return json.load(answer)


@pytest.mark.parametrize("prefix", ["", "/loam/v1"])
def test_tokens_have_vllms_shapes(here: Running, prefix: str) -> None:
    told = post(here, prefix + "/tokenize", {"model": "local/tiny", "prompt": "Größe", "return_token_strs": True})
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 512)
    assert len(told["token_strs"]) == told["count"]
    assert post(here, prefix + "/detokenize", {"model": "tiny", "tokens": told["tokens"]}) == {"prompt": "Größe"}
    chat = post(here, prefix + "/tokenize", {"messages": MESSAGES})
    assert chat["count"] > 3
    with urlopen(f"{here.url}{prefix}/tokenizer_info?model=tiny") as answer:
        assert json.load(answer)["eos_token"] == "<|end|>"
    with pytest.raises(HTTPError) as caught:
        post(here, prefix + "/tokenize", {"model": "tiny"})
    assert caught.value.code == 400


def test_checkpoints_are_listed_put_away_and_loaded_again(here: Running) -> None:
    assert post(here, "/loam/v1/engine/unload", {"model": "tiny"})["state"] == "on disk"
    with urlopen(f"{here.url}/loam/v1/engine") as answer:
        (state,) = json.load(answer)["models"]
    assert (state["name"], state["state"]) == ("tiny", "on disk")
    assert post(here, "/loam/v1/engine/load", {"model": "local/tiny"})["state"] == "loaded"
    with pytest.raises(HTTPError) as caught:
        post(here, "/loam/v1/engine/load", {"path": "/nowhere"})
    assert caught.value.code == 404
