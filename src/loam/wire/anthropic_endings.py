"""How an answer ends in Anthropic's words and in the core's: the reason it stopped, and the tokens it took.

Invariant: Anthropic's `input_tokens` leaves out what was read from or written to a cache, the core's `Usage.input`
counts it; `usage_of(words_of(usage))` is `usage` again.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from loam.core.calls import Finish, Usage

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_window",
}
_REASON: dict[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_window": "model_context_window_exceeded",
}


class _Written(Struct):
    ephemeral_1h_input_tokens: int | None = None


class _Details(Struct):
    thinking_tokens: int | None = None


class _Searches(Struct):
    web_search_requests: int | None = None


class _Counts(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    output_tokens_details: _Details | None = None
    server_tool_use: _Searches | None = None


USAGE_WORDS = frozenset((*_Counts.__struct_fields__, "service_tier"))
"""The fields of Anthropic's usage that the core has words for."""


def finish_of(stop_reason: str) -> Finish | None:
    """The core's word for a stop reason; None for one that is not known yet."""
    return _FINISH.get(stop_reason)


def stop_reason_of(finish: Finish | None, *, stop_sequence: str | None, refused: bool, called: bool) -> str:
    """Anthropic's word. `refused` and `called` say what came: a refusal's text, a tool call. It is never null."""
    if finish in (None, "stop"):
        if called:
            return "tool_use"
        if refused:
            return "refusal"
        if stop_sequence is not None:
            return "stop_sequence"
    return _REASON[finish or "stop"]


def usage_of(counts: Mapping[str, Any]) -> Usage:
    """The core's account of Anthropic's counts. Raises msgspec.ValidationError for counts that are no numbers."""
    said = msgspec.convert(counts, _Counts)
    cached = said.cache_read_input_tokens or 0
    written_1h = (said.cache_creation and said.cache_creation.ephemeral_1h_input_tokens) or 0
    written = said.cache_creation_input_tokens or 0
    return Usage(
        input=(said.input_tokens or 0) + cached + written,
        output=said.output_tokens or 0,
        cached=cached,
        cache_write=written,
        cache_write_1h=written_1h,
        reasoning=(said.output_tokens_details and said.output_tokens_details.thinking_tokens) or 0,
        searches=(said.server_tool_use and said.server_tool_use.web_search_requests) or 0,
    )


def words_of(usage: Usage) -> dict[str, Any]:
    """Anthropic's account of the core's counts."""
    words: dict[str, Any] = {
        "input_tokens": max(0, usage.input - usage.cached - usage.cache_write),
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": usage.cache_write,
    }
    if usage.cache_write:
        words["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write - usage.cache_write_1h,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        words["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.searches:
        words["server_tool_use"] = {"web_search_requests": usage.searches, "web_fetch_requests": 0}
    return words
