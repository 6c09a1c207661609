"""Which stretch of which passage answers a question best, and how much of the question it covers.

Pure. Counts words: the share of the question that a sentence and its headings carry, neighbours of the question that
are neighbours there, a number where one is asked for, a definition where one is, a heading that asks the same.
Understands nothing.
Invariant: what it gives is always a stretch of one passage's text, never a word of its own.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from loam.core.calls import Passage
from loam.grounding.sentences import Sentence, sentences
from loam.grounding.terms import STOP_WORDS, stem, words

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Reading

# What a word of the question counts where the sentence itself lacks it; chosen by hand, see bench/reader.py.
_IN_HEADING, _IN_TITLE, _IN_PASSAGE = 0.8, 0.4, 0.2
# What speaks for a sentence beyond the words it covers, and against it.
_PAIRS, _NUMBER_GIVEN, _DEFINED, _HEADED = 0.25, 0.4, 0.3, 0.3
_LATER_PASSAGE, _TWO_SENTENCES = 0.15, 0.05
_SPAN = 0.5  # what a span that the heads are sure of adds
_LONGEST_LIST = 900  # characters that a quote may grow by for the list it announces

_QUANTITY = re.compile(
    r"\bhow (?:many|much|long|often|soon|early|far|old|late|big|high|tall|fast)\b"
    r"|\b(?:what|which) (?:is the )?(?:percent\w*|share|number|amount|rate|cost|price|maximum|minimum|limit)\b"
    r"|\bwhen\b|\b(?:what|which) (?:time|day|date|month|year|hours?)\b|\bwhat (?:does|do) .{1,60}? cost\b",
    re.IGNORECASE,
)
_MEASURES = "long often soon early far old late big high tall fast time number amount maximum minimum take takes share"
_NUMBER = re.compile(
    r"\d[\d,.]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|half|twice|once|daily|weekly|monthly|"
    r"annually|never|limit|january|february|march|april|june|july|august|september|october|november|december|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b",
    re.IGNORECASE,
)
_DEFINITION = re.compile(r"what (?:is|are|does) (?:an? |the )?(.{1,80}?)(?: mean| stand for)?\s*\?*$", re.IGNORECASE)
_COPULA = re.compile(r"[:(–—]|\b(?:is|are|means)\b")


class Evidence(Struct, frozen=True):
    """The stretch `passage.text[start:end]`; `support` is the share of the question it covers, `rank` orders rivals."""

    passage: Passage
    start: int
    end: int
    support: float
    rank: float
    read: float | None = None
    """How sure the trained heads are that the answer is in this stretch; None where there are none."""
    place: int = 0
    """The number of the passage among those that were given."""

    @property
    def quote(self) -> str:
        return self.passage.text[self.start : self.end]


def best(question: str, passages: Sequence[Passage], readings: Sequence["Reading"] = ()) -> Evidence | None:
    """The best supported stretch of the passages (best passage first); None where there is none.

    With `readings`, one a passage, a stretch that holds the span which the heads chose stands higher.
    """
    pages = [_page(passage) for passage in passages]
    asked = _Question(question, pages)
    rivals = (
        _read(evidence, readings[place], place) if readings else evidence
        for place, page in enumerate(pages)
        for evidence in _judged(asked, page, _LATER_PASSAGE * place / len(pages))
    )
    found = max(rivals, key=lambda evidence: evidence.rank, default=None)
    return _with_list(found) if found else None


def _read(evidence: Evidence, reading: "Reading", place: int) -> Evidence:
    holds = reading.start < reading.end and evidence.start <= reading.start and reading.end <= evidence.end
    sure = reading.relevance * reading.answerable if holds else 0.0
    return structs.replace(evidence, rank=evidence.rank + _SPAN * sure, read=sure, place=place)


class _Line(Struct, frozen=True):
    """A sentence with the stems of its telling words, in order."""

    sentence: Sentence
    said: str
    stems: list[str]


class _Page(Struct, frozen=True):
    """A passage as the question looks at it."""

    passage: Passage
    title: frozenset[str]
    section: frozenset[str]
    lines: list[_Line]
    stems: frozenset[str]


def _page(passage: Passage) -> _Page:
    said = [(sentence, passage.text[sentence.start : sentence.end]) for sentence in sentences(passage.text)]
    lines = [_Line(sentence, text, _stems(text)) for sentence, text in said]
    title, section = frozenset(_stems(passage.title)), frozenset(_stems(passage.section))
    return _Page(passage, title, section, lines, frozenset(stem for line in lines for stem in line.stems))


def _stems(text: str) -> list[str]:
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


class _Question:
    """The question's words and what each weighs: more, the fewer of the passages have it."""

    def __init__(self, question: str, pages: Sequence[_Page]) -> None:
        self.wants_number = _QUANTITY.search(question) is not None
        telling = [word for word in words(question) if word not in STOP_WORDS]
        if self.wants_number:
            telling = [word for word in telling if word not in _MEASURES.split()] or telling
        kept = [stem(word) for word in telling]
        self.said = frozenset(words(question))
        self.pairs = frozenset(pairwise(kept))
        defined = _DEFINITION.match(question.strip())
        self.subject = [stem(word) for word in words(defined[1])] if defined else []
        having = {word: sum(word in page.stems | page.section | page.title for page in pages) for word in kept}
        self.weights = {word: math.log(1 + (len(pages) + 1) / (0.5 + count)) for word, count in having.items()}
        self.total = sum(self.weights.values())

    def share(self, matches: dict[str, float]) -> float:
        """How much of the question's weight the matches carry, each by its worth."""
        return sum(self.weights[word] * worth for word, worth in matches.items()) / self.total if self.total else 0.0


