"""What a step of the glass box tells is what was done: exact softmax, filters that add up, the number on its token."""

import math

import numpy as np
import pytest

from loam.engine.asks import Draw
from loam.engine.inspection import Step, Wish
from loam.engine.sampling import Sampler, steps_of
from loam.engine.trace import Pieces, step_of

VOCABULARY = 300


class Letters:
    def token_bytes(self, token: int) -> bytes:
        return bytes([token % 256])


def logits_of(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=VOCABULARY) * 3).astype(np.float32)


def traced(seed: int, wish: Wish, prompt: tuple[int, ...] = (), allowed: np.ndarray | None = None) -> Step:
    sampler = Sampler(wish.draw, prompt)
    found = steps_of(logits_of(seed), wish.draw, sampler.seen, 7, allowed)
    return step_of(found, 7, wish, Pieces(Letters()))


def exact(logits: np.ndarray, temperature: float = 1.0) -> list[float]:
    weights = [math.exp(float(logit) / temperature) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_an_exact_softmax(seed: int) -> None:
    wish = Wish(prompt="", temperature=0.7, top_k=40, temperatures=(0.25, 1.0, 3.0), candidates=20)
    step, logits = traced(seed, wish), logits_of(seed)
    plain = exact(logits)
    for candidate in step.candidates:
        token = candidate.token.id
        assert candidate.logit == logits[token]
        assert candidate.probability == pytest.approx(plain[token], rel=1e-12)
        assert candidate.at == pytest.approx(
            tuple(exact(logits, temperature)[token] for temperature in wish.temperatures), rel=1e-12
        )
    assert step.entropy == pytest.approx(-math.fsum(p * math.log2(p) for p in plain), rel=1e-12)
    assert step.drawn.logprob == pytest.approx(math.log(plain[step.drawn.token.id]), rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_what_the_filters_took_and_left_adds_up(seed: int) -> None:
    wish = Wish(prompt="", temperature=1.3, top_k=60, top_p=0.9, min_p=0.05, candidates=50, seed=seed)
    step, logits = traced(seed, wish), logits_of(seed)
    assert [removal.filter for removal in step.removed] == ["top_k", "top_p", "min_p"]
    assert sum(removal.tokens for removal in step.removed) + step.kept == VOCABULARY
    assert step.removed[0].tokens == VOCABULARY - 60
    hot = sorted(exact(logits, 1.3), reverse=True)
    assert step.removed[0].probability == pytest.approx(math.fsum(hot[60:]))
    left = math.prod(1 - removal.probability for removal in step.removed)
    assert left == pytest.approx(math.fsum(hot[: step.kept]))  # these three filters keep the likeliest
    chances = [candidate.chance for candidate in step.candidates]
    if step.kept <= 50:
        assert math.fsum(chances) == pytest.approx(1)
    for candidate in step.candidates:
        assert (candidate.removed_by is None) == (candidate.chance > 0)
        if candidate.chance:
            assert candidate.chance == pytest.approx(exact(logits, 1.3)[candidate.token.id] / left)
    for removal in step.removed:
        assert len(removal.likeliest) == min(3, removal.tokens)


@pytest.mark.parametrize("seed", range(20))
def test_the_number_fell_on_the_token_that_was_drawn(seed: int) -> None:
    wish = Wish(prompt="", temperature=1.0, top_k=17, candidates=50, seed=seed)
    drawn = traced(seed, wish).drawn
    assert drawn.number is not None
    assert drawn.low <= drawn.number < drawn.high
    assert Sampler(wish.draw).choose(logits_of(seed), 7) == drawn.token.id
    logits = logits_of(seed)
    kept = sorted(np.argsort(-logits)[:17])
    weights = exact(logits[kept])
    before = math.fsum(weights[: kept.index(drawn.token.id)])
    assert drawn.low == pytest.approx(before, abs=1e-12)
    assert drawn.rank == 1 + int((logits > logits[drawn.token.id]).sum())


def test_at_temperature_zero_the_largest_is_taken_without_a_number() -> None:
    step = traced(3, Wish(prompt="", temperature=0.0, top_k=5))
    assert step.drawn.number is None
    assert step.drawn.token.id == int(logits_of(3).argmax())
    assert (step.kept, step.drawn.chance, step.entropy_left, step.drawn.rank) == (1, 1.0, 0.0, 1)
    assert step.candidates[0].chance == 1.0
    assert [candidate.chance for candidate in step.candidates[1:]] == [0.0] * 7


def test_penalties_bias_and_a_grammar_are_told() -> None:
    logits = logits_of(1)
    best = int(logits.argmax())
    wish = Wish(prompt="", temperature=0.0, presence_penalty=0.5, repetition_penalty=1.5, logit_bias={9: 50.0})
    step = traced(1, wish, prompt=(best,))
    assert step.drawn.token.id == 9
    moves = {moved.token.id: moved for moved in step.moves}
    assert step.moved == 2
    assert moves[9].after == pytest.approx(logits[9] + 50)
    assert moves[best].after == pytest.approx(logits[best] / 1.5)  # in the prompt only: no presence penalty
    allowed = np.zeros(VOCABULARY, dtype=bool)
    allowed[[4, 5]] = True
    step = traced(1, Wish(prompt=""), allowed=allowed)
    forbidden = [candidate for candidate in step.candidates if candidate.removed_by == "grammar"]
    assert step.kept == 2
    assert all(candidate.adjusted is None and candidate.chance == 0 for candidate in forbidden)
    assert best in [candidate.token.id for candidate in forbidden]


def test_a_part_of_a_character_is_shown_as_its_bytes() -> None:
    piece = Pieces(Letters())(0xE2)
    assert (piece.text, piece.bytes) == ("�", "e2")
    assert Draw() == Wish(prompt="").draw
