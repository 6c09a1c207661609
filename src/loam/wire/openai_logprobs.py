"""Log probabilities: the chat format's list of tokens, and the older four lists side by side.

Knows both shapes. Invariant: whatever the shape was, the core holds the list of tokens; offsets in the text, which that
list has no word for, stay in its entries as `text_offset`.
"""

from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")


class _Top(Struct):
    token: str
    logprob: float | None


class _Entry(_Top):
    top_logprobs: list[_Top] | None = None


class LogprobsObject(Struct):
    """`logprobs` of a choice, in either shape."""

    content: list[_Entry] | None = None
    refusal: list[_Entry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None
    text_offset: list[int | None] | None = None


def decode_logprobs(given: LogprobsObject, raw: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The list of tokens; `raw` is the JSON that `given` was checked against, so entries keep what is unknown here."""
    if given.content or not given.tokens:
        return raw.get("content") or None
    content: list[dict[str, Any]] = []
    for place, token in enumerate(given.tokens):
        tops = _at(given.top_logprobs, place) or {}
        entry = _written(token, _at(given.token_logprobs, place))
        entry["top_logprobs"] = [_written(other, logprob) for other, logprob in tops.items()]
        offset = _at(given.text_offset, place)
        content.append(entry if offset is None else {**entry, "text_offset": offset})
    return content


def _written(token: str, logprob: float | None) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _at(values: list[T] | None, place: int) -> T | None:
    return values[place] if values is not None and place < len(values) else None


def encode_old_logprobs(content: list[dict[str, Any]], offset: int) -> dict[str, Any]:
    """The older shape; where the provider gave no offsets they are counted from `offset` on."""
    offsets: list[int] = []
    for entry in content:
        offset = entry.get("text_offset", offset)
        offsets.append(offset)
        offset += len(entry["token"])
    tops = [{top["token"]: top["logprob"] for top in entry.get("top_logprobs") or ()} for entry in content]
    return {
        "tokens": [entry["token"] for entry in content],
        "token_logprobs": [entry["logprob"] for entry in content],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets,
    }
