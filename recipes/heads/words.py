"""Small word tables that the makers of claims share: verbs, synonyms, opposites, calendar, names in a text.

Pure. Knows English only, roughly: a regular verb is guessed from its ending.
"""

import re
import tomllib
from pathlib import Path

_TABLES = {
    name: text.split() for name, text in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items()
}


def _pairs(name: str) -> dict[str, str]:
    """A table of one/other; where a word has several partners the first stays."""
    found: dict[str, str] = {}
    for pair in _TABLES[name]:
        one, other = pair.split("/")
        found.setdefault(one, other)
    return found


MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
BE = ("is", "are", "was", "were")
HAVE = ("has", "have", "had")
MODALS = ("can", "could", "will", "would", "may", "might", "must", "should")
AUXILIARIES = frozenset((*BE, *HAVE, *MODALS, "shall", "does", "do", "did"))

IRREGULAR = _pairs("irregular")
BASES = {past: base for base, past in IRREGULAR.items()}
PARTICIPLES = frozenset(_TABLES["participles"])
VERBS = frozenset(_TABLES["verbs"])
SYNONYMS = _pairs("synonyms")
OPPOSITES = {other: one for one, other in reversed(_pairs("opposites").items())} | _pairs("opposites")

_NO_NAME = frozenset((*_TABLES["no_name"], *MONTHS, *WEEKDAYS))
_WORD = r"(?:[A-Z][\w’]*(?:[.'-](?=\w)\w+)*)"
_NAME = re.compile(rf"(?<![\w.-]){_WORD}(?:(?: of the | of | de | von | van |-| ){_WORD})*")
_LEADER = re.compile(r"^(\w+)(?: of the | of | |$)")


def names(text: str) -> list[tuple[int, int]]:
    """Where the names in a text stand: runs of words in capitals, not months, nor a sentence's first plain word."""
    found: list[tuple[int, int]] = []
    for run in _NAME.finditer(text):
        start, end = run.span()
        while (lead := _LEADER.match(text[start:end])) and lead.group(1) in _NO_NAME:
            start += lead.end()
        first_of_sentence = not text[:start].strip() or text[:start].rstrip()[-1:] in '.!?:\n"'
        alone = " " not in text[start:end] and not text[start:end].isupper()
        if end - start > 2 and not (first_of_sentence and alone):
            found.append((start, end))
    return found


def past(verb: str) -> str:
    """The past form of a base form, guessed where the verb is regular."""
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if verb.endswith("e"):
        return verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", verb):
        return verb + verb[-1] + "ed"
    return verb + "ed"


def base(verb: str) -> str | None:
    """The base form of a past form; None where it does not look like one."""
    if verb in BASES:
        return BASES[verb]
    if verb.endswith("ied"):
        return verb[:-3] + "y"
    if re.search(r"([bdgmnprt])\1ed$", verb):
        return verb[:-3]
    if re.search(r"(?:[^s]s|[cgvuz]|at|it|ut|bl|pl|tl|dl|ir|or|iz|ot|in|as|os)ed$", verb) and not verb.endswith("ined"):
        return verb[:-1]
    return verb[:-2] if verb.endswith("ed") and len(verb) > 4 else None
