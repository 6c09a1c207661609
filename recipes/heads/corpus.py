"""Reads the question sets, and finds the passages that look right to BM25 but are not.

Pure but for `rows`. Invariant: every span of a Question was checked against its passage.
"""

import json
import lzma
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recipes.heads.claims import Question

from loam.grounding.terms import terms

_CLUMSY = re.compile(
    r"\b(?:it|this|that|these|another|the same|he|she|they|his|her|its|their)\b|[()\[\]]|\bdid \w+ed\b", re.IGNORECASE
)
_LEFT_OUT = frozenset(
    {"none-typed-founded", "none-typed-use", "none-typed-inventor", "none-typed-namesake", "none-typed-first"}
)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a packed JSON-lines file."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def human(found: Iterable[dict[str, Any]]) -> list[Question]:
    """Questions that people wrote; those whose answer is only a long evidence have no spans though answerable."""
    return [
        Question(
            row["question"],
            row["context"],
            row["title"],
            _spans(row["context"], row["answers"]),
            row["answerable"],
            row["source"],
        )
        for row in found
    ]


def synthetic(found: Iterable[dict[str, Any]]) -> list[Question]:
    """Pattern-made questions, without the clumsy ones and without those unanswerable by a glance at the title."""
    kept: list[Question] = []
    for row in found:
        for qa in row["qas"]:
            if qa["kind"] in _LEFT_OUT or _CLUMSY.search(qa["question"]) or len(qa["question"].split()) > 20:
                continue
            spans = _spans(row["context"], qa["answers"])
            kept.append(
                Question(qa["question"], row["context"], row["title"], spans, qa["answerable"], f"wiki-{qa['kind']}")
            )
    return kept


def _spans(context: str, answers: list[dict[str, Any]]) -> tuple[tuple[int, int], ...]:
    spans = [(answer["start"], answer["start"] + len(answer["text"])) for answer in answers]
    return tuple(span for span, answer in zip(spans, answers, strict=True) if context[slice(*span)] == answer["text"])


class Lookalikes:
    """BM25 over passages in memory (k1 1.2, b 0.75): small, slow, good enough to mine hard negatives."""

    def __init__(self, passages: list[str]) -> None:
        self.passages = passages
        counts = [Counter(terms(passage)) for passage in passages]
        sizes = [sum(count.values()) for count in counts]
        mean = sum(sizes) / max(1, len(sizes))
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, count in enumerate(counts):
            for term, times in count.items():
                weight = times * 2.2 / (times + 1.2 * (0.25 + 0.75 * sizes[number] / mean))
                self._postings[term].append((number, weight))

    def best(self, question: str, most: int) -> list[int]:
        """The numbers of the passages that share the most telling words with the question, best first."""
        scores: dict[int, float] = defaultdict(float)
        for term in set(terms(question)):
            found = self._postings.get(term, [])
            idf = math.log(1 + (len(self.passages) - len(found) + 0.5) / (len(found) + 0.5))
            for number, weight in found:
                scores[number] += idf * weight
        return sorted(scores, key=lambda number: (-scores[number], number))[:most]
