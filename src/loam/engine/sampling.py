"""How one token is chosen from the logits: penalties, bias, temperature, three filters, the draw.

Pure functions on one row of logits (vocabulary,), an fp32 numpy array; knows no batch and no model. Invariant: a draw
is a function of the row, the `Draw`, the tokens seen and (seed, position), of nothing else: neither the batch, nor the
number of threads, nor how often the step was tried can change it.

The order is the one below, from the top of the file to its end. `steps_of` walks the same way slowly and keeps what
every stage removed, for the glass box; the tests hold it and `Sampler.choose` equal, token for token.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite, log

import numpy as np
from numpy.typing import NDArray

from loam.core.errors import refuse
from loam.engine.asks import Draw, Likely

Floats = NDArray[np.float32]
Weights = NDArray[np.float64]
Ids = NDArray[np.int64]
Allowed = NDArray[np.bool_]

BLOCK = 1024
"""The draw adds up weights in blocks of so many, so that a large vocabulary is not summed one by one."""
FIRST_LOOK = 1024
"""top_p looks at so many of the likeliest before it sorts everything."""
_WORD = (1 << 64) - 1
_PHILOX = (0xD2E7470EE14C6C93, 0xCA5A826395121157, 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


class NoToken(ArithmeticError):
    """No token can be drawn: the logits are not numbers, or nothing is left of them."""


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that only seed and position decide: Philox 4x64-10 (Salmon et al. 2011), 53 bits of it.

    The same as the first word of numpy's `Philox(key=seed, counter=position - 1)`. Seeds are taken modulo 2**64.
    """
    multiply_0, multiply_1, weyl_0, weyl_1 = _PHILOX
    a, b, c, d = position & _WORD, 0, 0, 0
    key_0, key_1 = seed & _WORD, 0
    for _ in range(10):
        left, right = multiply_0 * a, multiply_1 * c
        a, b, c, d = (right >> 64) ^ b ^ key_0, right & _WORD, (left >> 64) ^ d ^ key_1, left & _WORD
        key_0, key_1 = (key_0 + weyl_0) & _WORD, (key_1 + weyl_1) & _WORD
    return (a >> 11) * 2.0**-53


class Seen:
    """Which tokens stand in the prompt and how often each stands in the answer; what the penalties read."""

    def __init__(self, prompt: Iterable[int]) -> None:
        distinct = sorted(set(prompt))
        self._at = {token: place for place, token in enumerate(distinct)}
        size = max(64, 2 * len(distinct))
        self._ids = np.zeros(size, dtype=np.int64)
        self._ids[: len(distinct)] = distinct
        self._counts = np.zeros(size, dtype=np.float64)

    def add(self, token: int) -> None:
        """One more token of the answer."""
        place = self._at.setdefault(token, len(self._at))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token
        self._counts[place] += 1.0

    @property
    def ids(self) -> Ids:
        return self._ids[: len(self._at)]

    @property
    def counts(self) -> Weights:
        """How often the answer holds each of `ids`; 0 for what only the prompt holds."""
        return self._counts[: len(self._at)]


def penalise(logits: Floats, draw: Draw, seen: Seen) -> None:
    """In place: the repetition penalty (Keskar et al. 2019, section 4.1), then OpenAI's frequency and presence."""
    ids, counts = seen.ids, seen.counts
    values = logits[ids].astype(np.float64)
    if draw.repetition_penalty != 1.0:
        values = np.where(values > 0, values / draw.repetition_penalty, values * draw.repetition_penalty)
    values -= draw.frequency_penalty * counts + draw.presence_penalty * (counts > 0)
    logits[ids] = values  # back in fp32


def top_k(logits: Floats, count: int) -> Ids:
    """The ids of the `count` largest, ascending; among equals the lowest ids stay. 0 keeps all. Never one of -inf."""
    if not 0 < count < len(logits):
        return np.flatnonzero(logits > -np.inf)
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    if least == -np.inf:
        return np.flatnonzero(logits > -np.inf)
    return _with_some_equals(logits, least, count)


def top_p(weights: Weights, share: float) -> Ids:
    """Places, ascending, of the fewest largest weights that make up `share` of the sum (Holtzman et al. 2020)."""
    total, size = float(weights.sum()), len(weights)
    largest = weights if size <= FIRST_LOOK else np.partition(weights, size - FIRST_LOOK)[size - FIRST_LOOK :]
    if len(largest) < size and largest.sum() < share * total:
        largest = weights
    largest = np.sort(largest)[::-1]
    sums: Weights = largest.cumsum()
    count = min(int(sums.searchsorted(share * total)) + 1, len(largest))
    return _with_some_equals(weights, largest[count - 1], count)


