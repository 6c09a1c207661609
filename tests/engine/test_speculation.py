"""Guesses: what is copied, when it pays, and that they change when tokens come but never which (see test_engine)."""

import random

import pytest

from loam.core.errors import EngineError
from loam.engine.asks import Ask, Draw
from loam.engine.speculation import SIZES, Costs, Guesses, Lookup, Rates, copied, worth
from tests.engine.worlds import VOCABULARY, HashForward, NoiseForward, engine, plainly, run, text


class Timed:
    """A forward whose steps take virtual time, a line in their rows; gives the engine its clock."""

    def __init__(self, inner, base: float, each: float) -> None:
        self.inner, self.base, self.each, self.now, self.rows = inner, base, each, 0.0, 0
        self.architecture, self.uniform = inner.architecture, inner.uniform

    def step(self, rows, cache):
        self.now += self.base + self.each * len(rows.tokens)
        self.rows += len(rows.tokens)
        return self.inner.step(rows, cache)

    def clock(self) -> float:
        return self.now


class Parrot:
    """Copies: after a token comes what followed it in the prompt, now and then something else."""

    uniform = True

    def __init__(self, slips: int) -> None:
        self.architecture = HashForward().architecture
        self.slips, self.text = slips, [(7 * n * n + n) % VOCABULARY for n in range(VOCABULARY)]

    def step(self, rows, cache):
        import torch

        places = [place for span in rows.spans for place in range(span.start, span.start + span.count)]
        logits = torch.zeros(len(rows.wanted), VOCABULARY)
        for at, row in enumerate(rows.wanted):
            token = 5 if self.slips and places[row] % self.slips == 0 else (rows.tokens[row] * 3 + 1) % VOCABULARY
            logits[at, token] = 5.0
        return logits


def naive_find(tokens):
    """The last earlier place after the longest of the sizes that matches, and how far the match reaches back."""
    for size in SIZES:
        for at in range(len(tokens) - 1, size - 1, -1):
            if len(tokens) >= size and tokens[at - size : at] == tokens[-size:]:
                match = size
                while match < min(at, 16) and tokens[at - match - 1] == tokens[len(tokens) - match - 1]:
                    match += 1
                return at, match
    return 0, 0


@pytest.mark.parametrize("case", range(40))
def test_lookup_finds_what_a_search_finds(case):
    chance, lookup, tokens = random.Random(case), Lookup(), []
    for _ in range(150):
        tokens.append(chance.randrange(3))
        lookup.read(tokens, len(tokens))
        assert lookup.find(tokens) == naive_find(tokens)


def test_what_is_copied_goes_on_with_itself():
    assert copied([1, 2, 3, 4], 1, 2) == [2, 3]
    assert copied([1, 2, 3, 4], 2, 7) == [3, 4, 3, 4, 3, 4, 3]


def test_rates_learn_and_begin_with_what_others_saw():
    everyone = Rates()
    assert everyone.of(4) == pytest.approx(1 / 3)
    for _ in range(300):
        Rates(everyone).note(4, right=True)
    assert Rates(everyone).of(4) > 0.9
    assert Rates(everyone).of(16) < 0.5, "long and short matches are told apart"
    own = Rates(everyone)
    for _ in range(60):
        own.note(4, right=False)
    assert own.of(4) < 0.2


@pytest.mark.parametrize(("base", "each"), [(1.0, 0.05), (0.2, 0.5), (3.0, 0.001)])
def test_costs_are_fitted_to_what_steps_took(base, each):
    chance, costs = random.Random(0), Costs()
    for _ in range(400):
        rows = chance.choice([1, 2, 5, 9])
        costs.note(rows, (base + each * rows) * chance.uniform(0.95, 1.05))
    assert costs.line() == (pytest.approx(base, rel=0.2), pytest.approx(each, rel=0.2, abs=0.02))


def test_costs_are_sane_before_and_with_a_single_size_of_step():
    costs = Costs()
    assert min(costs.line()) > 0
    for _ in range(1000):
        costs.note(1, 0.01)
    base, each = costs.line()
    assert base + each == pytest.approx(0.01, rel=0.01)
    assert 0 < each < base


