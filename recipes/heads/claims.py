"""The words that the makers of training and test data share.

Knows no torch. Invariant: a span's offsets always cut its text out of the passage that it belongs to.
"""

from typing import Literal

from msgspec import Struct

Label = Literal["supported", "contradicted", "unsaid"]
LABELS: tuple[Label, ...] = ("supported", "contradicted", "unsaid")


class Question(Struct, frozen=True):
    """A question put to one passage; no `spans` where the passage does not answer. `spans` are (start, end)."""

    text: str
    passage: str
    title: str
    spans: tuple[tuple[int, int], ...]
    answerable: bool
    origin: str


class Pair(Struct, frozen=True):
    """A question with a passage: `span` answers it (None: the passage does not), `relevant` None where nobody knows."""

    question: str
    passage: str
    span: tuple[int, int] | None
    relevant: bool | None
    origin: str


class Claim(Struct, frozen=True):
    """A sentence with the evidence that it is held against; `kind` says how it was made, `source` from what."""

    text: str
    evidence: str
    label: Label
    kind: str
    source: str
    origin: str
