"""Every step of the choice against a slow obvious twin in plain Python, and the draw against the exact softmax."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from loam.core.errors import ModelFailure
from loam.engine.asks import Draw
from loam.engine.sampling import (
    BLOCK,
    NoToken,
    Sampler,
    Seen,
    check,
    drawn,
    logprobs,
    min_p,
    penalise,
    softmax_weights,
    steps_of,
    top_k,
    top_p,
    uniform,
)


def narrow(value):
    """To fp32 and back, as logits are kept."""
    return float(np.float32(value))


def twin_penalised(logits, draw, prompt, answer):
    """The formulas of CTRL's section 4.1 and of OpenAI's reference, token by token."""
    out = list(logits)
    for token in set(prompt) | set(answer):
        value = logits[token]
        value = value / draw.repetition_penalty if value > 0 else value * draw.repetition_penalty
        count = answer.count(token)
        value -= draw.frequency_penalty * count + draw.presence_penalty * (1 if count else 0)
        out[token] = narrow(value)
    return [narrow(value + draw.bias.get(token, 0.0)) for token, value in enumerate(out)]


def twin_softmax(logits, kept, temperature):
    most = max(logits[i] for i in kept)
    weights = {i: math.exp((logits[i] - most) / temperature) for i in kept}
    total = math.fsum(weights.values())
    return {i: weight / total for i, weight in weights.items()}


def likeliest_first(shares):
    return sorted(shares, key=lambda i: (-shares[i], i))


def twin_filters(logits, draw):
    """The ids that stay after top_k, top_p and min_p, each on what the one before left."""
    kept = [i for i, value in enumerate(logits) if value > -math.inf]
    if draw.top_k:
        kept = sorted(sorted(kept, key=lambda i: (-logits[i], i))[: draw.top_k])
    if draw.top_p < 1.0:
        shares, sum_before, stay = twin_softmax(logits, kept, draw.temperature), 0.0, []
        for i in likeliest_first(shares):
            if sum_before >= draw.top_p:
                break
            stay.append(i)
            sum_before += shares[i]
        kept = sorted(stay)
    if draw.min_p:
        shares = twin_softmax(logits, kept, draw.temperature)
        kept = [i for i in kept if shares[i] >= draw.min_p * max(shares.values())]
    return kept


def twin_choice(logits, draw, prompt, answer, position, allowed=None):
    logits = twin_penalised(logits, draw, prompt, answer)
    if allowed is not None:
        logits = [value if allowed[i] else -math.inf for i, value in enumerate(logits)]
    if draw.temperature == 0.0:
        return max(range(len(logits)), key=lambda i: (logits[i], -i))
    kept = twin_filters(logits, draw)
    shares = twin_softmax(logits, kept, draw.temperature)
    target, before = uniform(draw.seed, position), 0.0
    for i in kept:
        before += shares[i]
        if before > target:
            return i
    return kept[-1]


def some_draw(chance, size):
    """Any mixture of settings, off as often as on."""
    return Draw(
        temperature=chance.choice([0.0, 0.3, 1.0, 1.7]),
        top_k=chance.choice([0, 0, 1, 3, 40, size, 10 * size]),
        top_p=chance.choice([1.0, 1.0, 0.999, 0.7, 0.05]),
        min_p=chance.choice([0.0, 0.0, 0.02, 0.5]),
        repetition_penalty=chance.choice([1.0, 1.0, 1.3, 0.8]),
        frequency_penalty=chance.choice([0.0, 0.0, 0.4, -0.3]),
        presence_penalty=chance.choice([0.0, 0.0, 0.7]),
        bias=chance.choice([{}, {}, {1: 2.5, size - 1: -100.0}]),
        seed=chance.randrange(-5, 1 << 40),
    )


def some_logits(chance, size):
    """Sometimes smooth, sometimes with many equal values, as bf16 weights give them."""
    step = chance.choice([0.0, 0.0, 0.5])
    values = [chance.gauss(0, chance.choice([0.5, 3.0])) for _ in range(size)]
    return np.array([round(v / step) * step if step else v for v in values], dtype=np.float32)


@pytest.mark.parametrize("case", range(300))
def test_a_choice_is_the_twins(case):
    chance = random.Random(case)
    size = chance.choice([5, 33, 300, 3000])
    draw, logits = some_draw(chance, size), some_logits(chance, size)
    prompt, answer = ([chance.randrange(size) for _ in range(chance.choice([0, 4, 90]))] for _ in range(2))
    allowed = np.array([chance.random() < 0.3 for _ in range(size)]) if chance.random() < 0.3 else None
    if allowed is not None:
        allowed[chance.randrange(size)] = True
    sampler = Sampler(draw, prompt)
    for token in answer:
        sampler.add(token)
    before = logits.copy()
    got = sampler.choose(logits, 17, allowed)
    assert got == twin_choice(logits.tolist(), draw, prompt, answer, 17, allowed)
    assert (logits == before).all(), "the row of logits is not ours to write in"
    steps = steps_of(logits, draw, sampler.seen, 17, allowed)
    assert steps.token == got
    if draw.temperature:
        kept = twin_filters(twin_penalised_and_masked(logits, draw, prompt, answer, allowed), draw)
        assert steps.kept.tolist() == kept
        assert math.isclose(steps.probabilities.sum(), 1.0)


def twin_penalised_and_masked(logits, draw, prompt, answer, allowed):
    values = twin_penalised(logits.tolist(), draw, prompt, answer)
    return [v if allowed is None or allowed[i] else -math.inf for i, v in enumerate(values)]


def test_every_token_is_accounted_for_once():
    logits = some_logits(random.Random(0), 500)
    allowed = np.arange(500) % 3 > 0
    steps = steps_of(logits, Draw(top_k=100, top_p=0.8, min_p=0.1), None, 0, allowed)
    parts = [steps.forbidden, *steps.removed.values(), steps.kept]
    assert list(steps.removed) == ["top_k", "top_p", "min_p"]
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))


def test_sampled_tokens_follow_the_exact_softmax():
    """Chi-square over 20,000 draws, 11 degrees of freedom: below 31.26 but once in a thousand; seeds are fixed."""
    logits = np.array([0.0, 1.0, -1.0, 2.0, 0.5, 0.5, 3.0, -0.5, 1.5, 2.5, 0.25, -0.25], dtype=np.float32)
    for temperature in (0.5, 1.0, 2.0):
        counts = Counter(Sampler(Draw(temperature=temperature, seed=5)).choose(logits, at) for at in range(20_000))
        shares = twin_softmax(logits.tolist(), range(12), temperature)
        chi_square = sum((counts[i] - 20_000 * share) ** 2 / (20_000 * share) for i, share in shares.items())
        assert chi_square < 31.26


def test_sampled_tokens_of_a_large_vocabulary_follow_it_too():
    """The draw by blocks: the share of each of 8 bands of ids."""
    logits = np.random.default_rng(1).standard_normal(5 * BLOCK + 77).astype(np.float32)
    band = np.arange(len(logits)) * 8 // len(logits)
    counts = Counter(int(band[Sampler(Draw(seed=s)).choose(logits, 3)]) for s in range(8_000))
    weights = softmax_weights(logits, 1.0)
    expected = [8_000 * weights[band == b].sum() / weights.sum() for b in range(8)]
    assert sum((counts[b] - e) ** 2 / e for b, e in enumerate(expected)) < 24.32  # 7 degrees, one in a thousand


@pytest.mark.parametrize("size", [1, 7, BLOCK, BLOCK + 1, 4 * BLOCK, 4 * BLOCK + 3])
def test_the_draw_lands_where_the_sum_says(size):
    chance = np.random.default_rng(size)
    weights = chance.random(size) * (chance.random(size) < 0.3)
    weights[chance.integers(size)] = 0.5
    sums = weights.cumsum()
    for at in chance.random(200):
        place = drawn(weights, at)
        assert weights[place] > 0
        assert sums[place] - weights[place] <= at * sums[-1] * (1 + 1e-12)
        assert sums[place] >= at * sums[-1] * (1 - 1e-12)
    assert drawn(weights, 0.0) == np.flatnonzero(weights)[0]
    assert drawn(weights, 1.0) == np.flatnonzero(weights)[-1], "rounding may reach the very end"


def test_chance_is_numpys_philox():
    for seed in (0, 3, -1, 2**64 - 1, 2**64 + 3):
        for position in (1, 5, 10**9):
            generator = np.random.Philox(key=seed % 2**64, counter=position - 1)
            assert uniform(seed, position) == (int(generator.random_raw()) >> 11) * 2.0**-53
    spread = np.histogram([uniform(7, position) for position in range(20_000)], bins=20, range=(0, 1))[0]
    assert ((spread - 1000) ** 2 / 1000).sum() < 43.82  # 19 degrees, one in a thousand


def test_the_lowest_id_wins_among_equals():
    logits = np.array([1.0, 3.0, 3.0, 2.0, 3.0], dtype=np.float32)
    assert Sampler(Draw(temperature=0.0)).choose(logits, 0) == 1
    assert top_k(logits, 2).tolist() == [1, 2]
    assert top_p(softmax_weights(logits, 1.0), 0.5).tolist() == [1, 2]
    assert min_p(softmax_weights(logits, 1.0), 1.0).tolist() == [1, 2, 4]


def test_a_cold_temperature_is_greedy_and_not_a_division_by_zero():
    logits = some_logits(random.Random(3), 50)
    assert Sampler(Draw(temperature=1e-12)).choose(logits, 4) == int(logits.argmax())


@pytest.mark.parametrize("size", [40, 5000])
def test_top_p_of_a_flat_distribution(size):
    """More tokens than the first look holds."""
    weights = np.ones(size)
    assert top_p(weights, 0.5).tolist() == list(range(size // 2))


def test_penalties_count_the_answer_and_see_the_prompt():
    seen = Seen([1, 1, 2])
    for token in (2, 3, 3, *range(10, 200)):
        seen.add(token)
    assert dict(zip(seen.ids.tolist(), seen.counts.tolist(), strict=True)) == {
        1: 0, 2: 1, 3: 2, **dict.fromkeys(range(10, 200), 1)
    }  # fmt: skip
    logits = np.array([1.0, 1.0, -1.0, 4.0], dtype=np.float32)
    few = Seen([1, 2])
    few.add(3)
    few.add(3)
    penalise(logits, Draw(repetition_penalty=2.0, frequency_penalty=0.25, presence_penalty=0.5), few)
    assert logits.tolist() == [1.0, 0.5, -2.0, 1.0]


@pytest.mark.parametrize("top", [0, 1, 5, 40])
def test_logprobs_are_those_of_the_raw_logits(top):
    logits = some_logits(random.Random(top), 40)
    shares = twin_softmax(logits.tolist(), range(40), 1.0)
    own, likely = logprobs(logits, 7, top)
    assert math.isclose(own, math.log(shares[7]), abs_tol=1e-12)
    assert [each.token for each in likely] == sorted(shares, key=lambda i: (-logits[i], i))[:top]
    assert all(math.isclose(each.logprob, math.log(shares[each.token]), abs_tol=1e-12) for each in likely)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_said_so(bad, temperature):
    logits = np.array([1.0, bad, 0.0], dtype=np.float32)
    with pytest.raises(NoToken):
        Sampler(Draw(temperature=temperature)).choose(logits, 0)
    with pytest.raises(NoToken):
        steps_of(logits, Draw(temperature=temperature), None, 0)
    with pytest.raises(NoToken):
        Sampler(Draw(temperature=temperature)).choose(logits[:1], 0, np.array([False]))


@pytest.mark.parametrize(
    "draw",
    [
        Draw(temperature=-0.1), Draw(temperature=math.nan), Draw(temperature=math.inf), Draw(top_k=-1), Draw(top_p=0.0),
        Draw(top_p=1.1), Draw(top_p=math.nan), Draw(min_p=-0.1), Draw(min_p=2.0), Draw(repetition_penalty=0.0),
        Draw(frequency_penalty=math.nan), Draw(presence_penalty=1e9), Draw(bias={-1: 1.0}), Draw(bias={50: 1.0}),
        Draw(bias={1: math.inf}), Draw(bias=dict.fromkeys(range(5000), 1.0)),
    ],
)  # fmt: skip
def test_absurd_settings_are_refused_by_name(draw):
    with pytest.raises(ModelFailure) as refused:
        check(draw, 50)
    assert refused.value.failure.kind == "bad_request"
    assert refused.value.failure.param in {*Draw.__struct_fields__, "logit_bias"}
