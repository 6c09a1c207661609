"""The words of a collection, in a full-text table of its own: put in, taken out, searched.

Knows FTS5. A collection has its own table so that neither the time of a search nor its ranking depends on what other
collections hold. A passage's score is its BM25 as a share of what a passage could have at most for the same words: it
says how far the question was met, and can stand beside a cosine. Invariant: what is taken out of a table is exactly
what was put in, because a contentless table forgets a row only when told its words; `VERSION` changes whenever
`searchable` does, and tables are then filled anew.
"""

import sqlite3
from collections.abc import Iterator
from itertools import accumulate
from math import log

from msgspec import Struct

from loam.grounding.scopes import condition
from loam.grounding.store import Hit, Scope
from loam.grounding.terms import match_terms, searchable

VERSION = "1"
_WEIGHTS = "1.0, 3.0, 1.0"  # title, section, body: measured by bench/reader.py
_SATURATION = 2.2  # what a term's count adds at most, times its rarity: k1 + 1
_MOST_ROWS = 6000
"""Passages that the words of a question may match before the commonest are left to a wider search, if one is needed."""


class Worded(Struct, frozen=True):
    """A passage as its words are kept."""

    id: int
    title: str
    section: str
    text: str


def create(connection: sqlite3.Connection, collection: int) -> None:
    """Makes the collection's table, empty."""
    connection.execute(
        f"""CREATE VIRTUAL TABLE words_{collection:d} USING fts5 (
                title, section, body, content = '', tokenize = 'porter unicode61')"""
    )


def drop(connection: sqlite3.Connection, collection: int) -> None:
    """Drops the collection's table, where there is one."""
    connection.execute(f"DROP TABLE IF EXISTS words_{collection:d}")


def put(connection: sqlite3.Connection, collection: int, passage: Worded) -> None:
    connection.execute(
        f"INSERT INTO words_{collection:d} (rowid, title, section, body) VALUES (?, ?, ?, ?)",  # noqa: S608 - a number
        (passage.id, *_words(passage)),
    )


def take(connection: sqlite3.Connection, collection: int, passage: Worded) -> None:
    table = f"words_{collection:d}"
    connection.execute(
        f"INSERT INTO {table} ({table}, rowid, title, section, body) VALUES ('delete', ?, ?, ?, ?)",  # noqa: S608 - same
        (passage.id, *_words(passage)),
    )


def search(
    connection: sqlite3.Connection, collection: int, question: str, *, passages: int, scope: Scope, limit: int
) -> list[Hit]:
    """The passages in scope that match best, each fold once; fewer than `limit` only where no more match."""
    hits: list[Hit] = []
    for query in _queries(connection, collection, match_terms(question)):
        hits = _best(connection, collection, query, passages=passages, scope=scope, limit=limit)
        if len(hits) >= limit:
            break
    return hits


def _best(
    connection: sqlite3.Connection, collection: int, query: "_Query", *, passages: int, scope: Scope, limit: int
) -> list[Hit]:
    most = query.most(passages)
    wanted = limit
    while True:
        hits = _ranked(connection, collection, query.text, scope=scope, limit=wanted)
        unfolded = {hit.fold: Hit(hit.id, hit.fold, min(1.0, hit.score / most)) for hit in reversed(hits)}
        if len(unfolded) >= limit or len(hits) < wanted:
            return sorted(unfolded.values(), key=lambda hit: (-hit.score, hit.id))[:limit]
        wanted *= 4


class _Query(Struct, frozen=True):
    """A question as FTS5 reads it, and how many passages match each of its terms, those that none matches too."""

    text: str
    counts: tuple[int, ...]

    def most(self, passages: int) -> float:
        """What BM25 comes to as every term is met ever more often, as FTS5 weighs terms, of all `passages`."""
        return sum(_SATURATION * max(1e-6, log((passages - count + 0.5) / (count + 0.5))) for count in self.counts)


def _ranked(connection: sqlite3.Connection, collection: int, query: str, *, scope: Scope, limit: int) -> list[Hit]:
    table = f"words_{collection:d}"
    within = condition(connection, collection, scope)
    found = f"SELECT {table}.rowid AS id, bm25({table}, {_WEIGHTS}) AS score FROM {table}"  # noqa: S608 - a number
    if within:
        found += f"""
            CROSS JOIN passages ON passages.id = {table}.rowid CROSS JOIN documents ON number = document
            WHERE {table} MATCH ? {within.sql} ORDER BY score LIMIT ?"""
    else:
        found += f" WHERE {table} MATCH ? ORDER BY score LIMIT ?"
    rows = connection.execute(
        f"SELECT found.id, fold, -score FROM ({found}) AS found CROSS JOIN passages USING (id) ORDER BY score, id",  # noqa: S608 - a number and conditions without values
        (query, *within.parameters, limit),
    )
    return [Hit(*row) for row in rows]


def _queries(connection: sqlite3.Connection, collection: int, terms: list[str]) -> Iterator[_Query]:
    """What to search for, from the least work to the most; each finds all that the one before found.

    First the rarest terms, as many as together match few enough passages. Then those, or what has all of the common
    ones; then without the commonest of them, and so on; at last any term. Ranking costs a microsecond or two a match,
    and what nearly every passage has tells none of them apart.
    """
    counts = {term: _count(connection, collection, term) for term in terms}
    there = sorted((term for term in terms if counts[term]), key=lambda term: counts[term])
    sums = accumulate(counts[term] for term in there)
    rare = [term for term, matches in zip(there, sums, strict=True) if matches <= _MOST_ROWS]
    common, missing = there[len(rare) :], (0,) * (len(terms) - len(there))
    if rare:
        yield _Query(" OR ".join(rare), (*missing, *(counts[term] for term in rare)))
    for size in range(len(common), 0, -1):
        text = " OR ".join([*rare, f"({' AND '.join(common[:size])})"])
        yield _Query(text, (*missing, *(counts[term] for term in [*rare, *common[:size]])))
    if len(common) > 1:
        yield _Query(" OR ".join(there), (*missing, *(counts[term] for term in there)))


def _count(connection: sqlite3.Connection, collection: int, query: str) -> int:
    """How many passages match, counted no further than needed."""
    table = f"words_{collection:d}"
    row = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT ?)",  # noqa: S608 - a number
        (query, _MOST_ROWS + 1),
    ).fetchone()
    return row[0]


def _words(passage: Worded) -> tuple[str, str, str]:
    return searchable(passage.title), searchable(passage.section), searchable(passage.text)
