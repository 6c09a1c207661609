"""What can be asked of an open checkpoint besides text: counts, ids of texts, texts of ids, what its tokenizer is.

Each question is a function of the opened checkpoint and a body of plain data. Invariant: a question changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from loam.core.errors import refuse
from loam.engine.opening import Opened
from loam.engine.protocol import Request
from loam.engine.text import prompts_of, shown
from loam.engine.trace_opened import question as inspected


class Wanted(Struct, frozen=True, kw_only=True):
    """A text, or a conversation as the template writes it, to be taken apart into tokens."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    special: bool = True
    variables: dict[str, Any] = {}


class Tokens(Struct, frozen=True):
    tokens: list[int]


def count(opened: Opened, body: Any) -> dict[str, Any]:
    """Tokens of a request's prompts."""
    request = msgspec.convert(body, Request)
    return {"tokens": sum(len(prompt.tokens) for prompt in prompts_of(opened.voice, request))}


def tokenize(opened: Opened, body: Any) -> dict[str, Any]:
    wanted = msgspec.convert(body, Wanted)
    tokenizer = opened.voice.tokenizer
    if wanted.messages is not None:
        text = tokenizer.prompt(wanted.messages, wanted.tools, **wanted.variables)
        tokens = tokenizer.encode(text)
    else:
        tokens = tokenizer.encode(wanted.prompt or "", special=wanted.special)
    return {
        "tokens": tokens,
        "pieces": [tokenizer.piece(token) for token in tokens],
        "texts": [shown(tokenizer.token_bytes(token)) for token in tokens],
        "context": opened.voice.context,
    }


def detokenize(opened: Opened, body: Any) -> dict[str, Any]:
    tokens = msgspec.convert(body, Tokens).tokens
    size = opened.voice.vocabulary
    wrong = next((token for token in tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise refuse("bad_request", f"{wrong} is no token id of this model; they go to {size - 1}", param="tokens")
    return {"text": opened.voice.tokenizer.decode(tokens, special=True)}


def tokenizer_info(opened: Opened, body: Any) -> dict[str, Any]:
    """What tokenizer_config.json says, with the template, the size and the tokens that end an answer."""
    voice = opened.voice
    return {
        **voice.tokenizer.configuration,
        "chat_template": voice.tokenizer.template() or None,
        "vocab_size": voice.tokenizer.vocabulary,
        "stop_token_ids": sorted(voice.stop_tokens),
        "max_model_len": voice.context,
    }


QUESTIONS: Mapping[str, Callable[[Opened, Any], Any]] = {
    "count": count,
    "tokenize": tokenize,
    "detokenize": detokenize,
    "tokenizer_info": tokenizer_info,
}
"""By name; asked on a thread beside the engine's."""

STEPS: Mapping[str, Callable[[Opened, Any], Any]] = {"inspect": inspected}
"""Questions that run the model, and so are asked between two steps of the engine, on its own thread."""
