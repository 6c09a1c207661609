"""How likely a sentence is supported, from what the checks by words and the trained head say together.

Pure. Knows the weights that recipes/heads/weigh.py fitted, which belong to one verify head.
Invariant: no check that speaks for a sentence makes it less likely supported.
"""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, convert

_FURTHEST = 0.001  # probabilities of the head are kept this far from 0 and 1


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """`weights` name signals of a verdict; `head` is the run that trained the head they were fitted with."""

    head: str
    bias: float
    weights: dict[str, float]


WEIGHTS = convert(tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")), Weights)


def support(signals: Mapping[str, float], known: Weights = WEIGHTS) -> float:
    """A probability. `signals` are those of `words_only.weigh`, and the head's `head` and `denied`."""
    total = known.bias + sum(weight * feature(name, signals[name]) for name, weight in known.weights.items())
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def feature(name: str, value: float) -> float:
    """A signal as it is weighed: the head's probabilities as log-odds, the rest as they are."""
    if name not in ("head", "denied"):
        return value
    inside = min(1 - _FURTHEST, max(_FURTHEST, value))
    return math.log(inside / (1 - inside))
