"""The tables of a documents database, and how its passages are numbered.

Knows SQL's shape of things; what is put in them, `changes` knows.
Invariants: a passage's number is never given twice, and says its collection, so that all that belongs to a collection
lies together; a document's passages follow each other in number as they do in its text.
"""

from loam.storage.migrations import Migration

MIGRATIONS = (
    Migration(
        "documents-001-collections",
        """
        CREATE TABLE collections (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            revision TEXT NOT NULL
        ) STRICT;
        CREATE TABLE documents (
            id TEXT PRIMARY KEY,
            collection INTEGER NOT NULL REFERENCES collections (id),
            source TEXT NOT NULL,
            path TEXT NOT NULL,
            title TEXT NOT NULL,
            text TEXT NOT NULL,
            revision TEXT NOT NULL,
            content_hash TEXT NOT NULL,
            UNIQUE (collection, source, path)
        ) STRICT;
        CREATE TABLE passages (
            id INTEGER PRIMARY KEY,
            document TEXT NOT NULL REFERENCES documents (id),
            section TEXT NOT NULL,
            start INTEGER NOT NULL,
            end INTEGER NOT NULL,
            text TEXT NOT NULL
        ) STRICT;
        CREATE INDEX passages_of_a_document ON passages (document, start);
        CREATE VIRTUAL TABLE passage_words USING fts5 (
            collection, title, section, body, content = '', tokenize = 'porter unicode61'
        );
        """,
    ),
    Migration(
        "documents-002-meaning",
        """
        CREATE TABLE collections_2 (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            revision TEXT NOT NULL,
            stamp TEXT NOT NULL DEFAULT '',
            encoder TEXT NOT NULL DEFAULT '',
            words TEXT NOT NULL DEFAULT '',
            last_passage INTEGER NOT NULL DEFAULT 0,
            passages INTEGER NOT NULL DEFAULT 0,
            embedded INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE documents_2 (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            collection INTEGER NOT NULL REFERENCES collections_2 (id),
            source TEXT NOT NULL,
            path TEXT NOT NULL,
            url TEXT NOT NULL DEFAULT '',
            title TEXT NOT NULL,
            revision TEXT NOT NULL,
            characters INTEGER NOT NULL,
            pages TEXT NOT NULL DEFAULT '[]',
            metadata TEXT NOT NULL DEFAULT '{}',
            access TEXT NOT NULL DEFAULT '[]',
            content_hash TEXT NOT NULL,
            stamp TEXT NOT NULL DEFAULT '',
            UNIQUE (collection, source, path)
        ) STRICT;
        CREATE TABLE texts (
            document INTEGER PRIMARY KEY REFERENCES documents_2 (number),
            text TEXT NOT NULL
        ) STRICT;
        CREATE TABLE passages_2 (
            id INTEGER PRIMARY KEY,
            collection INTEGER NOT NULL REFERENCES collections_2 (id),
            document INTEGER NOT NULL REFERENCES documents_2 (number),
            fold INTEGER NOT NULL,
            page INTEGER,
            start INTEGER NOT NULL,
            end INTEGER NOT NULL,
            digest TEXT NOT NULL DEFAULT '',
            sameness TEXT NOT NULL DEFAULT '',
            mark INTEGER,
            second_mark INTEGER,
            section TEXT NOT NULL,
            text TEXT NOT NULL
        ) STRICT;
        INSERT INTO collections_2 (id, name, revision, last_passage)
            SELECT id, name, revision, (SELECT coalesce(max(id), 0) FROM passages) FROM collections;
        INSERT INTO documents_2 (id, collection, source, path, title, revision, characters, content_hash)
            SELECT id, collection, source, path, title, revision, length(text), content_hash
              FROM documents ORDER BY rowid;
        INSERT INTO texts SELECT number, text FROM documents_2 JOIN documents USING (id);
        INSERT INTO passages_2 (id, collection, document, fold, start, end, section, text)
            SELECT (collection << 40) + passages.id, collection, number, (collection << 40) + passages.id,
                   start, end, section, text
              FROM passages JOIN documents_2 ON documents_2.id = passages.document;
        UPDATE collections_2
           SET passages = (SELECT count(*) FROM passages_2 WHERE passages_2.collection = collections_2.id);
        DROP TABLE passage_words;
        DROP TABLE passages;
        DROP TABLE documents;
        DROP TABLE collections;
        ALTER TABLE collections_2 RENAME TO collections;
        ALTER TABLE documents_2 RENAME TO documents;
        ALTER TABLE passages_2 RENAME TO passages;
        CREATE INDEX restricted_documents ON documents (collection) WHERE access <> '[]';
        CREATE INDEX passages_of_a_document ON passages (document);
        CREATE INDEX passages_of_a_collection ON passages (collection, document, fold);
        CREATE INDEX passages_by_digest ON passages (digest);
        CREATE INDEX passages_by_sameness ON passages (collection, sameness);
        CREATE INDEX passages_by_mark ON passages (collection, mark) WHERE mark IS NOT NULL;
        CREATE INDEX passages_by_second_mark ON passages (collection, second_mark) WHERE second_mark IS NOT NULL;
        CREATE TABLE vectors (
            passage INTEGER PRIMARY KEY,
            vector BLOB NOT NULL
        ) STRICT;
        CREATE TABLE staged (
            digest TEXT NOT NULL,
            encoder TEXT NOT NULL,
            vector BLOB NOT NULL,
            day INTEGER NOT NULL DEFAULT (CAST(julianday('now') AS INTEGER)),
            PRIMARY KEY (digest, encoder)
        ) STRICT;
        CREATE TABLE arrived (
            hash TEXT PRIMARY KEY,
            data BLOB NOT NULL,
            day INTEGER NOT NULL DEFAULT (CAST(julianday('now') AS INTEGER))
        ) STRICT;
        """,
    ),
)

_ROOM = 40
"""Bits for the passages of one collection."""


def first_passage(collection: int) -> int:
    """The number before the first passage that a collection can have."""
    return collection << _ROOM


def last_passage(collection: int) -> int:
    """The number of the last passage that a collection can have."""
    return (collection + 1 << _ROOM) - 1
