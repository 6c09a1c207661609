"""Claims with evidence for the verifier: training pairs, and the labelled set that it is judged on.

Pure; chance comes in as a `random.Random` or a seed. Knows no torch.
Invariant: of a supported claim the source stands in its evidence; of an unsaid one it does not.
"""

import random
from collections.abc import Iterator, Sequence

from msgspec import Struct
from recipes.heads.changes import MAKERS, Change
from recipes.heads.claims import Claim, Label, Question
from recipes.heads.declare import declared
from recipes.heads.rewrites import rewritten
from recipes.heads.words import names

from loam.grounding.sentences import sentences


class Place(Struct, frozen=True):
    """A sentence where it stands: passage, its stretch, the sentences of the passage, and the article's names."""

    passage: str
    start: int
    end: int
    spans: tuple[tuple[int, int], ...]
    pool: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return self.passage[self.start : self.end]


def places(passages: Sequence[tuple[str, str]]) -> list[Place]:
    """Every sentence of seven to fifty words in (title, passage) rows."""
    pools: dict[str, dict[str, None]] = {}
    for title, passage in passages:
        pools.setdefault(title, {}).update((passage[slice(*span)], None) for span in names(passage))
    found: list[Place] = []
    for title, passage in passages:
        spans = tuple((s.start, s.end) for s in sentences(passage) if len(passage[s.start : s.end].split()) >= 4)
        pool = tuple(pools[title])
        found += [Place(passage, *span, spans, pool) for span in spans if 7 <= len(passage[slice(*span)].split()) <= 50]
    return found


def window(place: Place, rng: random.Random, whole: float) -> tuple[int, int]:
    """The stretch of the passage that serves as evidence: all of it, or the sentence with or without its neighbours."""
    if rng.random() < whole:
        return 0, len(place.passage)
    number = place.spans.index((place.start, place.end))
    first, last = number - rng.randrange(2), number + rng.randrange(2)
    return place.spans[max(0, first)][0], place.spans[min(len(place.spans) - 1, last)][1]


def trained(places_: Sequence[Place], rng: random.Random, *, whole: float, origin: str) -> Iterator[Claim]:
    """About three claims a place: said, changed, and not said.

    A changed sentence stands in the claim or in the evidence by chance, and at times in both (then it is supported), so
    that nothing in a claim alone gives its label away.
    """
    for number, place in enumerate(places_):
        start, end = window(place, rng, whole)
        before, after = place.passage[start : place.start], place.passage[place.end : end]
        sentence = place.sentence
        yield Claim(_said(sentence, rng), before + sentence + after, "supported", "said", sentence, origin)
        for change in _changes(place, rng, 2):
            yield _changed_claim(sentence, change, (before, after), rng, origin)
        other = places_[rng.randrange(len(places_))]
        evidence = _elsewhere(place, other, rng, whole)
        if evidence and number % 3 < 2:
            yield Claim(_said(sentence, rng), evidence, "unsaid", "elsewhere", sentence, origin)


def _said(sentence: str, rng: random.Random) -> str:
    """As it stands, or in other words."""
    return (rewritten(sentence, rng) if rng.random() < 0.7 else None) or sentence


def _changes(place: Place, rng: random.Random, most: int) -> list[Change]:
    kinds = list(MAKERS)
    rng.shuffle(kinds)
    found = (MAKERS[kind](place.sentence, place.pool, rng) for kind in kinds)
    return [change for change in found if change][:most]


def _changed_claim(sentence: str, change: Change, around: tuple[str, str], rng: random.Random, origin: str) -> Claim:
    before, after = around
    turn = rng.random()
    if turn < 0.6:
        return Claim(
            _said(change.text, rng), before + sentence + after, "contradicted", change.kind, change.text, origin
        )
    if turn < 0.75:
        return Claim(_said(sentence, rng), before + change.text + after, "contradicted", change.kind, sentence, origin)
    text = _said(change.text, rng)
    return Claim(text, before + change.text + after, "supported", f"both-{change.kind}", change.text, origin)


def _elsewhere(place: Place, other: Place, rng: random.Random, whole: float) -> str | None:
    """Evidence that does not hold the sentence: the rest of its own passage, or a foreign one."""
    if rng.random() < 0.65:
        rest = [span for span in place.spans if span != (place.start, place.end)]
        if not rest:
            return None
        if rng.random() < whole:
            return " ".join(place.passage[slice(*span)] for span in rest)
        number = rng.randrange(len(rest))
        return " ".join(place.passage[slice(*span)] for span in rest[number : number + 1 + rng.randrange(2)])
    if other.passage == place.passage:
        return None
    start, end = window(other, rng, whole)
    return other.passage[start:end]


