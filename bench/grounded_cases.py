"""Sentences about the handbook that are true, and the same ones spoilt in one place: for the verifier to tell apart.

Every case is made by rule from a sentence of the handbook that ships, so the same cases come out everywhere. Knows
nothing of the verifier.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from loam.core.calls import Passage
from loam.grounding.documents import read_document
from loam.grounding.ingest import HANDBOOK
from loam.grounding.passages import cut
from loam.grounding.sentences import sentences

PER_KIND = 120


class Page(Struct, frozen=True):
    """A handbook page as it would be stored."""

    id: str
    title: str
    text: str
    revision: str
    passages: tuple[Passage, ...]


class Case(Struct, frozen=True):
    """`said` claims to rest on sentence `cite` of `passages`; `kind` says what was done to it."""

    kind: str
    supported: bool
    source: str
    said: str
    cite: str
    passages: tuple[Passage, ...]


class _Source(Struct, frozen=True):
    text: str
    page: Page
    passage: int
    place: int


def pages(folder: Path = HANDBOOK) -> list[Page]:
    """The handbook's pages, in order."""
    return [_page(path, folder) for path in sorted(folder.rglob("*.md"))]


def _page(path: Path, folder: Path) -> Page:
    name = path.relative_to(folder).as_posix()
    document = read_document(name, path.read_bytes())
    revision = hashlib.sha256(document.text.encode()).hexdigest()[:24]
    passages = tuple(
        Passage(
            name,
            document.title,
            name,
            piece.section,
            piece.start,
            piece.end,
            document.text[piece.start : piece.end],
            1.0,
            revision,
        )
        for piece in cut(document)
    )
    return Page(name, document.title, document.text, revision, passages)


