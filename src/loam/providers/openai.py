"""OpenAI itself."""

from loam.core.clock import Clock
from loam.core.ports import Transport
from loam.providers.compatible import OpenAICompatible
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.wire.openai_requests import Dialect


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> OpenAICompatible:
    return OpenAICompatible(
        name,
        KIND.address(name, settings),
        settings,
        transport,
        clock,
        dialect=Dialect(lacks=frozenset(("top_k", "min_p"))),
    )


KIND = ProviderKind(
    name="openai",
    title="OpenAI",
    build=_build,
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    owns=("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "davinci-", "babbage-"),
    prices="openai",
)
