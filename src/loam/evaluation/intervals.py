"""Between which values a measured figure lies, given how few things were measured.

Pure; the draws of a bootstrap come from a seed. Invariant: 0 <= low <= figure <= high <= 1 for shares and for means of
values in [0, 1]; more things measured alike never widen Wilson's interval.

```python
wilson(8, 10)  # Interval(low=0.490..., high=0.943...)
```
"""

import random
from collections.abc import Sequence
from math import sqrt

from msgspec import Struct

_SURE = 1.959963984540054  # of 95 %, two-sided, under a normal distribution
_DRAWS = 1000


class Interval(Struct, frozen=True):
    """From `low` to `high`, with 95 % confidence."""

    low: float
    high: float


NOTHING = Interval(0.0, 1.0)
"""What is known where nothing was measured."""


def wilson(part: int, whole: int) -> Interval:
    """Of a share `part / whole`, after Wilson: right for few things and near 0 and 1."""
    if not whole:
        return NOTHING
    share, square = part / whole, _SURE * _SURE
    middle = share + square / (2 * whole)
    half = _SURE * sqrt(share * (1 - share) / whole + square / (4 * whole * whole))
    low, high = ((middle + side * half) / (1 + square / whole) for side in (-1, 1))
    return Interval(min(share, max(0.0, low)), max(share, min(1.0, high)))


def bootstrap(parts: Sequence[float], wholes: Sequence[float] | None = None, *, seed: int = 0) -> Interval:
    """Of the mean of `parts`, or of `sum(parts) / sum(wholes)` where each thing measured brings several.

    Things are drawn whole, so that sentences of one answer are not taken for independent ones.
    """
    whole = [1.0] * len(parts) if wholes is None else wholes
    if not sum(whole):
        return NOTHING
    draw, places = random.Random(seed), range(len(parts))
    means: list[float] = []
    for _ in range(_DRAWS):
        chosen = draw.choices(places, k=len(places))
        weight = sum(whole[place] for place in chosen)
        if weight:
            means.append(sum(parts[place] for place in chosen) / weight)
    means.sort()
    figure, last = sum(parts) / sum(whole), len(means) - 1
    return Interval(min(figure, means[int(0.025 * last)]), max(figure, means[round(0.975 * last)]))
