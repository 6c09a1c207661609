"""OpenAI's usage object: tokens of an answer, to the core's words and back.

Knows the dialects of compatible servers. Invariant: `prompt_tokens` counts cached tokens, as the core does, so nothing
is added to it or taken from it.
"""

from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct

from loam.core.calls import Usage
from loam.core.money import MICRO

Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class PromptDetails(Struct):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class CompletionDetails(Struct):
    reasoning_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class UsageObject(Struct):
    """`usage` as servers send it; `cost` is what OpenRouter charges, `prompt_cache_hit_tokens` is DeepSeek's word."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Tokens | None = None
    num_search_queries: Tokens | None = None
    cost: Annotated[float, Meta(ge=0, le=1e9)] | None = None


def decode_usage(usage: UsageObject) -> Usage:
    prompt = usage.prompt_tokens_details or PromptDetails()
    completion = usage.completion_tokens_details or CompletionDetails()
    counted = usage.prompt_tokens or 0
    # Some servers leave reasoning out of completion_tokens but not out of the total; it was produced and is charged.
    output = max(usage.completion_tokens or 0, (usage.total_tokens or 0) - counted)
    return Usage(
        input=counted,
        output=output,
        cached=prompt.cached_tokens or usage.prompt_cache_hit_tokens or 0,
        cache_write=prompt.cache_write_tokens or 0,
        reasoning=completion.reasoning_tokens or 0,
        audio_input=prompt.audio_tokens or 0,
        audio_output=completion.audio_tokens or 0,
        searches=usage.num_search_queries or 0,
        provider_cost=None if usage.cost is None else _micros(usage.cost),
    )


def _micros(cost: float) -> int:
    return int((Decimal(str(cost)) * MICRO).to_integral_value(ROUND_CEILING))


def encode_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": usage.audio_input,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output},
    }
