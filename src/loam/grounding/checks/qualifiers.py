"""Small words that turn a statement round: must and may, before and after, at least and at most, all and some.

Pure, English. Invariant: a statement that takes the other side of a pair than its evidence is a conflict.
"""

import re

from loam.grounding.checks.tokens import LEXICON

_SIDES = tuple(
    tuple(re.compile(rf"\b(?:{side})\b", re.IGNORECASE) for side in sides) for sides in LEXICON.opposed.values()
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot)|n['’]t)\s+(?:be\s+)?(?!only|all\b|some\b|every|each|(?:more|less|fewer|later) than)\w+",
    re.IGNORECASE,
)
_WIDE = re.compile(
    r"\b(?:only|solely|exclusively|always|never|all|every|everyone|guarantee\w*|entirely|unlimited)\b", re.IGNORECASE
)


def turned(claim: str, evidence: str) -> bool:
    """Whether the claim takes a side oftener than the evidence, where the evidence takes sides at all."""
    claim, evidence = _DENIED.sub(" ", claim), _DENIED.sub(" ", evidence)  # "not permitted" permits nothing
    for sides in _SIDES:
        there = [len(side.findall(evidence)) for side in sides]
        if any(there) and any(len(side.findall(claim)) > known for side, known in zip(sides, there, strict=True)):
            return True
    return False


def widened(claim: str, evidence: str) -> bool:
    """Whether the claim says "only", "all", "always" of its own accord."""
    known = {match.group().lower() for match in _WIDE.finditer(evidence)}
    return any(match.group().lower() not in known for match in _WIDE.finditer(claim))
