"""The official OpenAI client, unmodified, against a running Loam with a faulty upstream behind it."""

import base64

import openai
import pytest

from loam.serving import Running

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture
def client(gateway: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-")


@pytest.fixture
async def async_client(gateway: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="-")


@pytest.mark.parametrize("model", ["o/ok", "a/ok", "chain"])
def test_a_chat_answers_from_every_family(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    completion = raw.parse()
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert raw.headers["x-loam-call-id"].startswith("call_")
    assert completion.id.endswith(raw.headers["x-loam-call-id"])


@pytest.mark.parametrize("model", ["o/ok", "a/ok", "chain"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=MESSAGES)
    with client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks), "usage is shown only if asked"


def test_usage_is_in_the_stream_if_asked(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="a/ok", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *_, last = list(stream)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["o/ok", "a/ok"])
async def test_the_async_client_streams(async_client: openai.AsyncOpenAI, model: str) -> None:
    stream = await async_client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    finishes = [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices]
    assert finishes[-1] == "stop"
    await async_client.close()


@pytest.mark.parametrize("model", ["o/tools", "a/tools"])
def test_tools_are_called_and_answered(client: openai.OpenAI, model: str) -> None:
    first = client.chat.completions.create(model=model, messages=MESSAGES, tools=TOOLS)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    conversation = [
        *MESSAGES,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = client.chat.completions.create(model=model.replace("tools", "ok"), messages=conversation, tools=TOOLS)
    assert second.choices[0].message.content


@pytest.mark.parametrize("model", ["o/ok", "a/ok"])
def test_an_image_is_taken(client: openai.OpenAI, model: str) -> None:
    content = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    completion = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    assert completion.choices[0].message.content


@pytest.mark.parametrize("family", ["o", "a"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400-always", openai.BadRequestError),
        ("401-always", openai.AuthenticationError),
        ("403-always", openai.PermissionDeniedError),
        ("404-always", openai.NotFoundError),
        ("422-always", openai.UnprocessableEntityError),
        ("429-always", openai.RateLimitError),
        ("500-always", openai.InternalServerError),
        ("529-always", openai.InternalServerError),
    ],
)
def test_each_status_raises_its_class_and_is_not_repeated_by_the_client(
    client: openai.OpenAI, family: str, fault: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=f"{family}/{fault}", messages=MESSAGES)
    assert caught.value.status_code == int(fault[:3])
    attempts = int(caught.value.response.headers["x-loam-attempts"])
    assert attempts == (3 if fault[:3] in ("429", "500", "529") else 1)


@pytest.mark.parametrize("fault", ["stream-cut-after-5", "stream-error-after-5"])
def test_a_broken_stream_never_looks_whole(client: openai.OpenAI, fault: str) -> None:
    stream = client.chat.completions.create(model=f"o/{fault}", messages=MESSAGES, stream=True)
    assert [next(stream) for _ in range(5)]
    with pytest.raises(openai.APIError):
        list(stream)


@pytest.mark.parametrize("fault", ["429-once", "500-once", "cut-mid-body-once", "bad-json-once", "529-once"])
def test_what_fails_once_is_mended_unseen(client: openai.OpenAI, fault: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=f"o/{fault}#sdk", messages=MESSAGES)
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-loam-attempts"] == "2"


def test_embeddings_models_and_completions(client: openai.OpenAI) -> None:
    embeddings = client.embeddings.create(model="o/ok", input=["a", "b"])
    assert len(embeddings.data) == 2
    assert len(embeddings.data[0].embedding) > 0
    completion = client.completions.create(model="o/ok", prompt="once upon", max_tokens=5)
    assert completion.choices[0].text
    assert "chain" in [model.id for model in client.models.list()]


@pytest.mark.parametrize("model", ["o/ok", "a/ok"])
def test_responses_answer_stream_and_remember(client: openai.OpenAI, model: str) -> None:
    first = client.responses.create(model=model, input="remember the word lantern")
    assert first.output_text
    second = client.responses.create(model=model, input="and now", previous_response_id=first.id)
    assert second.output_text
    with client.responses.stream(model=model, input="stream this") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=model, input="x", previous_response_id="resp_unknown")


def test_loams_own_words(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="o/ok", messages=MESSAGES, extra_body={"loam": {"metadata": True, "user": "ann", "tags": {"a": "1"}}}
    )
    assert completion.model_extra is not None
    assert completion.model_extra["loam"]["attempts"] == 1
    with pytest.raises(openai.BadRequestError, match="usr"):
        client.chat.completions.create(model="o/ok", messages=MESSAGES, extra_body={"loam": {"usr": "ann"}})
