"""Ways to make a sentence say something else than its source: one fact changed, nothing more.

Pure; chance comes in as a `random.Random`. Knows no evidence.
Invariant: a Change differs from its source in the words that `old` and `new` name, and in no others.
"""

import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from msgspec import Struct
from recipes.heads.words import AUXILIARIES, COUNTS, MONTHS, OPPOSITES, ORDINALS, WEEKDAYS, base, names


class Change(Struct, frozen=True):
    """A sentence after its change, what kind it was, and the stretches that were swapped."""

    text: str
    kind: str
    old: str
    new: str


Maker = Callable[[str, Sequence[str], random.Random], Change | None]

_YEAR = r"(?:1[0-9]|20)\d\d"
_NUMBER = re.compile(rf"(?<![\w.,-])(?!{_YEAR}\b(?![,.]?\d))\d[\d,]*(?:\.\d+)?(?=s?\b)(?!-[a-zA-Z])")
_DATES = (
    re.compile(rf"(?<![\w,.-]){_YEAR}\b(?![,.]\d)"),
    re.compile(rf"\b(?:{'|'.join(month for month in MONTHS if month != 'May')})\b"),
    re.compile(rf"\b(?:{'|'.join(WEEKDAYS)})\b"),
    re.compile(r"\b\d{1,2}(?=(?:st|nd|rd|th) century\b)"),
)
_COUNT = re.compile(rf"\b(?:{'|'.join(COUNTS)})\b", re.IGNORECASE)
_ORDINAL = re.compile(rf"\b(?:{'|'.join(ORDINALS)})\b")
_DAY = re.compile(rf"(?:{'|'.join(MONTHS)}) $")
_AUXILIARY = re.compile(rf"\b({'|'.join(sorted(AUXILIARIES))})\b(?! not\b|n['’]t)", re.IGNORECASE)
_DENIAL = re.compile(r"\b(do|does|did|is|are|was|were|has|have|had|could|would|should|will|can)(?: not\b|n['’]t\b)")
_VERB = re.compile(r"(?<=[\w)] )([a-z]+ed|won|lost|became|began|built|led|held|made|took|wrote|came|found|gave|sold)\b")


