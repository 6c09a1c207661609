"""What a prompt requires of its answers, as checks: those that a program can carry out, and the rest for a judge.

Pure. Knows the sentences that state bounds, choices, shapes and wordings. Invariant: every check names its sentence, so
that a reader can say whether it was understood; a sentence with a condition becomes no check that always holds.
"""

import re
from collections.abc import Iterator

from msgspec import structs

from loam.prompting.lint.checks import UNITS, Check
from loam.prompting.lint.sentences import Bound, Sentence, bounds
from loam.prompting.lint.sheet import Sheet, sheet
from loam.prompting.lint.signs import SIGNS

_CONDITION = re.compile(r"\b(?:if|when|where|unless|otherwise|in case|without|for an?)\b", re.IGNORECASE)
_PART = re.compile(r"\b(?:each|every|per|first|second|third|last|heading|title|subject|under|one an?)\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“]([^\"”\n]+)[\"”]")
_CHOICE = re.compile(
    r"\b(?:one of(?: these)?(?: \w+)?:|exactly one \w+:|as|answer|reply|respond with|options:)\s+"
    r"(?P<listed>[\"“]?[\w-]+[\"”]?(?:, [\"“]?[\w -]+?[\"”]?)*,? or [\"“]?[\w-]+[\"”]?)",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"\b(?:answer|reply|respond|return|write|say|output)\b:?\s+(?:with\s+)?[\"“`]?(?P<text>[^\"”`\n.,]{1,60})"
)
_ENDS = re.compile(r"\bend(?:s|ing)?\s+(?:it\s+)?with\b[^\"“]{0,20}[\"“]([^\"”\n]+)[\"”]", re.IGNORECASE)
_STARTS = re.compile(
    r"\b(?:begin|start)(?:s|ning|ing)?\s+(?:it\s+)?with\b[^\"“]{0,20}[\"“]([^\"”\n]+)[\"”]", re.IGNORECASE
)
_LACKS = re.compile(
    r"\b(?:do not|don't|never|without|no)\b[^.]{0,40}?\b(?:words?|phrases?|terms?|say|use|write)\b", re.IGNORECASE
)
_HAS = re.compile(r"\b(?:include|contain|use|mention)s?\s+(?:the\s+)?(?:word|phrase|sentence)s?\b", re.IGNORECASE)
_SIGNS = {"exclamation mark": "!", "question mark": "?", "code fence": "```", "semicolon": ";"}
_RULE = re.compile(
    r"\b(?:must|never|always|do not|don't|should|only|make sure|leave out|keep|copy|quote|name|avoid)\b", re.IGNORECASE
)
_KEYS = re.compile(r"\bkeys?\b")


def requirements(text: str) -> list[Check]:
    """Every requirement of a prompt, in the order of its lines, with ids that count them."""
    read = sheet(text)
    found = [*_shape(read), *(check for sentence in read.sentences for check in _of(sentence, read))]
    found.sort(key=lambda check: check.line)
    return [structs.replace(check, id=f"r{number}") for number, check in enumerate(found, 1)]


def _shape(read: Sheet) -> Iterator[Check]:
    line = next((passage.line for passage in read.told), 1)
    if read.schema is not None:
        yield Check(id="", kind="schema", schema=read.schema, line=line, source="the prompt's schema")
    elif read.json_mode:
        yield Check(id="", kind="json", line=line, source="the call's response_format")


def _of(sentence: Sentence, read: Sheet) -> Iterator[Check]:
    """The checks of one sentence; a rule that none of them carries out is for a judge."""
    text = sentence.text
    found: list[Check] = []
    if not _CONDITION.search(sentence.bare):
        found += [check for check in map(_bounded, bounds([sentence])) if check is not None]
        found += [check for check in (_chosen(sentence, read), _json(sentence, read)) if check is not None]
        found += _worded(sentence)
    if not found and _RULE.search(sentence.bare):
        found = [Check(id="", kind="judge")]
    for check in found:
        yield structs.replace(check, line=sentence.line, source=text)


def _bounded(bound: Bound) -> Check | None:
    if bound.part or bound.unit not in UNITS or _PART.search(bound.sentence.bare):
        return None
    if bound.unit == "word" and bound.way == "exact" and bound.number != 1:
        return None
    return Check(id="", kind=bound.way, unit=bound.unit, number=bound.number)


def _chosen(sentence: Sentence, read: Sheet) -> Check | None:
    """One of some words; what other sentences say to answer instead is allowed too."""
    found = _CHOICE.search(sentence.text)
    if found is None:
        return None
    listed = re.split(r",? or |, ", found["listed"])
    instead = [
        match["text"].strip()
        for other in read.sentences
        if other is not sentence and _CONDITION.search(other.text) and (match := _INSTEAD.search(other.text))
    ]
    words = [one.strip(' "“”`') for one in (*listed, *instead)]
    return Check(id="", kind="choice", texts=tuple(dict.fromkeys(word for word in words if word)))


def _json(sentence: Sentence, read: Sheet) -> Check | None:
    if read.schema is not None or not SIGNS["json_asked"].search(sentence.text):
        return None
    keys = tuple(_QUOTED.findall(sentence.text.split("key", 1)[1])) if _KEYS.search(sentence.text) else ()
    return Check(id="", kind="keys", texts=keys) if keys else Check(id="", kind="json")


def _worded(sentence: Sentence) -> list[Check]:
    text = sentence.text
    found: list[Check] = []
    if match := _ENDS.search(text):
        found.append(Check(id="", kind="ends", texts=(match[1],)))
    if match := _STARTS.search(text):
        found.append(Check(id="", kind="starts", texts=(match[1],)))
    quoted = tuple(_QUOTED.findall(text))
    if quoted and not found and _LACKS.search(text):
        found.append(Check(id="", kind="lacks", texts=quoted))
    elif quoted and not found and _HAS.search(text):
        found.append(Check(id="", kind="contains", texts=quoted))
    barred = tuple(
        sign for name, sign in _SIGNS.items() if re.search(rf"\b(?:no|without an?y?) {name}", text, re.IGNORECASE)
    )
    return [*found, Check(id="", kind="lacks", texts=barred)] if barred else found