class _Rival(Struct, frozen=True):
    """A sentence, or two that follow each other, and what of the question is in it."""

    start: int
    end: int
    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    number: bool
    defines: bool
    single: bool = True

    def and_(self, other: "_Rival") -> "_Rival":
        number = self.number or other.number
        return _Rival(
            self.start,
            other.end,
            self.words | other.words,
            self.pairs | other.pairs,
            number,
            self.defines,
            single=False,
        )


def _judged(asked: _Question, page: _Page, malus: float) -> Iterator[Evidence]:
    around: dict[str, float] = {}
    for found, worth in ((page.stems, _IN_PASSAGE), (page.title, _IN_TITLE), (page.section, _IN_HEADING)):
        around |= {word: max(worth, around.get(word, 0.0)) for word in found & asked.weights.keys()}
    headed = _HEADED * (asked.share(dict.fromkeys(page.section & asked.weights.keys(), 1.0)) > 0.9)
    singles = [_rival(asked, line) for line in page.lines]
    # "Change the passcode. It must have ten characters." answers only as a whole
    doubles = [first.and_(second) for first, second in pairwise(singles) if second.start - first.end <= 1]
    for rival in (*singles, *doubles):
        if page.passage.text[rival.end - 1] == "?":
            continue  # a question answers none
        support = asked.share(around | dict.fromkeys(rival.words, 1.0))
        rank = (
            support
            + _PAIRS * len(rival.pairs) / max(1, len(asked.pairs))
            + _NUMBER_GIVEN * (asked.wants_number and rival.number)
            + _DEFINED * rival.defines
            + headed
            - _TWO_SENTENCES * (not rival.single)
            - malus
        )
        yield Evidence(page.passage, rival.start, rival.end, support, rank)


def _rival(asked: _Question, line: _Line) -> _Rival:
    return _Rival(
        line.sentence.start,
        line.sentence.end,
        frozenset(line.stems) & asked.weights.keys(),
        asked.pairs & frozenset(pairwise(line.stems)),
        asked.wants_number and any(number[0].lower() not in asked.said for number in _NUMBER.finditer(line.said)),
        bool(asked.subject) and _opening(line.said) == asked.subject,
    )


def _opening(said: str) -> list[str]:
    """What the sentence is about, if it is a definition: "A base schedule is ..." and "Base schedule: ..."."""
    found = [stem(word) for word in words(_COPULA.split(said, maxsplit=1)[0])]
    return found[1:] if found[:1] in (["a"], ["an"], ["the"]) else found


def _with_list(found: Evidence) -> Evidence:
    """A quote that announces a list or a table holds it too, as far as the passage does."""
    text = found.passage.text
    if not found.quote.endswith(":"):
        return found
    end = found.end
    for sentence in sentences(text, found.end):
        if sentence.kind == "prose" or sentence.end - found.end > _LONGEST_LIST:
            break
        end = sentence.end
    return structs.replace(found, end=end)