def number(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """Another quantity."""
    hits = [hit for hit in _NUMBER.finditer(sentence) if not _DAY.search(sentence, 0, hit.start())]
    hits += list(_COUNT.finditer(sentence))
    if not hits:
        return None
    hit = rng.choice(hits)
    old = hit.group()
    if old.lower() in COUNTS:
        other = rng.choice([word for word in COUNTS if word != old.lower()])
        return _swap(sentence, hit.span(), other.capitalize() if old[0].isupper() else other, "number")
    return _swap(sentence, hit.span(), _other_number(old, rng), "number")


def _other_number(old: str, rng: random.Random) -> str:
    """One digit changed, or one added or taken away; separators stay where they were."""
    digits = [place for place, sign in enumerate(old) if sign.isdigit()]
    if rng.random() < 0.15 and "," not in old and "." not in old:
        return old + "0" if len(digits) == 1 or rng.random() < 0.5 else old[:-1]
    place = rng.choice(digits)
    lowest = 1 if place == 0 else 0
    digit = rng.choice([str(n) for n in range(lowest, 10) if str(n) != old[place]])
    return old[:place] + digit + old[place + 1 :]


def date(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """Another year, month, weekday or century, or another day of a month."""
    hits = [hit for pattern in _DATES for hit in pattern.finditer(sentence)]
    hits += [hit for hit in re.finditer(r"(?<![\w.,-])\d{1,2}\b", sentence) if _DAY.search(sentence, 0, hit.start())]
    if not hits:
        return None
    hit = rng.choice(hits)
    old = hit.group()
    if old in MONTHS or old in WEEKDAYS:
        row = MONTHS if old in MONTHS else WEEKDAYS
        return _swap(sentence, hit.span(), rng.choice([name for name in row if name != old]), "date")
    reach, most = (30, 2025) if len(old) == 4 else (8, 20 if "century" in sentence[hit.end() :][:10] else 28)
    near = [n for n in range(int(old) - reach, int(old) + reach + 1) if n != int(old) and 0 < n <= most]
    return _swap(sentence, hit.span(), str(rng.choice(near)), "date") if near else None


def entity(sentence: str, pool: Sequence[str], rng: random.Random) -> Change | None:
    """A name replaced by another of the same shape from the pool (the other names of the article)."""
    spans = names(sentence)
    rng.shuffle(spans)
    for start, end in spans:
        old = sentence[start:end]
        others = [
            name for name in pool if _shape(name) == _shape(old) and not _share(name, old) and name not in sentence
        ]
        if others:
            return _swap(sentence, (start, end), rng.choice(others), "entity")
    return None


def _shape(name: str) -> str:
    """A rough type: what is built alike is often of one kind (people, states, abbreviations, adjectives of nations)."""
    if name.isupper():
        return "letters"
    if re.search(r"(?:ish|ese|ian|ean|can|man|nch)$", name) and " " not in name:
        return "adjective"
    return f"{min(len(name.split()), 3)}{' of ' in name}"


def _share(one: str, other: str) -> bool:
    return bool({word.lower()[:5] for word in one.split()} & {word.lower()[:5] for word in other.split()})


def negation(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """A denial put in, or taken out where there is one."""
    found = _DENIAL.search(sentence)
    if found:
        word = found.group(1)
        if word in ("do", "does", "did"):
            return _swap(sentence, (found.start(), found.end() + 1), "", "negation") if word == "do" else None
        return _swap(sentence, found.span(), word, "negation")
    if "cannot" in sentence:
        start = sentence.index("cannot")
        return _swap(sentence, (start, start + 6), "can", "negation")
    never = re.search(r"\bnever ", sentence)
    if never:
        return _swap(sentence, never.span(), "", "negation")
    return _denied(sentence, rng)


def _denied(sentence: str, rng: random.Random) -> Change | None:
    hits = [hit for hit in _AUXILIARY.finditer(sentence) if hit.start()]
    if hits:
        hit = hits[0] if rng.random() < 0.7 else rng.choice(hits)
        word = hit.group()
        form = "n't" if rng.random() < 0.25 and word in ("is", "are", "was", "were", "has", "have", "had") else " not"
        return _swap(sentence, hit.span(), f"{word}{rng.choice([form, form, ' never'])}", "negation")
    verbs = list(_VERB.finditer(sentence))
    if not verbs:
        return None
    hit = verbs[0]
    plain = base(hit.group())
    word = f"did not {plain}" if plain and rng.random() < 0.6 else f"never {hit.group()}"
    return _swap(sentence, hit.span(), word, "negation")


_EVEN = re.compile(r"^[\s,]*(?:and|or|,|/|&)[\s,]*(?:the )?$|\b(?:met|married|with|and|or|between|both)\b")


def roles(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """Two names of a sentence in each other's place: who did it becomes whom it was done to."""
    spans = names(sentence)
    pairs = [
        (one, other)
        for one, other in pairwise(spans)
        if 2 <= len(sentence[one[1] : other[0]].split()) <= 8
        and not _EVEN.search(sentence[one[1] : other[0]])
        and "," not in sentence[one[1] : other[0]]
        and re.search(
            r"\b(?:\w+ed|\w+s|of|by|over|to|from|than|was|is|had|under|won|led)\b", sentence[one[1] : other[0]]
        )
        and not _share(sentence[slice(*one)], sentence[slice(*other)])
    ]
    if not pairs:
        return None
    one, other = rng.choice(pairs)
    first, middle, last = sentence[slice(*one)], sentence[one[1] : other[0]], sentence[slice(*other)]
    return Change(sentence[: one[0]] + last + middle + first + sentence[other[1] :], "roles", first, last)


def opposite(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """A word turned into its opposite."""
    hits = [hit for hit in re.finditer(r"\b[a-z]{3,}\b", sentence) if hit.group() in OPPOSITES]
    if not hits:
        return None
    hit = rng.choice(hits)
    return _swap(sentence, hit.span(), OPPOSITES[hit.group()], "opposite")


def ordinal(sentence: str, _pool: Sequence[str], rng: random.Random) -> Change | None:
    """Another place in an order."""
    hits = list(_ORDINAL.finditer(sentence))
    if not hits:
        return None
    hit = rng.choice(hits)
    return _swap(sentence, hit.span(), rng.choice([word for word in ORDINALS if word != hit.group()]), "opposite")


MAKERS: dict[str, Maker] = {
    "number": number,
    "date": date,
    "entity": entity,
    "negation": negation,
    "roles": roles,
    "opposite": opposite,
    "ordinal": ordinal,
}


def _swap(sentence: str, span: tuple[int, int], new: str, kind: str) -> Change:
    return Change(sentence[: span[0]] + new + sentence[span[1] :], kind, sentence[slice(*span)], new)
