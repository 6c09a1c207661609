"""Whether two texts deny the same things.

Pure, English. Invariant: a denial in either text that the other lacks, where it speaks of the same, is a conflict.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from loam.grounding.checks.tokens import Token, alike, tokens

_HARD = re.compile(
    r"\b(?:not only(?=.*\b(?:but|also)\b)|(?:no|not) (?:later|more|less|fewer|sooner) than|no\. ?\d|no doubt|or not)\b"
    r"|(?P<cue>\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|unable|nowhere|hardly|fails? to)\b"
    r"|n['’]t\b)",
    re.IGNORECASE,
)
_SOFT = re.compile(
    r"\b(?P<cue>prohibit\w*|forbid\w*|disallow\w*|refus\w*|den(?:y|ied|ies)|exclud\w*|ineligible|impossible|avoid\w*|"
    r"refrain\w*|un(?:able|available|necessary|allowed|authorized|permitted|paid)|in(?:valid|complete|correct))\b",
    re.IGNORECASE,
)
_ONLY = re.compile(r"\b(?:not )?only\b", re.IGNORECASE)
_AUXILIARY = "be been being have has had to the a an any yet just also it you they he she we i your"
_PASSED_OVER = frozenset(_AUXILIARY.split())
_ANSWER = re.compile(r"\W*no\b\W*[,.;:–—]", re.IGNORECASE)
_BREAK = re.compile(
    r"[,;:.!?()\n—–]|\b(?:but|because|if|unless|although|though|while|whereas|which|who|so|and|or|until|when)\b",
    re.IGNORECASE,
)


class Denial(Struct, frozen=True):
    """A denial: the word that it denies, and the telling words of its clause."""

    cue: str
    head: str
    clause: frozenset[str]


def conflict(claim: str, evidence: str) -> bool:
    """Whether the claim denies what the evidence does not, or drops a denial of what it repeats.

    `conflict("You must not file it.", "You must file it.")` is True.
    """
    if {_only(claim), _only(evidence)} == {"only", "not only"}:
        return True
    left = _unpaired(_denials(claim, _HARD), _denials(evidence, _HARD))
    spoken, there = (frozenset(token.stem for token in tokens(text)) for text in (claim, evidence))
    spare, excuse = _denials(evidence, _SOFT), _denials(claim, _SOFT)
    kept = {denial.cue for denial in excuse}
    spare = [denial for denial in spare if denial.cue not in kept]  # "not unpaid" is no "unpaid"
    copied = {token.stem for token in tokens(evidence) if token.telling} <= spoken
    return (
        (copied and not excuse and any(not denial.head or denial.head in spoken for denial in left.there))
        or any(_unpaired([denial], spare).said for denial in left.said)
        or any(_moved(one, other, spoken, there) for one, other in left.pairs)
        or any(_repeated(denial, spoken) and _unpaired([denial], excuse).said for denial in left.there)
    )


def _only(text: str) -> str:
    """`only` or `not only`, whichever alone a text says; empty where it says neither or both."""
    said = {match.group().lower() for match in _ONLY.finditer(text)}
    return said.pop() if len(said) == 1 else ""


class _Paired(Struct, frozen=True):
    said: list[Denial]
    there: list[Denial]
    pairs: list[tuple[Denial, Denial]]


def _unpaired(said: Sequence[Denial], there: Sequence[Denial]) -> _Paired:
    """Pairs denials one to one, by their heads and then by their clauses; what is left, and the pairs."""
    mine, theirs = list(said), list(there)
    pairs: list[tuple[Denial, Denial]] = []
    for near in (_same_head, _same_clause, _bare):
        for one in list(mine):
            other = next((other for other in theirs if near(one, other)), None)
            if other is not None:
                pairs.append((one, other))
                mine.remove(one)
                theirs.remove(other)
    return _Paired(mine, theirs, pairs)


def _same_head(one: Denial, other: Denial) -> bool:
    return bool(one.head) and alike(one.head, frozenset((other.head,))) > 0


def _same_clause(one: Denial, other: Denial) -> bool:
    shared = len(one.clause & other.clause)
    return shared > 0 and shared >= 0.5 * min(len(one.clause), len(other.clause))


def _bare(one: Denial, other: Denial) -> bool:
    """Whether both only take up what was said before: "if not", "if you don't"."""
    return not one.clause and not other.clause


def _moved(one: Denial, other: Denial, spoken: frozenset[str], there: frozenset[str]) -> bool:
    """Whether a denial went from one word to another that both texts have."""
    return not _same_head(one, other) and one.head in there and other.head in spoken


def _repeated(denial: Denial, spoken: frozenset[str]) -> bool:
    shared = len(denial.clause & spoken)
    if not denial.clause:
        return denial.head in spoken
    return shared >= 0.5 * len(denial.clause) and (
        denial.head in spoken or (len(denial.clause) > 2 and shared >= 0.7 * len(denial.clause))
    )


def _denials(text: str, cues: re.Pattern[str]) -> list[Denial]:
    found = tokens(text)
    breaks = [0, *(match.start() for match in _BREAK.finditer(text)), len(text)]
    denials = [_denial(cue, found, breaks) for cue in cues.finditer(text) if cue["cue"]]
    # the "no" of "No, you cannot" denies what the rest denies
    return denials[1:] if len(denials) > 1 and _ANSWER.match(text) and cues is _HARD else denials


def _denial(cue: re.Match[str], found: Sequence[Token], breaks: Sequence[int]) -> Denial:
    start = max((place for place in breaks if place <= cue.start()), default=0)
    end = min((place for place in breaks if place >= cue.end()), default=cue.end())
    inside = [token for token in found if start <= token.start < end and not cue.start() <= token.start < cue.end()]
    after = (token for token in inside if token.start >= cue.end())
    head = next((token.stem for token in after if token.said.lower() not in _PASSED_OVER), "")
    return Denial(cue["cue"].lower(), head, frozenset(token.stem for token in inside if token.telling))
