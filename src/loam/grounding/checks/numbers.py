"""Numbers, dates and times in a text, with their units, so that two texts can be held against each other.

Pure. Knows English number words, months and weekdays. Invariant: `five days`, `5 days` and `5-day` are one value, and
no value equals another of a different amount.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import Struct

_UNITS = """
    second sec s | minute min mins | hour hr hrs h | day | week wk | month | quarter | year yr | decade | century
    % percent pct | $ dollar usd buck | cent | € euro eur | £ gbp | time | page | mile mi | foot feet ft | inch
    meter metre m | kilometer kilometre km | kg kilogram | pound lb | gb gigabyte | mb megabyte | kb | tb
    person people | character | word | employee | meeting | step | credit | grade | item | night | trip
"""
_UNIT_OF = {
    word: group.split()[0] for line in _UNITS.split("\n") for group in line.split("|") for word in group.split()
}
_SMALL = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_COUNT = {
    **{word: Decimal(number) for number, word in enumerate(_SMALL.split())},
    **{word: Decimal(10 * number) for number, word in enumerate(_TENS.split(), 2)},
}
_SCALE = {"hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_ALONE = {"once": (Decimal(1), "time"), "twice": (Decimal(2), "time"), "half": (Decimal("0.5"), "")}
_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_MONTH = {name: (Decimal(number), "month-name") for number, name in enumerate(_MONTHS.split(), 1)}
_CALENDAR = {
    **_MONTH,
    **{name[:3]: value for name, value in _MONTH.items() if name != "may"},
    "sept": _MONTH["september"],
    **{name: (Decimal(number), "weekday") for number, name in enumerate(_DAYS.split(), 1)},
}

_WORDS, _SCALES = "|".join([*_COUNT, *_SCALE]), "|".join(_SCALE)
_FOUND = re.compile(
    rf"""(?P<date>\b\d{{4}}-\d\d?-\d\d?\b | \b\d\d?/\d\d?/\d{{2,4}}\b)
    | (?P<clock>\b\d\d?:\d\d\b(?:\s*[ap]\.?m\b\.?)? | \b\d\d?\s*[ap]\.?m\b\.?)
    | (?P<code>(?<![\w.])\d+(?:\.\d+){{2,}}(?!\w))
    | (?P<digits>(?:[$€£]\s?)?(?<![^\W_])(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?P<scale>[\s-]*(?:{_SCALES})\b)?
        (?P<tail>[a-z%]*))
    | (?P<words>\b(?:{_WORDS})(?:[\s-]+(?:and\s+)?(?:{_WORDS}))*\b)
    | (?P<alone>\b(?:{"|".join(_ALONE)})\b)
    | (?P<name>\b[A-Z][a-z]{{2,8}}\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(r"[^\d.]|\.(?!\d)")
_UNIT = re.compile(r"[\s-]*(%|[^\W\d_]+)")
_LABEL = re.compile(r"([^\W\d_]+)\s*[:=|(]\s*$")
_IMPLIED = re.compile(r"\b(?:an?|each|every|per)\s+(?:single\s+)?([a-z]+)\b", re.IGNORECASE)


class Value(Struct, frozen=True):
    """An amount with its unit ("" where none is said) and its place in the text."""

    amount: Decimal
    unit: str
    start: int
    end: int
    code: str = ""

    def same(self, other: "Value") -> bool:
        """Whether `other` says this one: the same amount, and the same unit where this one has any."""
        if self.amount != other.amount or self.code != other.code:
            return False
        return self.unit in ("", other.unit)


def values(text: str) -> list[Value]:
    """Every value in order. `values("at most 1,500 dollars")` is one value of 1500 dollars."""
    return [value for match in _FOUND.finditer(text) for value in _values(text, match)]


def implied(text: str) -> list[Value]:
    """The ones that a text does not say but means: "a year" is one year, and may be called so."""
    found = ((match, _unit(match[1])) for match in _IMPLIED.finditer(text))
    return [Value(Decimal(1), unit, *match.span()) for match, unit in found if unit]


def missing(claimed: Iterable[Value], evidence: Iterable[Value]) -> list[Value]:
    """The claimed values for which the evidence has none left: each of its values stands for one."""
    left = list(evidence)
    lost: list[Value] = []
    for value in claimed:
        same = [other for other in left if value.same(other)]
        if same:
            left.remove(next((other for other in same if other.unit == value.unit), same[0]))
        else:
            lost.append(value)
    return lost


def _values(text: str, match: re.Match[str]) -> Iterator[Value]:
    span, said = match.span(), match.group()
    if match["date"]:
        parts = [Decimal(part) for part in re.split(r"[-/]", said)]
        year, month, day = parts if "-" in said else (parts[2], parts[0], parts[1])
        yield from (Value(year, "", *span), Value(month, "month-name", *span), Value(day, "", *span))
    elif match["clock"]:
        yield Value(_minutes(said), "clock", *span)
    elif match["code"]:
        yield Value(Decimal(0), "code", *span, said)
    elif match["digits"]:
        yield from _digits(text, match, said)
    elif match["words"]:
        yield from _worded(text, match, said.lower())
    elif match["alone"]:
        yield Value(*_ALONE[said.lower()], *span)
    elif said[0].isupper() and said.lower() in _CALENDAR and (said != "May" or _dated(text, match)):
        yield Value(*_CALENDAR[said.lower()], *span)


def _digits(text: str, match: re.Match[str], said: str) -> Iterator[Value]:
    tail = match["tail"].lower()
    if tail and tail not in _UNIT_OF and tail not in ("st", "nd", "rd", "th"):
        return  # "18F" is a name
    symbol = said[0] if said[0] in "$€£" else ""
    scale = _SCALE[match["scale"].strip(" -\n").lower()] if match["scale"] else 1
    amount = Decimal(_PLAIN.sub("", said)) * scale
    yield Value(amount, symbol or _unit(tail) or _beside(text, match), *match.span())


def _worded(text: str, match: re.Match[str], said: str) -> Iterator[Value]:
    total, part = Decimal(0), Decimal(0)
    for word in re.findall(r"[a-z]+", said):
        if word in _SCALE:
            part = (part or Decimal(1)) * _SCALE[word]
            if _SCALE[word] >= 1000:
                total, part = total + part, Decimal(0)
        elif word in _COUNT:
            part += _COUNT[word]
    name = _beside(text, match)
    if said == "one" and not name:
        return  # "one of them" counts nothing
    yield Value(total + part, name, *match.span())


def _beside(text: str, match: re.Match[str]) -> str:
    """The unit behind a number, or else before it as tables and labels have it: "Weeks: 12", "days | 5"."""
    behind = _UNIT.match(text, match.end())
    name = _unit(behind[1]) if behind else ""
    if name:
        return name
    label = _LABEL.search(text, 0, match.start())
    return _unit(label[1]) if label else ""


def _minutes(said: str) -> Decimal:
    hour, minute = [*re.findall(r"\d+", said), "0"][:2]
    half = re.search(r"([ap])\.?m", said, re.IGNORECASE)
    hours = int(hour) % 12 + 12 * (half[1].lower() == "p") if half else int(hour)
    return Decimal(60 * hours + int(minute))


def _dated(text: str, match: re.Match[str]) -> bool:
    """Whether a "May" is the month: a number stands beside it."""
    return bool(re.match(r"\s+\d", text[match.end() :]) or re.search(r"\d\s+$", text[: match.start()]))


def _unit(word: str) -> str:
    word = word.lower()
    return _UNIT_OF.get(word) or _UNIT_OF.get(word.removesuffix("s")) or ""
