"""Any server that speaks OpenAI's format: vLLM, Ollama, llama.cpp, and whatever comes after them.

Knows the paths and what a `Dialect` cannot say. Invariant: what one server of this format does differently is data.
"""

from collections.abc import AsyncGenerator

from msgspec import structs

from loam.core.calls import Call, Delta, Task, Usage
from loam.core.clock import Clock
from loam.core.errors import refuse
from loam.core.ports import Transport
from loam.core.tokens import counted_input
from loam.providers.exchange import Events, Exchange, Question
from loam.providers.provider import ProviderKind, ProviderSettings
from loam.wire.openai_answers import AnswerDecoder, ChatDecoder
from loam.wire.openai_completions import CompletionDecoder, encode_completion
from loam.wire.openai_embeddings import decode_embedding_answer, encode_embedding
from loam.wire.openai_errors import decode_error
from loam.wire.openai_requests import Dialect, encode_chat
from loam.wire.sse import Event

TASKS: frozenset[Task] = frozenset({"chat", "complete", "embed"})


class OpenAICompatible:
    """A Model behind a server of OpenAI's format; `url` is where its paths begin. `tasks` is what it can be asked.

    A server without completions gets a prompt as a chat.
    """

    def __init__(
        self,
        provider: str,
        url: str,
        settings: ProviderSettings,
        transport: Transport,
        clock: Clock,
        *,
        dialect: Dialect,
        tasks: frozenset[Task] = TASKS,
    ) -> None:
        self._provider = provider
        self._url = url
        self._dialect = structs.replace(dialect, lacks=dialect.lacks | frozenset(settings.lacks))
        self._tasks = tasks
        key = settings.api_key.strip()  # keys from files come with a line end
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._exchange = Exchange(provider, settings, transport, clock, headers=headers, read_error=decode_error)

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return _estimated(call) if call.task == "count" else self._exchange.ask(call, self._question)

    def _question(self, call: Call) -> Question:
        """Raises ModelFailure for what cannot be asked here."""
        model = call.target.model if call.target is not None else call.model
        task = "chat" if call.task == "complete" and "complete" not in self._tasks else call.task
        if task not in self._tasks:
            what = {"embed": "make embeddings"}.get(task, task)
            raise refuse("unsupported", f"{self._provider} cannot {what}; ask another provider", param="model")
        if task == "embed":
            body = encode_embedding(call, model, self._dialect)
            return Question(f"{self._url}/embeddings", body, self._vectors)
        if task == "complete":
            body = encode_completion(call, model, self._dialect, stream=call.stream)
            return _reading(f"{self._url}/completions", body, CompletionDecoder(self._provider), stream=call.stream)
        body = encode_chat(call, model, self._dialect, stream=call.stream)
        return _reading(f"{self._url}/chat/completions", body, ChatDecoder(self._provider), stream=call.stream)

    def _vectors(self, body: bytes) -> list[Delta]:
        return decode_embedding_answer(body, self._provider)


async def _estimated(call: Call) -> AsyncGenerator[Delta, None]:
    """OpenAI's format has no counting of tokens, so this is Loam's own figure, and says so."""
    yield Delta(usage=Usage(input=counted_input(call), estimated=True))


def _reading(url: str, body: bytes, decoder: AnswerDecoder, *, stream: bool) -> Question:
    events = Events(lambda event: decoder.event(event.data), _is_last, decoder.end) if stream else None
    return Question(url, body, decoder.whole, events)


def _is_last(event: Event) -> bool:
    return event.data == b"[DONE]"


def _build(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> OpenAICompatible:
    dialect = Dialect(max_tokens="max_tokens", developer=False)  # the words that the oldest of these servers know
    return OpenAICompatible(name, KIND.address(name, settings), settings, transport, clock, dialect=dialect)


KIND = ProviderKind(name="compatible", title="Any OpenAI-compatible server", build=_build)