def asked(questions: Sequence[Question], rng: random.Random, *, whole: float, wrong: bool = True) -> Iterator[Claim]:
    """Claims out of questions and answers: the right answer, another name or number of the passage, an unanswerable."""
    for question in questions:
        answers = [question.passage[slice(*span)] for span in question.spans]
        if answers:
            yield from _answered(question, answers, rng, whole, wrong)
        elif not question.answerable:
            spot = _candidates(question.passage, "who", rng)
            claim = declared(question.text, spot[0]) if spot else None
            if claim:
                yield Claim(claim, question.passage, "unsaid", "unanswerable", claim, question.origin)


def _answered(q: Question, answers: list[str], rng: random.Random, whole: float, wrong: bool) -> Iterator[Claim]:
    claim = declared(q.text, answers[0])
    place = next((p for p in places([(q.title, q.passage)]) if p.start <= q.spans[0][0] < p.end), None)
    if not claim or place is None:
        return
    start, end = window(place, rng, whole)
    yield Claim(claim, q.passage[start:end], "supported", "abstractive", place.sentence, q.origin)
    others = [
        spot for spot in _candidates(q.passage, answers[0], rng) if spot not in claim and not _near(spot, answers)
    ]
    if wrong and others:
        false = declared(q.text, others[0])
        if false:
            yield Claim(false, q.passage[start:end], "contradicted", "abstractive-wrong", place.sentence, q.origin)


def _near(spot: str, answers: Sequence[str]) -> bool:
    return any(spot.lower() in answer.lower() or answer.lower() in spot.lower() for answer in answers)


def _candidates(passage: str, like: str, rng: random.Random) -> list[str]:
    """Stretches of the passage that could be answers like this one: numbers for numbers, names for the rest."""
    numeric = like[:1].isdigit()
    found = [w.strip(".,;()") for w in passage.split() if w[:1].isdigit()] if numeric else []
    found = found or [passage[slice(*span)] for span in names(passage)]
    found = list(dict.fromkeys(found))
    rng.shuffle(found)
    return found


def labelled(questions: Sequence[Question], *, seed: int, most: int = 260) -> list[Claim]:
    """The set that verifiers are judged on: the same questions and seed give the same claims. Evidence is the passage.

    Kinds: verbatim, paraphrase (rules), abstractive (question and answer as a sentence) are supported; number, date,
    entity, negation, roles and abstractive-wrong contradicted; foreign and neighbour unsaid.
    """
    rng = random.Random(seed)
    rows = list(dict.fromkeys((question.title, question.passage) for question in questions))
    found = places(rows)
    rng.shuffle(found)
    claims: dict[str, list[Claim]] = {}
    for place in found:
        for claim in _every_kind(place, found, rows, rng):
            claims.setdefault(claim.kind, []).append(claim)
    for claim in asked([q for q in questions if q.spans], rng, whole=1.0):
        claims.setdefault(claim.kind, []).append(claim)
    kept: list[Claim] = []
    for kind in sorted(claims):
        distinct = list({(claim.text, claim.evidence): claim for claim in claims[kind]}.values())
        rng.shuffle(distinct)
        kept += distinct[:most]
    return kept


def _every_kind(place: Place, found: list[Place], rows: list[tuple[str, str]], rng: random.Random) -> Iterator[Claim]:
    sentence, passage = place.sentence, place.passage

    def claim(text: str, kind: str, label: Label, evidence: str = passage) -> Claim:
        return Claim(text, evidence, label, kind, sentence, "squad-val")

    yield claim(sentence, "verbatim", "supported")
    other_words = rewritten(sentence, rng)
    if other_words:
        yield claim(other_words, "paraphrase", "supported")
    for kind in ("number", "date", "entity", "negation", "roles"):
        change = MAKERS[kind](sentence, place.pool, rng)
        if change:
            yield claim(change.text, kind, "contradicted")
    title = next(title for title, text in rows if text == passage)
    foreign = [text for other, text in rows if other != title]
    near = [text for other, text in rows if other == title and text != passage]
    if foreign:
        yield claim(sentence, "foreign", "unsaid", rng.choice(foreign))
    if near:
        yield claim(sentence, "neighbour", "unsaid", rng.choice(near))
