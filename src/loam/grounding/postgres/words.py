"""Words as Postgres keeps them, and a ranking by them.

Knows tsvector and tsquery, which are given Loam's own words and stems: no dictionary of the server is asked, so every
server cuts alike. `ts_rank` alone is no ranking of searches, for it does not know which words are rare. Here every word
of a question is ranked by itself, much as BM25 does it: its `ts_rank`, which the passage's length divides, is measured
by that of a word that stands once in a usual passage, saturates, and is weighed by the word's rarity. Scores are shares
of what a passage could have at most, as those of the embedded index are.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import log

from msgspec import Struct
from psycopg import sql

from loam.grounding.postgres.catalogue import condition
from loam.grounding.postgres.tables import Connection, words_of
from loam.grounding.store import Hit, Scope
from loam.grounding.terms import match_terms, searchable, stem

_MOST_ROWS = 6000
"""Passages that the words of a question may match before the commonest are left to a wider search, if one is needed."""
_WEIGHTS = [0.33, 0.33, 0.33, 1.0]  # D, C, B, A: body, title, unused, section; as in the embedded index
_BY_LENGTH = 1  # ts_rank divides by 1 + log(length)
_ONCE = 0.022
"""`ts_rank` of a word that stands once in a usual passage, chosen so that scores lie where the embedded index's do."""
_K1 = 1.2  # of BM25


def kept(title: str, section: str, text: str) -> str:
    """A passage's words as a tsvector is written: heading words count as A, the title's as C, the others as D."""
    places: dict[str, list[str]] = {}
    place = 0
    for part, weight in ((title, "C"), (section, "A"), (text, "")):
        for word in searchable(part).split():
            place += 1
            if place < 16_383:  # what lies further in, a tsvector cannot tell apart
                places.setdefault(stem(word), []).append(f"{place}{weight}")
        place += 1  # no phrase reaches from one part into the next
    return " ".join(f"'{word}':{','.join(found[:255])}" for word, found in places.items())


def asked(question: str) -> list[str]:
    """The question's terms, each a tsquery of its own; a pair of letters of an unspaced script is a phrase."""
    phrases = ([stem(word) for word in term.strip('"').split()] for term in match_terms(question))
    return list(dict.fromkeys(" <-> ".join(f"'{word}'" for word in phrase) for phrase in phrases))


async def search(
    connection: Connection, collection: int, question: str, *, passages: int, scope: Scope, limit: int
) -> list[Hit]:
    """The passages in scope that match best, each fold once; fewer than `limit` only where no more match."""
    terms = asked(question)
    if not terms:
        return []
    counts = await _counts(connection, collection, terms)
    there = sorted((term for term in counts if counts[term]), key=lambda term: counts[term])
    hits: list[Hit] = []
    for size in range(_bounded([counts[term] for term in there]), len(there) + 1):  # a term more where too few match
        chosen = _Chosen(there[:size], counts, passages)
        hits = await _best(connection, collection, chosen, scope=scope, limit=limit)
        if len(hits) >= limit:
            break
    return hits


class _Chosen(Struct, frozen=True):
    """Terms to search for, and how many passages match each term of the question, of all `passages`."""

    terms: list[str]
    counts: dict[str, int]
    passages: int

    def shares(self) -> list[float]:
        """What each term counts, of all that the terms and those that match nothing could count."""
        rarity = {term: log(1 + (self.passages - count + 0.5) / (count + 0.5)) for term, count in self.counts.items()}
        most = sum(rarity[term] for term in self.counts if term in self.terms or not self.counts[term])
        return [rarity[term] / most for term in self.terms]


async def _best(connection: Connection, collection: int, chosen: _Chosen, *, scope: Scope, limit: int) -> list[Hit]:
    wanted, shares = limit, chosen.shares()
    while True:
        hits = await _ranked(connection, collection, chosen.terms, shares, scope=scope, limit=wanted)
        unfolded = {hit.fold: hit for hit in reversed(hits)}
        if len(unfolded) >= limit or len(hits) < wanted:
            return sorted(unfolded.values(), key=lambda hit: (-hit.score, hit.id))[:limit]
        wanted *= 4


async def _counts(connection: Connection, collection: int, terms: Sequence[str]) -> dict[str, int]:
    """How many passages each term matches, counted no further than needed."""
    cursor = await connection.execute(
        sql.SQL(
            """SELECT (SELECT count(*) FROM (SELECT 1 FROM {} WHERE words @@ term LIMIT %s) AS found)
                 FROM unnest(%s::text[]::tsquery[]) WITH ORDINALITY AS asked (term, place) ORDER BY place"""
        ).format(words_of(collection)),
        (_MOST_ROWS + 1, list(terms)),
    )
    return {term: row[0] for term, row in zip(terms, await cursor.fetchall(), strict=True)}


def _bounded(counts: Sequence[int]) -> int:
    """How many of the rarest terms together match few enough passages, but one at least where there is one."""
    return max(1, sum(matches <= _MOST_ROWS for matches in accumulate(counts)))


async def _ranked(
    connection: Connection, collection: int, terms: Sequence[str], shares: Sequence[float], *, scope: Scope, limit: int
) -> list[Hit]:
    within = await condition(connection, collection, scope)
    cursor = await connection.execute(
        sql.SQL(
            """SELECT passages.id, fold, (
                      SELECT sum(share * rank / (rank + %s))
                        FROM unnest(%s::text[]::tsquery[], %s::float8[]) AS asked (term, share),
                             LATERAL (SELECT ts_rank(%s::real[], words, term, %s)) AS met (rank)) AS score
                 FROM {} JOIN passages ON passages.id = passage JOIN documents ON number = document
                WHERE words @@ %s::tsquery {} ORDER BY score DESC, passages.id LIMIT %s"""
        ).format(words_of(collection), sql.SQL(within.sql)),
        (
            *(_K1 * _ONCE, list(terms), list(shares), _WEIGHTS, _BY_LENGTH),
            *(" | ".join(terms), *within.parameters, limit),
        ),
    )
    return [Hit(*row) for row in await cursor.fetchall()]
