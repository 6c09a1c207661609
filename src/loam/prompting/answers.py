"""Finding the answer in what a model wrote, and the one form in which two answers are compared.

Knows how models mark their answers and how people write numbers; knows no model and no technique. Pure.
Invariant: two texts that a person would take for the same answer have the same canonical form, and what cannot be read
as the kind that is asked for has none (`None`), never a wrong one on purpose.
"""

import re
import unicodedata
from fractions import Fraction
from typing import Any, cast

import msgspec

OPEN, CLOSE = "<answer>", "</answer>"
"""The marks that Loam asks models to put around an answer."""

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"^\s*####\s*(.+)$", re.MULTILINE)
_LABELLED = re.compile(
    r"^[\s>*_#-]*(?:(?:so|therefore|thus|hence),?\s+)?(?:the\s+)?(?:final\s+)?(?:answer|result|a)"
    r"[*_]*(?:\s+is)?\s*[:=][*_]*[ \t]*(\S.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_SAID = re.compile(r"\b(?:answer|result)\b[^.\n:=]{0,40}?\b(?:is|are|:|=)\s*:?\s*([^\n]+)", re.IGNORECASE)


def answer_in(text: str) -> str | None:
    """What the text marks as its answer; of several marks of one kind the last counts. None where nothing is marked."""
    tagged = _TAGGED.findall(text)
    if tagged:
        return tagged[-1].strip() or None
    boxes = [found.end() for found in _BOXED.finditer(text)]
    if boxes:
        return _braced(text, boxes[-1]).strip() or None
    for pattern in (_HASHES, _LABELLED, _SAID):
        marked = pattern.findall(text)
        if marked:
            return marked[-1].strip()
    return None


def _braced(text: str, start: int) -> str:
    """From just inside a brace to the one that closes it."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def canonical(text: str, kind: str) -> str | None:
    """The form of an answer that votes are counted by; None where the text holds none of that kind.

    `kind` is number, choice, text, auto (whichever of them the marked answer is), or json:/POINTER.

    ```python
    canonical("So he pays $1,200.00.", "number")  # "1200"
    ```
    """
    if kind.startswith("json:"):
        return _at(text, kind[5:])
    marked = answer_in(text)
    if kind == "number":
        return number_in(marked if marked is not None else text, last=marked is None)
    if kind == "choice":
        return choice_in(marked if marked is not None else text)
    plain = marked if marked is not None else _last_line(text)
    if kind == "auto":
        bare = plain.strip().strip(".*_`$ ")
        return _whole_number(plain) or (bare.strip("()").upper() if _LETTER.fullmatch(bare) else folded(plain))
    return folded(plain)


def folded(text: str) -> str | None:
    """Text without what does not tell answers apart: case, width of letters, spaces, punctuation and marks around."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.split()).strip(" .,;:!?*_`\"'“”‘’()") or None


def last_paragraph(text: str) -> str:
    paragraphs = [
        part.strip() for part in re.split(r"\n\s*\n", text.replace(OPEN, "").replace(CLOSE, "")) if part.strip()
    ]
    return paragraphs[-1] if paragraphs else ""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


# ---- numbers

_DIGITS = r"\d{1,3}(?:[,\u00a0\u202f\u2009']\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)\]])[-−–]\s?)?(?:[$€£¥]\s?)?(?P<sign2>[-−])?"
    rf"(?:(?P<whole>\d+)\s+(?=\d+/\d))?(?P<number>{_DIGITS})(?:[eE](?P<power>[-+]?\d{{1,3}})(?!\w))?"
    r"(?:\s?/\s?(?P<below>\d+(?:\.\d+)?)(?![\d/]))?"
    r"(?:\s*(?P<scale>thousand|million|billion|trillion|dozen)\b|(?-i:(?P<short>[kKMB])\b))?",
    re.IGNORECASE,
)
_FRAC = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}")
_LATEX = re.compile(r"\\(?:text|mathrm|mbox|mathbf)\s*\{([^{}]*)\}|\\[!,;: ]|\\(?=[$%])|\{,\}")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8", "⅜": "3/8"}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SHORT = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_LONGEST = 1000  # digits; no answer that people compare is longer, and Python refuses to write 4300 of them
_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\d)\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?([-−]?\d{1,3})\}?"), r"\1e\2"),
    (re.compile(r"(?<![\d.])10\s?(?:\^|\*\*)\s?\{?([-−]?\d{1,3})\}?"), r"1e\1"),
    (re.compile(r"\b(?:minus|negative)\s+(?=[$€£]?\s?\d)", re.IGNORECASE), "-"),
    (re.compile(r"(?<![\d,.])(\d+) (?:dollars?|euros?|pounds?),? (?:and )?(\d\d) (?:cents?|pence)\b"), r"\1.\2"),
)
"""How people write numbers that the pattern above does not know, and as what it knows."""
_GROUPED = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d\d?)(?![\d,.])")
_COMMA = re.compile(r"(?<![\d.,])(\d+),(\d\d?)(?![\d,]|\.\d)")
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,]| \d)")
"""How the rest of the world groups digits; in running text it might be a list, so this is for marked answers."""
_ONES = "zero one two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {
    **{word: value for value, word in enumerate(f"{_ONES} {_TEENS}".split())},
    **{word: 20 + 10 * place for place, word in enumerate(_TENS.split())},
}
_MANY = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "dozen": 12}
_WORDED = re.compile(
    rf"\b(?:(?:minus|negative)\s+)?(?:an?\s+(?=(?:{'|'.join(_MANY)}|half)\b))?"
    rf"(?:(?:{'|'.join(_WORDS)}|{'|'.join(_MANY)}|half)\b(?:[\s-]+(?:and\s+)?(?:a\s+(?=half\b))?)?){{1,40}}",
    re.IGNORECASE,
)


_CONCLUDES = re.compile(r"[.!?;]\s|\n|\b(?:then|so|thus|hence|therefore|is|are|was|equals|gives|makes|leaves)\b")
"""What parts a result from a further one behind it."""


def number_in(text: str, *, last: bool = False) -> str | None:
    """The number that a text gives as its answer: after its last equals sign the first one, or the last of all.

    With `last`, for running text: what follows the equals sign may conclude further, and then the last number counts.
    """
    plain = _readable(text if last else _regrouped(text))
    before, equals, after = plain.rpartition("=")
    if equals and _NUMBER.search(after):
        plain = after
    found = list(_NUMBER.finditer(plain))
    if not found:
        return _worded(before if equals and not after.strip() else plain)
    first, end = found[0], found[-1]
    if last and not (equals and plain is after and _qualifies(plain[first.end() : end.start()])):
        return _value(end)
    return _value(first)


def _qualifies(between: str) -> bool:
    """Whether what follows a result says what it counts (`= 12 masks every 2 days`) and concludes nothing more."""
    return not re.search(
        r"[.!?;]\s|\n|\b(?:then|so|thus|hence|therefore|is|are|was|equals|gives|makes|leaves)\b", between
    )


def _regrouped(text: str) -> str:
    """1.200,50 and 1 200 and 1,5 as 1200.50 and 1200 and 1.5."""
    text = _GROUPED.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)
    text = _COMMA.sub(r"\1.\2", text)
    return _SPACED.sub(lambda found: found[0].replace(" ", ""), text)


def _whole_number(text: str) -> str | None:
    """The number, where a text is a number, with at most a unit behind it."""
    plain = _readable(text).strip().strip("*_`$ ")
    found = _NUMBER.match(plain)
    rest = plain[found.end() :].strip(" .%") if found else ""
    return _value(found) if found and len(rest.split()) <= 2 and not _NUMBER.search(rest) else None


def _readable(text: str) -> str:
    """LaTeX, vulgar fractions and unusual digits in plain writing."""
    for sign, plain in _VULGAR.items():
        text = text.replace(sign, f" {plain}")
    text = _FRAC.sub(r"\1/\2", text)
    for pattern, form in _REWRITTEN:
        text = pattern.sub(form, text)
    text = _LATEX.sub(lambda found: f" {found[1]}" if found[1] else "", text)
    return unicodedata.normalize("NFKC", text.replace("\u202f", ",").replace("\u2009", ","))


def _value(found: re.Match[str]) -> str | None:
    if len(found[0]) > _LONGEST:
        return None
    value = Fraction(re.sub(r"[,'\s]", "", found["number"])) * Fraction(10) ** int(found["power"] or 0)
    if found["below"]:
        if not (below := Fraction(found["below"])):
            return None
        value /= below
    value += int(found["whole"] or 0)
    value *= _SCALES.get((found["scale"] or "").lower(), 1) * _SHORT.get(found["short"] or "", 1)
    return written(-value if found["sign"] or found["sign2"] else value)


def written(value: Fraction) -> str:
    """A number in its one writing: `5`, `0.5`, `1/3`."""
    below = value.denominator
    while below % 2 == 0:
        below //= 2
    while below % 5 == 0:
        below //= 5
    if value.denominator == 1 or below != 1:
        return str(value)
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    sign, scaled = "-" if value < 0 else "", str(abs(int(value * 10**digits))).rjust(digits + 1, "0")
    return f"{sign}{scaled[:-digits]}.{scaled[-digits:]}"


def _worded(text: str) -> str | None:
    """The last number that is written out: `forty-two`, `three hundred and five`."""
    found = [match[0].lower() for match in _WORDED.finditer(text)]
    if not found:
        return None
    total, part = Fraction(0), Fraction(0)
    for word in re.findall(r"[a-z]+", found[-1]):
        if word in _WORDS:
            part += _WORDS[word]
        elif word in ("hundred", "dozen"):
            part = (part or 1) * _MANY[word]
        elif word in _MANY:
            total, part = total + (part or 1) * _MANY[word], Fraction(0)
        elif word == "half":
            part += Fraction(1, 2)
    value = total + part
    return written(-value if found[-1].startswith(("minus", "negative")) else value)


# ---- choices and JSON

_LETTER = re.compile(r"\(?([A-Za-z])\)?")
_CHOICE = re.compile(r"(?<![A-Za-z'’])[(\[]?([A-Z])[)\].:]|(?<![A-Za-z'’])([A-Z])(?![A-Za-z'’])|^\(?([a-z])[).]")


def choice_in(text: str) -> str | None:
    """The letter of the alternative that a text chooses: a lone capital, the last one that is named."""
    bare = text.strip().strip(".*_`$ ")
    if _LETTER.fullmatch(bare):
        return bare.strip("()").upper()
    named = ["".join(groups).upper() for groups in _CHOICE.findall(text)]
    said = [letter for letter in named if letter not in ("A", "I")] or named
    return (named[0] if len(named) == 1 else said[-1]) if named else None


def _at(text: str, pointer: str) -> str | None:
    """What stands at a JSON pointer of the text, in one writing."""
    try:
        value: Any = msgspec.json.decode(text)
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            value = cast("list[Any]", value)[int(key)] if isinstance(value, list) else value[key]
        return msgspec.json.encode(_one_writing(value), order="deterministic").decode()
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError, RecursionError):
        return None


def _one_writing(value: Any) -> Any:
    """5.0 is 5, and text is told apart as answers are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return folded(value) or ""
    if isinstance(value, list):
        return [_one_writing(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _one_writing(one) for name, one in cast("dict[str, Any]", value).items()}
    return value
