"""Ways to say a sentence differently without saying anything else: shorter, other words, other order.

Pure; chance comes in as a `random.Random`. Rules only, so the result is at times clumsy, rarely wrong.
Invariant: a rewriting adds no number, name or denial that the sentence does not have.
"""

import random
import re
from collections.abc import Callable

from recipes.heads.words import SYNONYMS, names

Rewriter = Callable[[str, random.Random], str | None]

_ASIDE = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])")
_TAIL = re.compile(
    r",\s+(?:which|who|where|whose|although|though|while|whereas|including|such as|but)\s[^,]*?(?=[.!?]?$)"
)
_MIDDLE = re.compile(
    r",\s+(?:which|who|whose|where|including|such as|known|born|also)\s[^,]{5,80},\s+"
    r"(?=\w+(?:ed|s)\b|was|is|were|are|had)"
)
_SECOND = re.compile(r",?\s+(?:and|but)\s+(?=(?:he|she|it|they|the|was|were|is|are|has|had)\b)[^,]*?(?=[.!?]?$)")
_OPENING = re.compile(
    r"^((?:In|On|By|During|After|Since|Until|From|At|Before|Throughout)\s[^,]{3,50}),\s+(.*?)([.!?]?)$"
)
_ADVERB = re.compile(
    r"\b(?:also|however|moreover|furthermore|therefore|thus|indeed|in fact|for example|for instance|additionally),?\s+|"
    r",\s+(?:however|therefore|for example|in turn|as well|too)(?=,|\.)|"
    r"^(?:However|Moreover|Furthermore|Therefore|Thus|Also|"
    r"Additionally|Meanwhile|Nevertheless|As a result|In addition|For example|For instance),\s+",
)
_NUMERALS = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_DIGITS = {digit: word for word, digit in _NUMERALS.items()}
_PASSIVE = re.compile(
    r"^(.{3,60}?) (was|were) (\w+ed|written|built|led|won|made) by ((?:the )?[A-Z][\w.' -]{2,40}?)([.!?]?)$"
)


def shortened(sentence: str, _rng: random.Random) -> str | None:
    """Without brackets and without a trailing or inserted clause."""
    text = _ASIDE.sub("", sentence)
    for clause in (_MIDDLE, _TAIL, _SECOND):
        text = clause.sub(" " if clause is _MIDDLE else "", text, count=1)
    return text if text != sentence and len(text.split()) >= 5 else None


def reordered(sentence: str, _rng: random.Random) -> str | None:
    """The opening phrase moved to the end."""
    found = _OPENING.match(sentence)
    if not found:
        return None
    opening, rest, stop = found.groups()
    return f"{_upper(rest)} {opening[0].lower()}{opening[1:]}{stop}"


def other_words(sentence: str, rng: random.Random) -> str | None:
    """Some words replaced by others that mean the same."""
    chance = rng.choice((0.5, 0.8, 1.0))

    def other(word: re.Match[str]) -> str:
        plain = word.group()
        if plain in SYNONYMS and rng.random() < chance:
            return SYNONYMS[plain]
        return plain

    text = re.sub(r"\b[a-z-]{3,}\b", other, sentence)
    return text if text != sentence else None


def other_forms(sentence: str, _rng: random.Random) -> str | None:
    """Numbers, percent and denials written the other way."""
    text = (
        re.sub(r"(?<=\d)%", " percent", sentence) if "%" in sentence else re.sub(r"(?<=\d) per ?cent\b", "%", sentence)
    )
    text = re.sub(r"(?<![\d,.])(\d{1,3}),(\d{3})(?![\d,])", r"\1\2", text)
    text = re.sub(r"\b(is|are|was|were|has|have|had|does|do|did|could|would|should) not\b", r"\1n't", text)
    text = re.sub(r"\bcannot\b", "can't", text) if "cannot" in text else text.replace("can't", "cannot")
    text = re.sub(
        r"(?<![\d.,$£€-])\b([2-9]|10)\b(?![\d.,%/:-]\d|[%-]|th|nd|rd)", lambda digit: _DIGITS[digit.group()], text
    )
    if text == sentence:
        text = re.sub(rf"\b({'|'.join(_NUMERALS)})\b", lambda word: _NUMERALS[word.group()], text, count=1)
    return text if text != sentence else None


def trimmed(sentence: str, _rng: random.Random) -> str | None:
    """Without the adverbs that only link it to its neighbours."""
    text = _ADVERB.sub("", sentence).strip()
    return _upper(text) if text != sentence and len(text.split()) >= 4 else None


def active(sentence: str, _rng: random.Random) -> str | None:
    """'X was built by Y' as 'Y built X'."""
    found = _PASSIVE.match(sentence)
    if not found or found.group(3) == "written":
        return None
    thing, _be, verb, doer, stop = found.groups()
    lowered = (
        thing if names("a " + thing) and not thing.startswith(("The ", "A ", "It ")) else thing[0].lower() + thing[1:]
    )
    return None if lowered.startswith(("it", "he", "they")) else f"{_upper(doer)} {verb} {lowered}{stop}"


def reported(sentence: str, rng: random.Random) -> str | None:
    """The sentence as somebody would retell it."""
    lead = rng.choice(
        ("According to the text, ", "It is said that ", "The passage says that ", "As stated, ", "In short, ")
    )
    first = sentence.split(" ", 1)[0]
    plain = first in (
        "The",
        "A",
        "An",
        "In",
        "It",
        "He",
        "She",
        "They",
        "This",
        "These",
        "There",
        "On",
        "By",
        "At",
        "As",
    )
    return lead + (sentence[0].lower() + sentence[1:] if plain else sentence)


REWRITERS: dict[str, Rewriter] = {
    "shortened": shortened,
    "reordered": reordered,
    "other_words": other_words,
    "other_forms": other_forms,
    "trimmed": trimmed,
    "active": active,
}


def rewritten(sentence: str, rng: random.Random, *, most: int = 3) -> str | None:
    """The sentence after up to `most` rewritings that apply to it; None where none does."""
    makers = list(REWRITERS.values())
    rng.shuffle(makers)
    text, done = sentence, 0
    for maker in makers:
        found = maker(text, rng) if done < most else None
        if found:
            text, done = found, done + 1
    if done and rng.random() < 0.1:
        text = reported(text, rng) or text
    return text if done else None


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