def test_what_is_worth_guessing():
    assert worth([0.9] * 12, base=1.0, each=0.01) == 12
    assert worth([0.9] * 12, base=0.05, each=1.0) == 0, "a row that costs what a step costs never pays"
    assert worth([0.05] * 12, base=1.0, each=0.3) == 0
    assert 0 < worth([0.6] * 12, base=1.0, each=0.1) < 6
    assert worth([0.9] * 12, base=1.0, each=0.01, guess=0.9) < 12, "a dear draft guesses less"
    assert worth([], base=1.0, each=0.1) == 0
    assert worth([0.1, 1.0, 1.0, 1.0, 1.0, 1.0], base=1.0, each=0.01) > 1, "it looks over a doubtful first guess"


def test_a_guess_that_is_not_made_is_learnt_from():
    guesses, tokens = Guesses(Rates()), [1, 2, 3, 9, 1, 2, 3]
    for _ in range(80):
        assert guesses.next(tokens, 0, base=1.0, each=0.01) == []
        guesses.tell([], [9])
    assert guesses.rates.of(3) > 0.9
    assert len(guesses.next(tokens, 4, base=1.0, each=0.01)) == 4


def spent(forward, guesses, asks, *, base=1.0, each=0.05, draft=None):
    """Virtual seconds for all answers, and the answers."""
    timed = Timed(forward, base, each)
    if draft is not None:
        plain = draft.step

        def step(rows, cache):
            timed.now += 0.05 * base
            return plain(rows, cache)

        draft.step = step
    told = run(engine(timed, guesses=guesses, clock=timed.clock, draft=draft), *asks)
    return timed.now, {name: text(said) for name, said in told.items()}


def test_copying_pays_and_changes_nothing():
    asks = [Ask(id="a", prompt=tuple(range(60)), max_tokens=400, draw=Draw(temperature=0.0))]
    plain, expected = spent(Parrot(slips=50), 0, asks)
    guessed, told = spent(Parrot(slips=50), 12, asks)
    assert told == expected
    assert plain / guessed > 2.5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("each", [0.05, 1.0])
def test_where_nothing_repeats_guessing_costs_next_to_nothing(temperature, each):
    asks = [Ask(id=str(n), prompt=(n, 3), max_tokens=300, draw=Draw(temperature=temperature)) for n in range(3)]
    plain, expected = spent(NoiseForward(VOCABULARY), 0, asks, each=each)
    guessed, told = spent(NoiseForward(VOCABULARY), 12, asks, each=each)
    assert told == expected
    assert guessed < 1.03 * plain


def test_a_good_draft_pays_and_a_bad_one_is_left_alone():
    asks = [Ask(id="a", prompt=(4, 3), max_tokens=300, draw=Draw(temperature=0.7, top_k=3, seed=1))]
    plain, expected = spent(NoiseForward(VOCABULARY), 0, asks)
    good, told = spent(NoiseForward(VOCABULARY), 8, asks, draft=NoiseForward(VOCABULARY))
    bad, told_too = spent(NoiseForward(VOCABULARY), 8, asks, draft=HashForward())
    assert told == told_too == expected
    assert plain / good > 2.0
    assert bad < 1.1 * plain


def test_a_draft_at_a_temperature_draws_what_the_model_draws():
    """The same chance for both: where draft and model are the same, every guess is right, at any temperature."""
    forward = HashForward()
    made = engine(forward, draft=HashForward(), guesses=6)
    made._costs.line, made._drafts._costs.line = lambda: (1.0, 1e-6), lambda: (1e-6, 1e-6)
    ask = Ask(id="a", prompt=(5, 6, 7), max_tokens=70, draw=Draw(seed=2))
    made._rates.of = lambda match: 0.0  # no copying
    told = run(made, ask)["a"]
    assert text(told) == text(plainly(HashForward(), ask))
    assert len(forward.steps) <= 2 + 70 / 6


def test_a_draft_with_another_vocabulary_is_refused():
    with pytest.raises(EngineError, match="vocabulary of 50, the model one of 97"):
        engine(HashForward(), draft=HashForward(vocabulary=50))
