"""What is taken in: real files until they make enough passages, and longer shelves grown from them.

Knows where the shared data are. Of the 18F handbook and the Rust book each file is one as it came; of Wikipedia each
article is a text file.
"""

import json
import lzma
import random
import tarfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loam.core.errors import DocumentError
from loam.grounding.documents import read_document, supported
from loam.grounding.passages import cut
from loam.grounding.sentences import sentences
from loam.grounding.store import Taken

BOOKS = ("18f-handbook", "rust-book")
_ARTICLES = ("wiki-en-core-00", "wiki-en-core-01", "wiki-en-core-02")
_NOISE = 0.6  # of a grown vector's length, before it is made one again


def write_books(data: Path, folder: Path, books: Sequence[str] = BOOKS) -> None:
    """The files of these books that Loam reads."""
    for book in books:
        with tarfile.open(data / "docs" / f"{book}.tar.gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and supported(member.name) else None
                if file is not None:
                    path = folder / book / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(file.read())


def fill(data: Path, folder: Path, passages: int) -> None:
    """Adds articles until the folder makes so many passages."""
    made = sum(map(passages_of, folder.rglob("*.*")))
    for number, text in enumerate(articles(data)):
        if made >= passages:
            return
        path = folder / "articles" / f"{number // 100:03}" / f"{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        made += passages_of(path)


def passages_of(path: Path) -> int:
    try:
        return sum(1 for _ in cut(read_document(path.name, path.read_bytes())))
    except DocumentError:  # pictures without a word, pages of headings alone
        return 0


def articles(data: Path) -> Iterator[str]:
    for name in _ARTICLES:
        with lzma.open(data / "pretrain" / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            for row in map(json.loads, file):
                yield f"{row['title']}\n\n{row['text']}"


def shelf(data: Path) -> Iterator[Taken]:
    """Articles without end: when they have all come, they come again with their sentences in another order."""
    for around in count():
        dice = random.Random(around)
        for number, text in enumerate(articles(data)):
            name = f"{around}/{number}.txt"
            try:
                document = read_document(name, (_shuffled(text, dice) if around else text).encode())
            except DocumentError:
                continue
            yield Taken(name, document, tuple(cut(document)), content_hash=f"{around}-{number}")


def grown(real: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors near real ones: one of them, turned towards another, with noise on top."""
    dice = np.random.default_rng(seed)
    one, other = real[dice.integers(len(real), size=count)], real[dice.integers(len(real), size=count)]
    noise = dice.standard_normal(one.shape, dtype=np.float32) * np.float32(_NOISE / np.sqrt(real.shape[1]))
    mixed = one + np.float32(0.3) * other + noise
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def _shuffled(text: str, dice: random.Random) -> str:
    said = [text[one.start : one.end] for one in sentences(text)]
    dice.shuffle(said)
    return " ".join(said)
