"""How tokens are drawn: what the caller said, else what the checkpoint recommends, within what makes sense.

Invariant: a `Draw` that leaves here holds no number that sampling could trip over.
"""

import math
from collections.abc import Mapping
from typing import Any

from loam.core.errors import ModelFailure, refuse
from loam.engine.asks import Draw
from loam.engine.protocol import Drawing

_BOUNDS: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 1e4, "0 takes the likeliest token"),
    "top_p": (0.0, 1.0, "a share of the probability, above 0"),
    "min_p": (0.0, 1.0, "a share of the likeliest token's probability"),
    "repetition_penalty": (1e-3, 1e3, "1 punishes nothing"),
    "frequency_penalty": (-100.0, 100.0, "0 punishes nothing; OpenAI's own range is -2 to 2"),
    "presence_penalty": (-100.0, 100.0, "0 punishes nothing; OpenAI's own range is -2 to 2"),
}
_LARGEST_BIAS = 100.0
_SEEDS = 2**63


def draw_of(wanted: Drawing, defaults: Drawing, *, vocabulary: int, choice: int = 0) -> Draw:
    """How answer number `choice` is drawn: each of several has a seed of its own. Raises ModelFailure (bad_request)."""
    plain = Draw()
    values: dict[str, Any] = {}
    for name, (least, most, hint) in _BOUNDS.items():
        said, default = getattr(wanted, name), getattr(defaults, name)
        value = said if said is not None else default if default is not None else getattr(plain, name)
        if not (math.isfinite(value) and least <= value <= most) or (name == "top_p" and value == 0):
            raise _out(name, f"{value:g} is not between {least:g} and {most:g}; {hint}")
        values[name] = float(value)
    said = wanted.top_k if wanted.top_k is not None else defaults.top_k
    top_k = 0 if said is None or said == -1 else said
    if top_k < 0:
        raise _out("top_k", f"{top_k} is below 0; 0 (or -1) allows every token")
    seed = (wanted.seed + choice) % _SEEDS
    return Draw(top_k=top_k, seed=seed, bias=_bias(wanted.logit_bias or {}, vocabulary), **values)


def _bias(given: Mapping[str, float], vocabulary: int) -> dict[int, float]:
    bias: dict[int, float] = {}
    for name, value in given.items():
        if not name.strip().isdecimal() or int(name) >= vocabulary:
            raise _out("logit_bias", f"{name!r} is no token id of this model; they go from 0 to {vocabulary - 1}")
        if not abs(value) <= _LARGEST_BIAS:
            raise _out("logit_bias", f"{value:g} for token {name} is not between -100 and 100")
        bias[int(name)] = float(value)
    return bias


def _out(param: str, what: str) -> ModelFailure:
    return refuse("bad_request", f"{param}: {what}", param=param)


def defaults_of(generation: Mapping[str, Any]) -> Drawing:
    """What generation_config.json recommends; what is no number in it, or null, is left out."""
    names = ("temperature", "top_p", "min_p", "repetition_penalty")
    found: dict[str, Any] = {
        name: float(generation[name]) for name in names if isinstance(generation.get(name), int | float)
    }
    top_k = generation.get("top_k")
    return Drawing(top_k=top_k if isinstance(top_k, int) else None, **found)