def _with_some_equals(values: Floats | Weights, least: float, count: int) -> Ids:
    """Places of the `count` largest of `values`, the smallest of which is `least`; the lowest places among equals."""
    places = np.flatnonzero(values >= least)
    if len(places) > count:
        equal = values[places] == least
        places = np.delete(places, np.flatnonzero(equal)[count - len(places) :])
    return places


def min_p(weights: Weights, share: float) -> Ids:
    """Places of the weights that reach `share` of the largest one (Nguyen et al. 2024)."""
    return np.flatnonzero(weights >= share * weights.max())


def drawn(weights: Weights, chance: float) -> int:
    """The place that `chance` in [0, 1) falls on when the weights are laid end to end."""
    start = 0
    if len(weights) > BLOCK:
        whole = len(weights) // BLOCK * BLOCK
        sums: Weights = np.append(weights[:whole].reshape(-1, BLOCK).sum(axis=1), weights[whole:].sum()).cumsum()
        target = chance * float(sums[-1])
        block = min(int(sums.searchsorted(target, side="right")), len(sums) - 1)
        while block > 0 and not weights[block * BLOCK : (block + 1) * BLOCK].any():
            block -= 1
        start = block * BLOCK
        target -= float(sums[block - 1]) if block else 0.0
        sums = weights[start : start + BLOCK].cumsum()
    else:
        sums = weights.cumsum()
        target = chance * float(sums[-1])
    place = int(sums.searchsorted(target, side="right"))
    if place == len(sums):  # rounding put the target past the end: the last that has any weight
        place = int(np.flatnonzero(weights[start : start + BLOCK])[-1])
    return start + place


def softmax_weights(logits: Floats, temperature: float) -> Weights:
    """exp(logits / T) over the largest of them, in fp64; softmax(logits / T) is that over its sum."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    if temperature != 1.0:
        wide /= temperature
    return np.exp(wide, out=wide)


class Sampler:
    """One ask's way to choose: its `Draw`, made ready once, and the tokens that it has seen."""

    def __init__(self, draw: Draw, prompt: Iterable[int] = ()) -> None:
        self.draw = draw
        self._bias = np.fromiter(draw.bias, dtype=np.int64), np.fromiter(draw.bias.values(), dtype=np.float32)
        penalties = draw.repetition_penalty, draw.frequency_penalty, draw.presence_penalty
        self.seen = Seen(prompt) if penalties != (1.0, 0.0, 0.0) else None
        self.greedy = draw.temperature == 0.0
        self.plain = self.greedy and self.seen is None and not draw.bias
        """The likeliest token of the raw logits, nothing else: a whole batch of these is one argmax."""

    def add(self, token: int) -> None:
        """The answer goes on with `token`."""
        if self.seen is not None:
            self.seen.add(token)

    def adjusted(self, logits: Floats, allowed: Allowed | None = None) -> Floats:
        """The logits after penalties and bias, -inf where `allowed` (vocabulary,) forbids; a copy where they differ."""
        if self.seen is None and not len(self._bias[0]) and allowed is None:
            return logits
        logits = logits.copy()
        if self.seen is not None:
            penalise(logits, self.draw, self.seen)
        ids, values = self._bias
        if len(ids):
            logits[ids] += values
        if allowed is not None:
            logits[~allowed] = -np.inf
        return logits

    def choose(self, logits: Floats, position: int, allowed: Allowed | None = None) -> int:
        """The token at `position` of prompt and answer. Raises `NoToken` where no logit is a finite number."""
        logits = self.adjusted(logits, allowed)
        best = int(logits.argmax())  # the first among equals; a NaN, where there is one
        if not isfinite(logits[best]):
            raise NoToken("the model's logits are not numbers, or every token is forbidden")
        if self.greedy:
            return best
        draw, ids = self.draw, None
        if 0 < draw.top_k < len(logits):
            ids = top_k(logits, draw.top_k)
            logits = logits[ids]
        weights = softmax_weights(logits, draw.temperature)
        for filtered, share, off in ((top_p, draw.top_p, 1.0), (min_p, draw.min_p, 0.0)):
            if share != off:
                places = filtered(weights, share)
                weights, ids = weights[places], places if ids is None else ids[places]
        place = drawn(weights, uniform(draw.seed, position))
        return place if ids is None else int(ids[place])


@dataclass(frozen=True, slots=True)
class Distribution:
    """All that happened between a row of logits and its token. Arrays are (vocabulary,) or lists of ids, ascending."""

    logits: Floats
    """As the model gave them."""
    adjusted: Floats
    """After penalties and bias; -inf where a grammar forbids."""
    forbidden: Ids
    removed: dict[str, Ids]
    """What "top_k", "top_p" and "min_p" each took away, in this order; the keys of those that were on."""
    kept: Ids
    probabilities: Weights
    """Of each of `kept`; they sum to 1. At temperature 0 the likeliest has all."""
    chance: float | None
    """The number in [0, 1) that decided; None at temperature 0."""
    token: int


