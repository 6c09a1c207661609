"""Rules on what the words say: adjectives that nobody can check, and sentences that cannot both be kept.

Pure. Invariant: what stands in quotes or as code is spoken about and not said, and is never judged.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import combinations, islice

from loam.prompting.lint.finding import Hit
from loam.prompting.lint.sentences import NUMBER, Sentence, bounds
from loam.prompting.lint.settings import LintSettings
from loam.prompting.lint.sheet import Sheet
from loam.prompting.lint.words import WORDS

_PERSONA = re.compile(r"^(?:you are (?!to\b)|you're|act as|imagine you are|as an?\b|role:)[^.]*", re.IGNORECASE)
_HEADING = re.compile(r"^(?:#.*|(?:\S+ ){0,3}\S+:)$")
_FACT = r"^(?:the|a|an|this|that|these|those|our|its)\s+{word}\s+[\w -]+?\s+(?:is|are|was|were|has|have)\b"
_IDIOM = re.compile(r"(?:good (?:wishes|morning|evening|night|day|faith|luck)|better or worse)\b", re.IGNORECASE)
_EXPLAINED = (
    r"[\"“'`]{name}[\"”'`]",
    r"\b(?:is|are|counts? as|call(?:ed)?|considered)\s+(?:only\s+)?{name}\s+(?:if|when|where|only|as long as)\b",
    r"\b{name}\s+means\b",
    r"^\W*{name}\W*[:=–—]",
    r"\b(?:one of|either|labels?|categor\w+|options?|scale|as)\b[^.\n]*[:,]\s*(?:[\w-]+,\s*)*{name}(?:,|\s+or\b)",
)
"""How a prompt says what a word means in it, or that the word is one of its labels; {{name}} is the word."""
_IMPROVES = re.compile(r"\b(?:make|makes|sound|look|be|write|read|do|give|find)\b[^.]*$", re.IGNORECASE)
_RANKED = re.compile(rf"\b{NUMBER} (?:most )?$", re.IGNORECASE)
_SIZES = ("short", "brief", "concise", "long", "detailed", "comprehensive")
_CONDITION = re.compile(r"\b(?:if|when|unless|whenever|in case|where|except|otherwise|depending)\b", re.IGNORECASE)
_ALWAYS = re.compile(
    r"\b(?:always|must|make sure (?:to|that you)|be sure to)\s+(?!not\b|never\b)(?P<deed>[^.;:,]+)", re.IGNORECASE
)
_NEVER = re.compile(
    r"\b(?:never|must not|must never|do not|don't|avoid|under no circumstances)\s+(?P<deed>[^.;:,]+)", re.IGNORECASE
)
_IMPERATIVE = re.compile(r"^(?:[-*•\d.)]+\s*)?(?P<deed>[A-Z][a-z]+\s[^.;:,]+)")
_LANGUAGE = re.compile(
    r"\b(?i:answers?|respond|reply|write|output|speak|communicate)\b[^.]{0,40}?"
    rf"\bin (?P<language>{'|'.join(WORDS.languages)})\b"
)
_THEIRS = re.compile(
    r"\b(?:answers?|respond|reply|write|output|speak)\b[^.]{0,40}?\bin "
    r"(?:the (?:same )?language (?:of|in which|that|as)\b|"
    r"(?:the |an? )?\w+(?:'s|s'|’s) (?:own )?language\b|their (?:own )?language\b)",
    re.IGNORECASE,
)
"""In whatever language the other one speaks."""
_LITTLE = re.compile(
    r"\b(?:the|an?|of|to|in|on|at|for|and|or|your?|its?|this|that|their|be|is|are|with|as|by|from|any)\b"
)
_NO_LIST = re.compile(r"\b(?:do not|don't|never|no|without|avoid)\b[^.,;]{0,30}\b(?:bullet|list)", re.IGNORECASE)
_LIST = re.compile(
    r"\b(?:as|use|with|in|present|give|return|format)\b[^.;]{0,40}\b(?:bullet(?:s|ed)?\b|bullet points|numbered list)",
    re.IGNORECASE,
)
_ONLY = re.compile(
    r"\b(?:return|output|answer|reply|respond)\b[^.]*\b(?:only|nothing else|alone|nothing more)\b|"
    r"\bno (?:prose|explanations?)\b|\bwithout (?:any )?explanations?\b|\b(?:do not|don't) explain\b|\bnothing else\b",
    re.IGNORECASE,
)
_EXPLAIN = re.compile(
    r"^(?:[-*•]\s*)?(?:(?:(?:after|below|under|behind|beside|next to|following)\b[^,.]{0,40},|then|also|afterwards|"
    r"finally|next|in addition),?\s+)?(?:please\s+)?"
    r"(?:explain\b[^.]{0,30}\b(?:your|the reason|why|how you)\b|justify|give (?:your|a|the) (?:reason|explanation)|"
    r"describe your reasoning|add an? (?:explanation|comment))",
    re.IGNORECASE,
)
_OPPOSITES: tuple[tuple[str, str], ...] = (
    (r"\bformal (?:tone|style|language|register)", r"\b(?:casual|informal|relaxed) (?:tone|style|language|register)"),
    (r"\bfirst person\b", r"\bthird person\b"),
    (r"\bpast tense\b", r"\bpresent tense\b"),
    (r"\bBritish English\b", r"\bAmerican English\b"),
    (r"\b(?:all )?upper ?case\b", r"\b(?:all )?lower ?case\b"),
)


def vague_word(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """An adjective that is not defined means something else to every model and cannot be tested."""
    for sentence, word in _vague_words(sheet, settings):
        yield Hit(sentence.line, f'"{word}" says too little: nobody can check it', _definition(word.lower()))


def vague(sheet: Sheet, settings: LintSettings) -> bool:
    """Whether a prompt uses a word that says too little."""
    return any(_vague_words(sheet, settings))


def _vague_words(sheet: Sheet, settings: LintSettings) -> Iterator[tuple[Sentence, str]]:
    """Each such word, once a sentence."""
    pattern = _vague(settings.vague)
    sized = any(bound.way != "least" and not bound.part for bound in bounds(sheet.sentences))
    for sentence in sheet.sentences:
        text = "" if _HEADING.match(sentence.text) else _PERSONA.sub(" ", sentence.bare)
        seen: set[str] = set()
        for found in pattern.finditer(text):
            word = found[0].lower()
            if word not in seen and not _defined(text, found, word) and not (sized and word in _SIZES):
                seen.add(word)
                if not _explained(sheet.text, word):
                    yield sentence, found[0]


def _defined(text: str, found: "re.Match[str]", word: str) -> bool:
    """Whether the sentence says what is meant, in brackets or by a number; or the word only names or states a fact."""
    before, after = text[: found.start()], text[found.end() :]
    if re.search(r"\b(?:is|are|was|were)(?:n't| not)?\s+$", before) or _IDIOM.match(text[found.start() :]):
        return True
    if word == "better" and not _IMPROVES.search(before):
        return True
    if word in ("brief", "short") and re.match(r"\s*(?:$|[.,;:)]|(?:and|between|in|into|of|to|for|is|has)\b)", after):
        return re.search(r"\b(?:the|a|this|each|every|of|in)\s+$", before) is not None
    if re.match(r"[^.;]{0,40}?(?:\(|:\s(?![{$<])|, (?:that is|i\.e\.|meaning)|—| – )", after):
        return True
    sized = word in _SIZES and (re.search(r"\d", text) or any(bounds([Sentence(text, 0)])))
    if sized or _RANKED.search(before):
        return True
    return re.match(_FACT.format(word=re.escape(word)), text.strip(), re.IGNORECASE) is not None


def _explained(text: str, word: str) -> bool:
    """Whether the prompt says somewhere what the word means there, or uses it as the name of a label."""
    name = re.escape(word)
    return any(re.search(form.format(name=name), text, re.IGNORECASE | re.MULTILINE) for form in _EXPLAINED)


def _definition(word: str) -> str:
    if word in _SIZES:
        return 'give a number instead: "at most 80 words", "3 to 5 bullet points"'
    return f'say what makes it so ("{word}: …"), or leave it out'


@lru_cache(maxsize=16)
def _vague(more: tuple[str, ...]) -> "re.Pattern[str]":
    words = "|".join(re.escape(word) for word in sorted({*WORDS.vague, *more}, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)


def contradiction(sheet: Sheet, settings: LintSettings) -> Iterator[Hit]:
    """Of two sentences that cannot both be kept the model picks one, and not always the same."""
    told: set[int] = set()
    for look in _LOOKS:
        for first, second in look(sheet.sentences):
            if second.line not in told:
                told.add(second.line)
                message = f'"{_short(second)}" cannot be kept together with line {first.line}: "{_short(first)}"'
                yield Hit(second.line, message, "keep one of the two, or say which holds when")


_COMPARED = 200
"""Sentences of a kind that are held against each other."""
Pairs = Iterator[tuple[Sentence, Sentence]]


def _opposed_deeds(found: list[Sentence]) -> Pairs:
    """The same deed, wanted and forbidden."""
    wanted: list[tuple[Sentence, set[str]]] = []
    forbidden: list[tuple[Sentence, set[str]]] = []
    for sentence in found:
        text = sentence.bare
        if (match := _NEVER.search(text)) is not None:
            forbidden.append((sentence, _content(match["deed"])))
        elif (match := _ALWAYS.search(text) or _IMPERATIVE.search(text)) is not None:
            wanted.append((sentence, _content(match["deed"])))
    for first, deed in wanted[:_COMPARED]:
        for second, other in forbidden[:_COMPARED]:
            shared, either = deed & other, deed | other
            alike = len(shared) >= 2 and len(shared) / len(either) >= 0.6
            if alike and not _CONDITION.search(first.bare) and not _CONDITION.search(second.bare):
                yield (first, second) if first.line <= second.line else (second, first)


def _content(deed: str) -> set[str]:
    deed = _LITTLE.sub(" ", re.split(r"\b(?:because|so that|since)\b", deed)[0].lower())
    return {re.sub(r"(?:ing|ed|s)$", "", word) for word in re.findall(r"[a-z]+", deed)}


def _opposed_bounds(found: list[Sentence]) -> Pairs:
    """At most fewer than at least; two different exact numbers of one thing."""
    every = list(islice(bounds(found), _COMPARED))
    for first, second in combinations(every, 2):
        if first.unit != second.unit or first.sentence is second.sentence:
            continue
        if _CONDITION.search(first.sentence.bare) and _CONDITION.search(second.sentence.bare):
            continue
        ways = {first.way, second.way}
        if ways == {"most", "least"}:
            most, least = (first, second) if first.way == "most" else (second, first)
            if most.number < least.number and not (most.part and not least.part) and not most.part:
                yield first.sentence, second.sentence
        elif ways == {"exact"} and first.number != second.number and first.part == second.part:
            both = (first.sentence.text, second.sentence.text)
            if all(re.search(r"\bexactly\b", text, re.IGNORECASE) for text in both):
                yield first.sentence, second.sentence


def _opposed_languages(found: list[Sentence]) -> Pairs:
    spoken = [(one, match["language"]) for one in found if (match := _LANGUAGE.search(one.bare))]
    spoken += [(one, "") for one in found if _THEIRS.search(one.bare) and not _LANGUAGE.search(one.bare)]
    spoken = sorted(spoken, key=lambda pair: pair[0].line)[:_COMPARED]
    for (first, one), (second, other) in combinations(spoken, 2):
        if one != other and not re.search(r"\bif\b|\bwhen\b|\bunless\b", f"{first.bare} {second.bare}", re.IGNORECASE):
            yield first, second


def _opposed_lists(found: list[Sentence]) -> Pairs:
    yield from _both(found, lambda text: bool(_NO_LIST.search(text)), lambda text: bool(_LIST.search(text)))


def _only_and_more(found: list[Sentence]) -> Pairs:
    yield from _both(found, lambda text: bool(_ONLY.search(text)), lambda text: bool(_EXPLAIN.search(text)))


def _opposites(found: list[Sentence]) -> Pairs:
    for one, other in _OPPOSITES:
        yield from _both(
            found,
            lambda text, one=one, other=other: _has(one, text) and not _has(other, text),
            lambda text, one=one, other=other: _has(other, text) and not _has(one, text),
        )


def _has(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _both(found: list[Sentence], one: Callable[[str], bool], other: Callable[[str], bool]) -> Pairs:
    """The first sentence of each kind, where neither has a condition."""
    plain = [sentence for sentence in found if not _CONDITION.search(sentence.bare)]
    left = next((sentence for sentence in plain if one(sentence.bare)), None)
    right = next((sentence for sentence in plain if other(sentence.bare) and sentence is not left), None)
    if left and right and not one(right.bare):
        yield (left, right) if left.line <= right.line else (right, left)


_LOOKS = (_opposed_deeds, _opposed_bounds, _opposed_languages, _opposed_lists, _only_and_more, _opposites)


def _short(sentence: Sentence) -> str:
    return sentence.text if len(sentence.text) <= 60 else sentence.text[:57] + "…"
