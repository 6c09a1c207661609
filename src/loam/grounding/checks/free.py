"""Which sentences state nothing that a document has to support: greetings, questions back, "Here is what I found:".

Pure, English. Invariant: a sentence that holds a value, a name, or a telling word which neither the question nor plain
courtesy has, states something.
"""

import re

from loam.grounding.checks.coverage import items
from loam.grounding.checks.names import foreign
from loam.grounding.checks.numbers import Value
from loam.grounding.checks.tokens import LEXICON, telling
from loam.grounding.terms import stem

_PLAIN = frozenset(stem(word) for word in LEXICON.courtesy.split())
_OPENING = re.compile(rf"\W*(?:{'|'.join(LEXICON.opening)})\b", re.IGNORECASE)
_ABSENT = re.compile(rf"\b(?:{'|'.join(LEXICON.absent)})\b", re.IGNORECASE)


def states_nothing(sentence: str, question: str) -> bool:
    """Whether a sentence needs no support. It may repeat the question's words only where it asserts nothing of them."""
    if any(isinstance(item, Value) for item in items(sentence)):
        return False
    said = sentence.rstrip("\"'”’)*_ \n")
    asserts_nothing = said.endswith("?") or declines(sentence) or (said.endswith(":") and _OPENING.match(sentence))
    allowed = _PLAIN | frozenset(telling(question)) if asserts_nothing else _PLAIN
    if foreign(sentence, question if asserts_nothing else "") or not all(word in allowed for word in telling(sentence)):
        return False
    return bool(asserts_nothing or _OPENING.match(sentence))


def declines(sentence: str) -> bool:
    """Whether a sentence says that the documents do not answer."""
    return _ABSENT.search(sentence) is not None
