"""Names in a sentence: people, places, products, acronyms, addresses, and whether the evidence knows them.

Pure. Goes by the shape of words: capitals within a sentence, acronyms, letters mixed with digits, addresses.
Invariant: a name that the evidence does not hold, in full or as its initials, is foreign.
"""

import re
from collections import Counter
from collections.abc import Iterator

from loam.grounding.terms import STOP_WORDS, stem, words

_ADDRESS = re.compile(r"https?://\S+|\S+@[\w-]+\.[\w.-]+|\b[\w-]+(?:\.[\w-]+)+(?:/\S*)?|(?<![^\s(])[#@/~][\w][\w/.-]+")
_WORD = re.compile(r"[^\W_]+(?:[-&'’][^\W_]+)*")
_OPENS = re.compile(r"(?:^|[.!?:;•|>\n]|^\W*(?:yes|no|so|and|but|also)\W)[\s\"'“‘(\[*_-]*$", re.IGNORECASE)
_TRAIL = ".,;:!?)]}>'\"’”*_"


def names(text: str) -> Iterator[str]:
    """The names of a text as they stand there. `list(names("Ask the GSA about Concur."))` is `["GSA", "Concur"]`."""
    taken = 0
    for address in _ADDRESS.finditer(text):
        yield from _named(text, taken, address.start())
        said = address.group().rstrip(_TRAIL)
        if re.search(r"[^\W\d_]", said):
            yield said
        taken = address.end()
    yield from _named(text, taken, len(text))


def foreign(claim: str, evidence: str) -> list[str]:
    """The names of the claim that the evidence does not hold."""
    known = frozenset(words(evidence))
    stems = frozenset(map(stem, known))
    folded = " ".join(words(evidence))
    initials = _initials(evidence)
    there, said = Counter(words(evidence)), Counter(words(claim))
    return [
        name
        for name in names(claim)
        if not _known(name, known, stems, folded, initials)
        or any(0 < there[part] < said[part] for part in words(name))  # named once oftener than it is there
    ]


def _named(text: str, start: int, end: int) -> Iterator[str]:
    for word in _WORD.finditer(text, start, end):
        said = word.group()
        letters = [letter for letter in said if letter.isalpha()]
        if not letters or (said.lower() in STOP_WORDS and not said.isupper()):
            continue
        marked = sum(letter.isupper() for letter in letters) >= 2 or (
            any(c.isdigit() for c in said) and said[0].isalnum()
        )
        capital = (
            said[0].isupper() and len(said) > 1 and not _OPENS.search(text, max(0, word.start() - 16), word.start())
        )
        if marked or capital:
            yield said


def _known(name: str, known: frozenset[str], stems: frozenset[str], folded: str, initials: str) -> bool:
    parts = words(name)
    if not parts or all(part in known or stem(part) in stems for part in parts):
        return len(parts) < 2 or " ".join(parts) in folded or name[:1].isupper()
    if name.isupper() and len(name) > 1:
        return "".join(parts) in initials  # GSA for General Services Administration
    return False


def _initials(text: str) -> str:
    """The first letters of capitalised words that follow each other, runs parted by a space."""
    return "".join(
        word.group()[0].lower()
        if word.group()[0].isupper()
        else (" " if word.group().lower() not in ("of", "and", "the", "for") else "")
        for word in _WORD.finditer(text)
    )
