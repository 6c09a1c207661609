"""Words as search and reading see them: folded, without stop words, cut to a stem, unspaced scripts letter by letter.

Pure. Invariant: `searchable` and `match_query` agree: a word of a text is found by the same word in a question, and no
question, whatever it holds, is more than a list of words to the full-text engine.
"""

import re
import unicodedata
from itertools import pairwise

_STOP = """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can cannot could d did do does doing don down during each else ever few for from further get gets give given go
    goes going got had has have having he her here hers him his how i if in into is it its itself just ll m many may me
    might more most much must my need needs no nor not now of off on once only or other our ours out over own please re
    s same shall she should so some such t tell than that the their theirs them then there these they this those
    through to too under until up upon us use used ve very want was we were what when where whether which while who
    whom whose why will with within without would you your yours
"""
STOP_WORDS = frozenset(_STOP.split())
"""Words that carry no meaning of their own in a question."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no space between words."""

_SPACED = rf"(?:[^\W_{_UNSPACED}]|[\u0900-\u0963\u0966-\u0dff])+"  # Indic vowel signs are no letters to `re`
_WORD = re.compile(rf"[{_UNSPACED}]|{_SPACED}")
_RUN = re.compile(rf"[{_UNSPACED}]+|{_SPACED}")
_LETTER = re.compile(rf"[{_UNSPACED}]")
_MOST_TERMS = 48


def words(text: str) -> list[str]:
    """Every word in order, folded to lower case without accents: `words("Café, don't!") == ["cafe", "don", "t"]`."""
    return _WORD.findall(_folded(text))


def terms(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order; of all words where none does."""
    found = words(text)
    return [stem(word) for word in found if word not in STOP_WORDS] or [stem(word) for word in found]


def searchable(text: str) -> str:
    """The text as the full-text index takes it: its words, each letter of the unspaced scripts a word."""
    return " ".join(words(text))


def pairs_met(question: str, text: str) -> float:
    """The share of the question's pairs of neighbouring words that the text has, as they stand."""
    asked = set(pairwise(words(question)[:_MOST_TERMS]))
    there = f" {searchable(text)} "
    return sum(f" {first} {second} " in there for first, second in asked) / len(asked) if asked else 0.0


def match_query(question: str) -> str:
    """An FTS5 expression that matches any meaningful word; empty where the question has no word at all."""
    return " OR ".join(match_terms(question))


def match_terms(question: str) -> list[str]:
    """The terms of `match_query`, each an FTS5 expression of its own.

    Every word stands in quotes, so nothing in the question is ever read as query syntax. Of unspaced scripts each pair
    of neighbours is a phrase: one letter alone says too little.
    """
    runs = _RUN.findall(_folded(question))
    kept = [run for run in runs if run not in STOP_WORDS] or runs
    phrases = dict.fromkeys(phrase for run in kept for phrase in _phrases(run))
    return [f'"{phrase}"' for phrase in list(phrases)[:_MOST_TERMS]]


def _phrases(run: str) -> list[str]:
    if len(run) < 2 or not _LETTER.match(run):
        return [run]
    return [f"{first} {second}" for first, second in pairwise(run)]


def stem(word: str) -> str:
    """Cuts English endings so that "reimbursed", "reimbursing" and "reimbursement" meet; not a dictionary form.

    What holds a digit is a name of its own: "form11" is not "form1".
    """
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith(_ENDINGS):
        ending = next((ending for ending in _ENDINGS if word.endswith(ending)), "")
        word = word[: -len(ending)] if len(word) - len(ending) >= 3 else word
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] in "ey" else word


_ENDINGS = ("ization", "isation", "ement", "ation", "ment", "ness", "ally", "ing", "al", "ion", "ed", "ly", "er", "or")


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
