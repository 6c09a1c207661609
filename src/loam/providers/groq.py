"""Groq: OpenAI's format without completions and embeddings; a stream's usage comes by itself, under `x_groq`."""

from loam.core.calls import Task
from loam.core.clock import Clock
from loam.core.ports import Transport
from loam.providers.compatible import OpenAICompatible
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.wire.openai_requests import Dialect

_DIALECT = Dialect(
    stream_usage=False,
    developer=False,
    lacks=frozenset({"audio", "modalities", "prediction", "verbosity", "web_search_options"}),
)
_TASKS: frozenset[Task] = frozenset({"chat"})


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> OpenAICompatible:
    url = KIND.address(name, settings)
    return OpenAICompatible(name, url, settings, transport, clock, dialect=_DIALECT, tasks=_TASKS)


KIND = ProviderKind(
    name="groq",
    title="Groq",
    build=_build,
    base_url="https://api.groq.com/openai/v1",
    key_variable="GROQ_API_KEY",
    owns=("llama-", "compound-beta"),
    prices="groq",
)