def cases(per_kind: int = PER_KIND) -> list[Case]:
    """At most `per_kind` cases of every kind, spread over the handbook."""
    held = pages()
    sources = list(_sources(held))
    made: list[Case] = []
    for kind, (supported, change) in {**_TRUE, **_SPOILT}.items():
        some = [
            (source, said)
            for source in sources
            if ((said := change(source.text)) and said != source.text) or kind == "verbatim"
        ]
        step = max(1, len(some) // per_kind)
        made += [_case(kind, supported, source, said or source.text, held) for source, said in some[::step][:per_kind]]
    return [*made, *_foreign(sources, held, per_kind)]


def _case(kind: str, supported: bool, source: _Source, said: str, held: Sequence[Page]) -> Case:
    """The sentence's own passage stands among its neighbours and one of another page."""
    own = source.page.passages
    near = [
        own[source.passage],
        *(own[place] for place in (source.passage - 1, source.passage + 1) if 0 <= place < len(own)),
    ]
    other = held[(held.index(source.page) * 7 + 3) % len(held)].passages[:1]
    return Case(kind, supported, source.text, said, f"1.{source.place}", (*near, *other))


def _foreign(sources: Sequence[_Source], held: Sequence[Page], most: int) -> Iterator[Case]:
    """True sentences of pages that were not found, cited to one that was."""
    step = max(1, len(sources) // most)
    for place, source in enumerate(sources[::step][:most]):
        stranger = sources[(place * step + len(sources) // 2) % len(sources)]
        if stranger.page.id != source.page.id and stranger.text not in source.page.text:
            yield _case("foreign sentence", False, source, stranger.text, held)


def _sources(held: Sequence[Page]) -> Iterator[_Source]:
    for page in held:
        for number, passage in enumerate(page.passages):
            for place, sentence in enumerate(sentences(passage.text), 1):
                text = passage.text[sentence.start : sentence.end]
                plain = re.fullmatch(r"[\w\s,.;:'’()%$/-]+[.!]", text) and "\n" not in text and "..." not in text
                if sentence.kind in ("prose", "item") and plain and 8 <= len(text.split()) <= 40 and text[0].isupper():
                    yield _Source(text, page, number, place)


def _swap(pattern: str, by: "Callable[[re.Match[str]], str] | str", *, flags: int = 0) -> Callable[[str], str]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.sub(by, text, count=1)


def _table(pairs: dict[str, str]) -> Callable[[str], str]:
    """Replaces the first word that the table has, either way."""
    both = {**pairs, **{value: key for key, value in pairs.items()}}
    return _swap(rf"\b({'|'.join(map(re.escape, both))})\b", lambda match: both[match[1]])


def _oneway(pairs: dict[str, str]) -> Callable[[str], str]:
    return _swap(rf"\b({'|'.join(map(re.escape, pairs))})\b", lambda match: pairs[match[1]])


def _lower(text: str) -> str:
    return (
        text
        if text[:2].isupper() or text.startswith("I ") or re.match(r"[A-Z]\w*[A-Z]", text)
        else text[0].lower() + text[1:]
    )


def _number(match: re.Match[str]) -> str:
    return str(int(match[0]) + 1 + len(match[0]) % 3)


_WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"]
_NUMBER_WORDS = dict(zip(_WORDS, [*_WORDS[1:], "twenty"], strict=True))
_DIGITS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "eight": "8", "ten": "10", "twelve": "12"}
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
_LATER = {
    **dict(zip(_MONTHS, [*_MONTHS[4:], *_MONTHS[:4]], strict=True)),
    **dict(zip(_DAYS, [*_DAYS[2:], *_DAYS[:2]], strict=True)),
}
_NAMES = ["Contoso", "Denver", "NASA", "Marcia Lopez", "Basecamp", "the Treasury"]


def _entity(text: str) -> str:
    found = re.search(r"(?<=[a-z,] )(?:[A-Z][\w&]+|[A-Z]{2,})(?: [A-Z]\w+)*\b", text)
    return text[: found.start()] + _NAMES[len(text) % len(_NAMES)] + text[found.end() :] if found else ""


def _entity_elsewhere(text: str) -> str:
    """Two names of one sentence trade places, where more than a comma or an "or" is between them."""
    found = re.findall(r"(?<=[a-z,] )(?:[A-Z][\w&]+)(?: [A-Z]\w+)*\b", text)
    if len(found) < 2 or any(text.lower().count(name.lower()) > 1 for name in found[:2]):
        return ""
    between = text[text.index(found[0]) + len(found[0]) : text.index(found[1])]
    if re.fullmatch(r"\W*(?:and|or|of|to|&|,|with)?\W*", between):
        return ""
    return text.replace(found[0], "\0").replace(found[1], found[0]).replace("\0", found[1])


def _clauses_turned(text: str) -> str:
    found = re.fullmatch(r"(If|When|Before|After|While) ([^,;:]+), ([^,;:]+)\.", text)
    return f"{found[3][0].upper()}{found[3][1:]} {found[1].lower()} {found[2]}." if found else ""


def _first_clause(text: str) -> str:
    found = re.fullmatch(r"([^,;:()]{45,}?)(?:, (?:and|which|so|as well as)|;) [^()]+\.", text)
    return f"{found[1]}." if found else ""


_NOT = r"\b(is|are|must|should|will|can|may|was|were|has been|have been)\b(?! not|n't|not)"
_TRUE: dict[str, tuple[bool, Callable[[str], str]]] = {
    "verbatim": (True, lambda text: text),
    "introduced": (True, lambda text: f"According to the handbook, {_lower(text)}"),
    "contracted": (
        True,
        _table(
            {
                "do not": "don't",
                "is not": "isn't",
                "are not": "aren't",
                "cannot": "can't",
                "you are": "you're",
                "will not": "won't",
                "does not": "doesn't",
                "should not": "shouldn't",
                "it is": "it's",
                "you will": "you'll",
            }
        ),
    ),
    "small words": (
        True,
        _oneway(
            {
                "in order to": "to",
                "such as": "like",
                "as well as": "and",
                "prior to": "before",
                "when": "whenever",
                "within": "in",
                "your": "their",
                "this": "the",
                "will": "is going to",
                "through": "via",
                "about": "on",
                "but": "though",
            }
        ),
    ),
    "synonym": (
        True,
        _table(
            {
                "purchase": "buy",
                "receive": "get",
                "assist": "help",
                "begin": "start",
                "require": "need",
                "requires": "needs",
                "submit": "send",
                "choose": "select",
                "use": "utilize",
                "employees": "staff",
                "show": "display",
                "complete": "fill in",
                "allow": "let",
                "inform": "notify",
                "supervisor's": "boss's",
            }
        ),
    ),
    "must": (True, _swap(r"\bmust\b(?! not)", "have to")),
    "digits": (True, _swap(rf"\b({'|'.join(_DIGITS)})\b (?=[a-z]+)", lambda match: f"{_DIGITS[match[1]]} ")),
    "clauses turned": (True, _clauses_turned),
    "first clause": (True, _first_clause),
}
_SPOILT: dict[str, tuple[bool, Callable[[str], str]]] = {
    "number": (False, _swap(r"(?<![\w.,/-])\d+\b(?![\w,/-])", _number)),
    "number word": (False, _swap(rf"\b({'|'.join(_NUMBER_WORDS)})\b", lambda match: _NUMBER_WORDS[match[1]])),
    "date": (False, _swap(rf"\b({'|'.join(_LATER)})\b", lambda match: _LATER[match[1]])),
    "unit": (
        False,
        _swap(
            r"(?<=\d )(days?|hours?|weeks?|months?|years?|minutes?)\b",
            lambda m: {"d": "weeks", "h": "days", "w": "months", "m": "years", "y": "months"}[m[1][0]],
        ),
    ),
    "entity": (False, _entity),
    "entities traded": (False, _entity_elsewhere),
    "negated": (False, _swap(_NOT, r"\1 not")),
    "negation dropped": (False, _swap(r"\b(do|does|is|are|should|must|will|may|can)(?: not|n't|not)\b", r"\1")),
    "duty": (False, _table({"must": "may", "should": "must", "can": "must", "required": "recommended"})),
    "order": (
        False,
        _table(
            {"before": "after", "at least": "at most", "more than": "less than", "all": "some", "always": "sometimes"}
        ),
    ),
    "hidden clause": (False, lambda text: f"{text[:-1]}, and the regional director must countersign it."),
    "hidden short clause": (False, lambda text: f"{text[:-1]}, unpaid."),
    "hidden word": (False, _swap(r"\b(the|a|your) (?=[a-z]{4,})", r"\1 confidential ")),
    "hidden aside": (
        False,
        lambda text: text.replace(" ", " (except for contractors) ", 5).replace(" (except for contractors) ", " ", 4),
    ),
    "invented quote": (
        False,
        lambda text: f'The handbook says: "Managers waive this rule for {text.split()[-1].strip(".!").lower()}."',
    ),
    "cause": (False, lambda text: f"{text[:-1]} because auditors complained."),
}
