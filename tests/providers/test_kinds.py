"""What makes one kind of provider differ from another, seen from the server's side."""

from typing import Any

import pytest
from msgspec import convert, structs

from loam.core.answers import collect
from loam.core.calls import Call, Sampling, Target
from loam.core.clock import SystemClock
from loam.core.errors import SettingsError
from loam.core.messages import say
from loam.providers import anthropic, compatible, groq, openai, together
from loam.providers.faulty import FaultyUpstream
from loam.providers.faulty_record import Visit
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.providers.transport import HttpTransport

pytestmark = pytest.mark.anyio


async def sent(
    kind: ProviderKind, *, stream: bool = True, settings: dict[str, Any] | None = None, **rest: Any
) -> Visit:
    """What the server receives."""
    call = Call(id="call_1", model="x/ok", messages=(say("user", "hi"),), stream=stream, target=Target("x", "ok"))
    call = structs.replace(call, **{"sampling": Sampling(max_tokens=5), **rest})
    transport = HttpTransport("x")
    async with FaultyUpstream() as upstream:
        raw = {"api_key": "k", "base_url": f"{upstream.url}/v1/", **(settings or {})}
        await collect(kind.build("x", convert(raw, ProviderSettings), transport, SystemClock()).answer(call))
        await transport.close()
    (visit,) = upstream.record.visits
    return visit


@pytest.mark.parametrize(
    ("kind", "longest", "usage"),
    [
        (openai.KIND, "max_completion_tokens", True),
        (groq.KIND, "max_completion_tokens", False),
        (together.KIND, "max_tokens", False),
        (compatible.KIND, "max_tokens", True),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_each_dialect_has_its_words(kind: ProviderKind, longest: str, usage: bool) -> None:
    body = (await sent(kind)).body
    assert body[longest] == 5
    assert {"max_tokens", "max_completion_tokens"} & set(body) == {longest}
    assert body.get("stream_options") == ({"include_usage": True} if usage else None)
    assert body["model"] == "ok"


async def test_anthropic_gets_its_headers_and_a_longest_answer() -> None:
    visit = await sent(anthropic.KIND, settings={"default_max_tokens": 77}, sampling=Sampling())
    assert visit.path == "/v1/messages"
    assert visit.body["max_tokens"] == 77
    assert visit.headers["x-api-key"] == "k"
    assert visit.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in visit.headers


async def test_headers_and_lacking_fields_can_be_set() -> None:
    settings = {"headers": {"X-Team": "a", "Authorization": "Basic b"}, "lacks": ["seed"]}
    visit = await sent(compatible.KIND, settings=settings, stream=False, sampling=Sampling(seed=3, temperature=1.0))
    assert (visit.headers["x-team"], visit.headers["authorization"]) == ("a", "Basic b")
    assert "seed" not in visit.body
    assert visit.body["temperature"] == 1.0


async def test_features_under_trial_reach_anthropic_beside_the_settings_own() -> None:
    visit = await sent(anthropic.KIND, settings={"headers": {"Anthropic-Beta": "a-1"}}, betas=("b-2", "c-3"))
    assert visit.headers["anthropic-beta"] == "a-1,b-2,c-3"
    assert "anthropic-beta" not in (await sent(openai.KIND, betas=("b-2",))).headers


@pytest.mark.parametrize("kind", [openai.KIND, anthropic.KIND], ids=lambda kind: kind.name)
async def test_a_key_from_a_file_may_end_with_a_line(kind: ProviderKind) -> None:
    headers = (await sent(kind, settings={"api_key": "k\n"})).headers
    assert "k" in (headers.get("x-api-key", ""), headers.get("authorization", "").removeprefix("Bearer "))


async def test_a_server_without_a_key_gets_none() -> None:
    visit = await sent(compatible.KIND, settings={"api_key": ""}, stream=False)
    assert "authorization" not in visit.headers


async def test_a_prompt_is_completed_or_chatted() -> None:
    prompt = {"task": "complete", "inputs": ("hi",)}
    assert (await sent(openai.KIND, **prompt)).path == "/v1/completions"
    assert (await sent(groq.KIND, **prompt)).path == "/v1/chat/completions"


def build(kind: ProviderKind, **settings: Any) -> object:
    return kind.build("mine", ProviderSettings(**settings), HttpTransport("mine"), SystemClock())


@pytest.mark.parametrize("kind", [openai.KIND, anthropic.KIND, groq.KIND, together.KIND], ids=lambda kind: kind.name)
def test_a_missing_key_is_told_with_its_variable(kind: ProviderKind) -> None:
    with pytest.raises(SettingsError, match=f"mine.*env:{kind.key_variable}"):
        build(kind)
    assert build(kind, api_key="k")
    assert build(kind, base_url="http://127.0.0.1:1/v1")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000/v1", "http://a b/"])
def test_a_wrong_address_is_told_with_its_place(url: str) -> None:
    with pytest.raises(SettingsError, match=r"providers\.mine.*base_url"):
        build(compatible.KIND, base_url=url)


def test_nothing_secret_is_shown() -> None:
    settings = ProviderSettings(api_key="sk-secret", headers={"x-token": "hidden"}, base_url="http://a/v1")
    shown = f"{settings!r} {settings}"
    assert "sk-secret" not in shown
    assert "hidden" not in shown
    assert "http://a/v1" in shown
