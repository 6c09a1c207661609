"""Pairs of question and passage for the reader and the reranker.

Pure; chance comes in as a `random.Random`. Knows no torch.
Invariant: a pair's span lies in its passage, and a pair whose passage is not the question's own has none.
"""

import random
import re
from collections.abc import Iterator, Sequence

from recipes.heads.changes import MAKERS
from recipes.heads.claims import Pair, Question
from recipes.heads.corpus import Lookalikes
from recipes.heads.rewrites import rewritten
from recipes.heads.words import MONTHS, names

from loam.grounding.sentences import sentences
from loam.grounding.terms import terms


def cropped(pair: Pair, rng: random.Random, share: float, words: int) -> Pair:
    """With chance `share`, the pair with only the sentences around its answer (or around what looks like one).

    Half the pieces is half the time of a step; what is cut away is never the answer.
    """
    if rng.random() >= share or len(pair.passage.split()) <= words:
        return pair
    spans = [(found.start, found.end) for found in sentences(pair.passage)]
    if pair.span:
        place = next((n for n, (_, end) in enumerate(spans) if end >= pair.span[1]), len(spans) - 1)
    else:
        asked = set(terms(pair.question))
        place = max(range(len(spans)), key=lambda n: (len(asked & set(terms(pair.passage[slice(*spans[n])]))), -n))
    first = last = place
    while first > 0 or last < len(spans) - 1:
        grow_left = first > 0 and (last == len(spans) - 1 or rng.random() < 0.5)
        left, right = (first - 1, last) if grow_left else (first, last + 1)
        if len(pair.passage[spans[left][0] : spans[right][1]].split()) > words:
            break
        first, last = left, right
    start, end = spans[first][0], spans[last][1]
    if pair.span and not (start <= pair.span[0] and pair.span[1] <= end):
        return pair
    span = (pair.span[0] - start, pair.span[1] - start) if pair.span else None
    return Pair(pair.question, pair.passage[start:end], span, pair.relevant, pair.origin)


def own_pairs(questions: Sequence[Question], rng: random.Random) -> Iterator[Pair]:
    """Each question with its own passage; one of its spans, where there are several, by chance."""
    for question in questions:
        if question.answerable and not question.spans:
            continue  # a long answer: good for ranking, no span to learn
        span = rng.choice(question.spans) if question.spans else None
        yield Pair(question.text, question.passage, span, True if span else None, question.origin)


def other_pairs(questions: Sequence[Question], rng: random.Random) -> Iterator[Pair]:
    """Each question with a passage that looks right to BM25: from its own article or from another, by chance."""
    passages = list(dict.fromkeys(question.passage for question in questions))
    titles = {question.passage: question.title for question in questions}
    index = Lookalikes(passages)
    for question in questions:
        found = [passages[number] for number in index.best(question.text, 12) if passages[number] != question.passage]
        answers = [question.passage[slice(*span)].lower() for span in question.spans]
        found = [passage for passage in found if not any(answer in passage.lower() for answer in answers)]
        same = [passage for passage in found if titles[passage] == question.title]
        other = [passage for passage in found if titles[passage] != question.title]
        row = (same or other) if rng.random() < 0.5 else (other or same)
        if row:
            yield Pair(question.text, rng.choice(row[:4]), None, False, "lookalike")


def changed_pairs(questions: Sequence[Question], rng: random.Random, share: float) -> Iterator[Pair]:
    """Answerable questions whose name, date, number or an opposite was changed: their passage no longer answers."""
    pools: dict[str, list[str]] = {}
    for question in questions:
        pools.setdefault(question.title, []).extend(question.passage[slice(*span)] for span in names(question.passage))
    for question in questions:
        if not question.spans or rng.random() >= share:
            continue
        kinds = ["entity", "opposite", "date", "number"]
        rng.shuffle(kinds)
        changes = (MAKERS[kind](question.text, pools[question.title], rng) for kind in kinds)
        change = next((change for change in changes if change), None)
        if change:
            yield Pair(change.text, question.passage, None, None, f"changed-{change.kind}")


_MONTH = "|".join(MONTHS)
_WHEN = re.compile(
    rf"(?:(?:{_MONTH}) \d{{1,2}}, \d{{4}}|\d{{1,2}} (?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{4}}|"
    r"(?<![\d,.])1\d{3}(?![\d,.]))"
)
_COUNT = re.compile(r"(?<![\w.,$-])\d[\d,]*(?:\.\d+)?(?= [a-z]+s\b)")


def cloze_pairs(passages: Sequence[tuple[str, str]], rng: random.Random) -> Iterator[Pair]:
    """A sentence of a (title, passage) with a name, date or count asked for; every fourth with another fact changed."""
    for _title, passage in passages:
        found = [(s.start, s.end) for s in sentences(passage) if 7 <= len(passage[s.start : s.end].split()) <= 40]
        if not found:
            continue
        start, end = rng.choice(found)
        hole = _hole(passage[start:end], rng)
        if hole is None:
            continue
        span, asked = hole
        sentence = passage[start:end]
        question = _asked(sentence[: span[0]], asked, sentence[span[1] :], rng)
        if rng.random() < 0.25:
            pool = [passage[slice(*name)] for name in names(passage)]
            maker = MAKERS[rng.choice(("entity", "date", "number", "opposite"))]
            change = maker(question, pool, rng)
            if change:
                yield Pair(change.text, passage, None, None, "cloze-changed")
                continue
        yield Pair(question, passage, (start + span[0], start + span[1]), True, f"cloze-{asked}")


def _hole(sentence: str, rng: random.Random) -> tuple[tuple[int, int], str] | None:
    """A stretch to ask for and the word that asks for it."""
    holes = [(hit.span(), "when") for hit in _WHEN.finditer(sentence)]
    holes += [(hit.span(), "how many") for hit in _COUNT.finditer(sentence) if not _WHEN.fullmatch(hit.group())]
    holes += [(span, rng.choice(("who", "what", "which"))) for span in names(sentence)]
    return rng.choice(holes) if holes else None


def _asked(before: str, asked: str, after: str, rng: random.Random) -> str:
    """The sentence as a rough question: the asking word in the hole or in front, other words, some dropped."""
    text = f"{before}{asked}{after}".rstrip(" .")
    text = rewritten(text, rng, most=2) or text
    if asked not in text.split():
        text = f"{before}{asked}{after}".rstrip(" .")
    if rng.random() < 0.6:
        rest = text.replace(asked, "", 1) if asked in text else text
        text = f"{asked} {rest[:1].lower()}{rest[1:]}"
    words = text.split()
    kept = [word for place, word in enumerate(words) if place == 0 or word == asked or rng.random() > 0.12]
    text = " ".join(kept)
    return text[:1].upper() + text[1:] + "?"
