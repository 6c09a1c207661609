"""Anthropic, and servers that speak its Messages format.

Knows the paths and headers; the format is `loam.wire.anthropic_requests` and `anthropic_answers`.
"""

from collections.abc import AsyncGenerator

from loam.core.calls import Call, Delta
from loam.core.clock import Clock
from loam.core.errors import refuse
from loam.core.ports import Transport
from loam.providers.exchange import Events, Exchange, Question
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.wire.anthropic_answers import MessagesDecoder, decode_counted
from loam.wire.anthropic_errors import decode_error
from loam.wire.anthropic_requests import encode_count, encode_messages
from loam.wire.sse import Event

_VERSION = "2023-06-01"
_BETA = "anthropic-beta"


class Anthropic:
    """A Model behind the Messages API; `url` is what stands before `/v1/messages`."""

    def __init__(self, provider: str, url: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> None:
        self._provider = provider
        self._url = f"{url.removesuffix('/v1')}/v1/messages"
        self._default_max_tokens = settings.default_max_tokens
        self._betas = next((value for name, value in settings.headers.items() if name.lower() == _BETA), "")
        headers = {"anthropic-version": _VERSION}
        if key := settings.api_key.strip():
            headers["x-api-key"] = key
        self._exchange = Exchange(provider, settings, transport, clock, headers=headers, read_error=decode_error)

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._exchange.ask(call, self._question)

    def _question(self, call: Call) -> Question:
        """Raises ModelFailure for what cannot be asked here."""
        model = call.target.model if call.target is not None else call.model
        headers = {_BETA: ",".join(filter(None, (self._betas, *call.betas)))} if call.betas else {}
        if call.task == "count":
            body = encode_count(call, model)
            return Question(f"{self._url}/count_tokens", body, self._counted, headers=headers)
        if call.task == "embed":
            raise refuse("unsupported", f"{self._provider} cannot make embeddings; ask another provider", param="model")
        body = encode_messages(call, model, stream=call.stream, default_max_tokens=self._default_max_tokens)
        decoder = MessagesDecoder(self._provider)
        events = None
        if call.stream:
            events = Events(lambda event: decoder.event(event.event, event.data), _is_last, decoder.end)
        return Question(self._url, body, decoder.whole, events, headers)

    def _counted(self, body: bytes) -> list[Delta]:
        return decode_counted(body, self._provider)


def _is_last(event: Event) -> bool:
    return event.event == "message_stop"


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> Anthropic:
    return Anthropic(name, KIND.address(name, settings), settings, transport, clock)


KIND = ProviderKind(
    name="anthropic",
    title="Anthropic",
    build=_build,
    base_url="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    owns=("claude-",),
    prices="anthropic",
)
