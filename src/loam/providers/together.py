"""Together: OpenAI's format with the older word for the longest answer; a stream's usage comes by itself."""

from loam.core.clock import Clock
from loam.core.ports import Transport
from loam.providers.compatible import OpenAICompatible
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.wire.openai_requests import Dialect

_DIALECT = Dialect(
    max_tokens="max_tokens",
    stream_usage=False,
    developer=False,
    lacks=frozenset({"user", "parallel_tool_calls", "metadata"}),
)


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> OpenAICompatible:
    return OpenAICompatible(name, KIND.address(name, settings), settings, transport, clock, dialect=_DIALECT)


KIND = ProviderKind(
    name="together",
    title="Together AI",
    build=_build,
    base_url="https://api.together.xyz/v1",
    key_variable="TOGETHER_API_KEY",
    owns=("meta-llama/", "mistralai/", "Qwen/", "deepseek-ai/", "togethercomputer/"),
    prices="together",
)
