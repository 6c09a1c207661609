"""Whether two texts deny the same things.

Pure, English. Invariant: a denial in either text that the other lacks, where it speaks of the same, is a conflict.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from loam.grounding.checks.tokens import Token, tokens

_HARD = re.compile(
    r"\b(?:not only|no (?:later|more|less|fewer|sooner) than|not (?:more|less|fewer) than|no\. ?\d|no doubt|or not)\b"
    r"|(?P<cue>\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|unable|nowhere|hardly|fails? to)\b"
    r"|n['’]t\b)",
    re.IGNORECASE,
)
_SOFT = re.compile(
    r"\b(?P<cue>prohibit\w*|forbid\w*|forbidden|disallow\w*|refus\w*|den(?:y|ied|ies)|exclud\w*|except|ineligible|"
    r"impossible|avoid\w*|unless|lack\w*|few|little|refrain\w*|un\w{5,}|in(?:eligible|valid|complete|correct)|non)\b",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\W*no\b\W*[,.;:–—]", re.IGNORECASE)
_BREAK = re.compile(
    r"[,;:.!?()\n—–]|\b(?:but|because|if|unless|although|though|while|whereas|which|who|so|and|or|until|when)\b",
    re.IGNORECASE,
)


class Denial(Struct, frozen=True):
    """A denial: the first telling word after the cue, and the telling words of its clause."""

    head: str
    clause: frozenset[str]


def conflict(claim: str, evidence: str) -> bool:
    """Whether the claim denies what the evidence does not, or drops a denial of what it repeats.

    `conflict("You must not file it.", "You must file it.")` is True.
    """
    said, there = _denials(claim, _HARD), _denials(evidence, _HARD)
    left = _unpaired(said, there)
    spare = _denials(evidence, _SOFT)
    if any(_unpaired([denial], spare).said for denial in left.said) or _moved(left.pairs, claim, evidence):
        return True
    spoken = frozenset(token.stem for token in tokens(claim))
    excuse = _denials(claim, _SOFT)
    return any(_repeated(denial, spoken) and _unpaired([denial], excuse).said for denial in left.there)


class _Paired(Struct, frozen=True):
    said: list[Denial]
    there: list[Denial]
    pairs: list[tuple[Denial, Denial]]


def _unpaired(said: Sequence[Denial], there: Sequence[Denial]) -> _Paired:
    """Pairs denials one to one, by their heads and then by their clauses; what is left, and the pairs."""
    mine, theirs = list(said), list(there)
    pairs: list[tuple[Denial, Denial]] = []
    for near in (_same_head, _same_clause):
        for one in list(mine):
            other = next((other for other in theirs if near(one, other)), None)
            if other is not None:
                pairs.append((one, other))
                mine.remove(one)
                theirs.remove(other)
    return _Paired(mine, theirs, pairs)


def _same_head(one: Denial, other: Denial) -> bool:
    return bool(one.head) and one.head == other.head


def _same_clause(one: Denial, other: Denial) -> bool:
    shared = len(one.clause & other.clause)
    return shared > 0 and shared >= 0.3 * min(len(one.clause), len(other.clause))


def _moved(pairs: Sequence[tuple[Denial, Denial]], claim: str, evidence: str) -> bool:
    """Whether a denial went from one word to another that both texts have."""
    spoken, there = ({token.stem for token in tokens(text)} for text in (claim, evidence))
    return any(
        one.head != other.head and one.head in there and other.head in spoken
        for one, other in pairs
        if one.head and other.head
    )


def _repeated(denial: Denial, spoken: frozenset[str]) -> bool:
    shared = len(denial.clause & spoken)
    return (
        shared >= 0.5 * len(denial.clause)
        and shared > 0
        and (denial.head in spoken or shared >= 0.7 * len(denial.clause))
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
    inside = [token for token in found if token.telling and start <= token.start < end]
    after = [token.stem for token in inside if token.start >= cue.end()]
    clause = frozenset(token.stem for token in inside if not cue.start() <= token.start < cue.end())
    return Denial(after[0] if after else "", clause)
