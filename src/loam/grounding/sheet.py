"""The passages of a call as numbered sentences: what a model may cite, and what each number stands for.

Pure. Knows where sentences lie. Invariant: an entry's quote is cut from its passage, whatever a model writes.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from loam.core.calls import Citation, Passage
from loam.grounding.checks.coverage import Line
from loam.grounding.checks.tokens import telling
from loam.grounding.sentences import Kind, sentences

_ADDRESSED = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:above|previous|prior|earlier|preceding|all|any|these|your)"
    r"\b.{0,30}\b(?:instructions?|rules?|prompts?|messages?|guidelines?|directions?|text)\b"
    r"|\b(?:ignore|disregard|forget) (?:everything|all|what(?:ever)?) (?:above|before|you)\b|\bignore the above\b"
    r"|\b(?:ignore|disregard|forget)\b.{0,30}\b(?:sentences|documents|passages|sources|context)\b.{0,15}\b(?:above|below)\b"
    r"|\b(?:system|developer) (?:prompt|message)\b|\byou are (?:now|no longer)\b|\bnew instructions?\s*:"
    r"|\b(?:as an?|dear) (?:ai|llm|language model|assistant)\b"
    r"|\b(?:assistant|model|ai)\s*[:,]\s*(?:you )?(?:must|should|please)\b"
    r"|\b(?:respond|reply|answer) only with\b|<\|?/?(?:im_start|im_end|system|user|assistant|inst)\b",
    re.IGNORECASE | re.DOTALL,
)
_POINTS_BACK = re.compile(r"\W*(?:it|its|they|their|them|this|these|that|those|he|she|such|both)\b", re.IGNORECASE)


class Entry(Struct, frozen=True):
    """The sentence `passage.text[start:end]` under the number `id`. `beside` is what it is about without saying so.

    One that is `withheld` talks to the model rather than to a reader: it is neither shown nor citable.
    """

    id: str
    passage: Passage
    start: int
    end: int
    kind: Kind
    beside: str
    withheld: bool

    @property
    def quote(self) -> str:
        return self.passage.text[self.start : self.end]

    @property
    def line(self) -> Line:
        return Line(self.quote, self.beside)

    def citation(self, score: float) -> Citation:
        """The place of the quote in its document; where in the answer it belongs is not known here."""
        return cited(self.passage, self.start, self.quote, score)


def cited(passage: Passage, start: int, quote: str, score: float) -> Citation:
    """A quote that begins at the character `start` of a passage's text, by its place in the document."""
    begin = passage.start + start
    return Citation(
        passage.document_id,
        passage.title,
        passage.url,
        passage.section,
        begin,
        begin + len(quote),
        quote,
        round(score, 3),
        page=passage.page,
        revision=passage.revision,
    )


class Sheet:
    """All that may be cited in answer to one call."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self.entries = tuple(entry for number, passage in enumerate(passages, 1) for entry in _entries(number, passage))
        self._by_id = {entry.id: entry for entry in self.entries if not entry.withheld}

    @property
    def ids(self) -> tuple[str, ...]:
        """The numbers that may be cited."""
        return tuple(self._by_id)

    def find(self, id: str) -> Entry | None:
        return self._by_id.get(id)

    @cached_property
    def stems(self) -> dict[str, frozenset[str]]:
        """The telling stems of every citable entry, for choosing between them."""
        return {entry.id: frozenset(telling(entry.quote)) for entry in self._by_id.values()}

    @cached_property
    def rarity(self) -> Mapping[str, float]:
        """How telling a stem is: 1 where no passage has it, less the more have it."""
        held = Counter(stem for passage in self.passages for stem in set(telling(passage.text)))
        most = math.log(1 + 2 * (len(self.passages) + 1))
        return {stem: math.log(1 + (len(self.passages) + 1) / (0.5 + count)) / most for stem, count in held.items()}


def addressed(text: str) -> bool:
    """Whether a text reads like orders to a model."""
    return _ADDRESSED.search(text) is not None


def _entries(number: int, passage: Passage) -> list[Entry]:
    heading = f"{passage.title}\n{passage.section}"
    entries: list[Entry] = []
    announcing, before = "", ""
    for place, sentence in enumerate(sentences(passage.text), 1):
        said = passage.text[sentence.start : sentence.end]
        if sentence.kind == "prose":
            announcing = said if said.endswith(":") else ""
        back = before if _POINTS_BACK.match(said) else ""
        lead = announcing if sentence.kind != "prose" else ""
        beside = "\n".join(part for part in (heading, lead, back) if part)
        span = (sentence.start, sentence.end)
        entries.append(Entry(f"{number}.{place}", passage, *span, sentence.kind, beside, addressed(said)))
        before = said
    return entries
