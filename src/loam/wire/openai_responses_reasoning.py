"""A thought as a `reasoning` item of the Responses format, and back.

Invariant: what proves a thought to the provider that made it (a signature, a sealed block) travels in
`encrypted_content`, under a name of Loam's own, so that a client who sends the item back loses nothing.
"""

from typing import Any

from msgspec import Struct

from loam.core.messages import Thinking
from loam.wire.reading import convert

_SIGNED = "loam-signed:"
_SEALED = "loam-sealed:"


class _Text(Struct):
    text: str


class _Item(Struct):
    summary: list[_Text] = []
    content: list[_Text] | None = None
    encrypted_content: str | None = None


def reasoning_item(thought: Thinking, identity: str) -> dict[str, Any]:
    """A thought as an item of the output."""
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    item: dict[str, Any] = {"id": identity, "type": "reasoning", "summary": summary}
    if thought.redacted:
        item["encrypted_content"] = _SEALED + thought.redacted
    elif thought.signature:
        item["encrypted_content"] = _SIGNED + thought.signature
    return item


def thought_of(item: dict[str, Any], path: str) -> Thinking:
    """The thought of an item that came back. Raises ModelFailure (bad_request)."""
    said = convert(item, _Item, path)
    text = "".join(piece.text for piece in said.content or said.summary)
    proof = said.encrypted_content or ""
    if proof.startswith(_SEALED):
        return Thinking(text, redacted=proof.removeprefix(_SEALED))
    return Thinking(text, proof.removeprefix(_SIGNED) if proof.startswith(_SIGNED) else "")
