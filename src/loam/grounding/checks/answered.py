"""Whether a sentence answers a question: what the words say of it, and how all that speaks for it is weighed.

Pure. Knows the weights that recipes/heads/decline.py fitted, which belong to one reading head.
Invariant: nothing that speaks for an answer makes it less likely.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from msgspec import convert

from loam.grounding.checks.negation import conflict
from loam.grounding.checks.numbers import implied, missing, values
from loam.grounding.checks.qualifiers import turned
from loam.grounding.checks.support import Weights, support

WEIGHTS = convert(tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")), Weights)


def answered(signals: Mapping[str, float], known: Weights = WEIGHTS) -> float:
    """A probability. `signals` are those of `by_words` and of `loam.grounding.rereading`."""
    return support(signals, known)


def by_words(question: str, sentence: str) -> dict[str, float]:
    """1 for each check that the sentence passes, 0 for each that it fails.

    `by_words("When was the mill not used in 1842?", "The mill was used.")` has 0 for "values" and for "denial".
    """
    passed = {
        "values": not missing(values(question), [*values(sentence), *implied(sentence)]),
        "denial": not conflict(question, sentence),
        "sides": not turned(question, sentence),
    }
    return {name: float(value) for name, value in passed.items()}