def steps_of(
    logits: Floats, draw: Draw, seen: Seen | None, position: int, allowed: Allowed | None = None
) -> Distribution:
    """The same token as `Sampler.choose`, the long way: everything is sorted, and every stage keeps its account."""
    sampler = Sampler(draw)
    sampler.seen = seen
    adjusted = sampler.adjusted(logits, allowed)
    forbidden = np.flatnonzero(~allowed) if allowed is not None else np.zeros(0, dtype=np.int64)
    if not isfinite(adjusted.max()):
        raise NoToken("the model's logits are not numbers, or every token is forbidden")
    kept = np.flatnonzero(adjusted > -np.inf)
    removed: dict[str, Ids] = {}
    if sampler.greedy:
        kept, weights = np.array([adjusted.argmax()], dtype=np.int64), np.ones(1)
        return Distribution(logits, adjusted, forbidden, removed, kept, weights, None, int(kept[0]))
    for name, keep in _filters(draw).items():
        stay = keep(softmax_weights(adjusted[kept], draw.temperature))
        removed[name] = np.delete(kept, stay)
        kept = kept[stay]
    weights = softmax_weights(adjusted[kept], draw.temperature)
    chance = uniform(draw.seed, position)
    return Distribution(
        logits, adjusted, forbidden, removed, kept, weights / weights.sum(), chance, int(kept[drawn(weights, chance)])
    )


def _filters(draw: Draw) -> dict[str, Callable[[Weights], Ids]]:
    """The filters that are on; each takes weights in the order of their ids and gives the places that stay."""

    def sorted_top_k(weights: Weights) -> Ids:
        return np.sort(np.argsort(-weights, kind="stable")[: draw.top_k])

    def sorted_top_p(weights: Weights) -> Ids:
        order = np.argsort(-weights, kind="stable")
        before = np.concatenate([[0.0], weights[order].cumsum()[:-1]])
        return np.sort(order[before < draw.top_p * weights.sum()])

    def least_min_p(weights: Weights) -> Ids:
        return np.flatnonzero(weights / weights.sum() >= draw.min_p * (weights / weights.sum()).max())

    on = {"top_k": draw.top_k > 0, "top_p": draw.top_p < 1.0, "min_p": draw.min_p > 0.0}
    made = {"top_k": sorted_top_k, "top_p": sorted_top_p, "min_p": least_min_p}
    return {name: made[name] for name, is_on in on.items() if is_on}


def logprobs(logits: Floats, token: int, top: int = 0) -> tuple[float, tuple[Likely, ...]]:
    """The natural logarithm of softmax(logits) at `token`, and of the `top` likeliest, from the likeliest down.

    Of the raw logits, before any temperature, penalty or filter; in fp64.
    """
    most = float(logits.max())
    log_sum = most + log(float(softmax_weights(logits, 1.0).sum()))
    if top <= 0:
        return float(logits[token]) - log_sum, ()
    ids = top_k(logits, top)
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    return float(logits[token]) - log_sum, tuple(Likely(int(i), float(logits[i]) - log_sum) for i in ids)


MOST_BIASES = 4096


def check(draw: Draw, vocabulary: int) -> None:
    """Refuse what no draw can be made of, naming the parameter. Raises `ModelFailure`, kind bad_request."""
    bounds = {
        "temperature": (draw.temperature, 0.0, 100.0),
        "top_k": (draw.top_k, 0, 1 << 31),
        "min_p": (draw.min_p, 0.0, 1.0),
        "repetition_penalty": (draw.repetition_penalty, 1e-3, 1e3),
        "frequency_penalty": (draw.frequency_penalty, -100.0, 100.0),
        "presence_penalty": (draw.presence_penalty, -100.0, 100.0),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:  # a NaN is not
            raise refuse("bad_request", f"{name} is {value}; it must lie between {least} and {most}", param=name)
    if not 0.0 < draw.top_p <= 1.0:
        raise refuse("bad_request", f"top_p is {draw.top_p}; it must be above 0 and at most 1", param="top_p")
    if len(draw.bias) > MOST_BIASES:
        raise refuse("bad_request", f"{len(draw.bias)} logit biases; at most {MOST_BIASES}", param="logit_bias")
    for token, value in draw.bias.items():
        if not 0 <= token < vocabulary:
            raise refuse("bad_request", f"no token {token} in a vocabulary of {vocabulary}", param="logit_bias")
        if not isfinite(value):
            raise refuse("bad_request", f"the bias of token {token} is {value}, not a number", param="logit_bias")
