"""The engine against its slow twin, which takes one sequence and one token a step; and what it does for many."""

import random
from math import ceil

import pytest

from loam.core.errors import ModelFailure
from loam.engine.asks import Ask, Draw
from loam.engine.kvcache import PAGE
from tests.engine.worlds import VOCABULARY, HashForward, engine, finish, plainly, run, some_asks, text

GREEDY = Draw(temperature=0.0)


def tokens(chance: random.Random, count: int) -> tuple[int, ...]:
    return tuple(chance.randrange(VOCABULARY) for _ in range(count))


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("case", range(12))
def test_any_mixture_of_asks_gets_the_twins_tokens(case, uniform):
    """Random batches, budgets, memory so short that answers are set aside, guesses on and off, a draft or none."""
    chance = random.Random(case)
    asks = some_asks(chance, 12, adapters=("", "", "french"))
    made = engine(
        HashForward(uniform=uniform),
        pages=chance.choice([11, 16, 40, 200]),
        batch=chance.choice([1, 3, 8, 32]),
        rows=chance.choice([1, 40, 64, 512]),
        guesses=chance.choice([0, 4, 12]),
        draft=chance.choice([None, HashForward(salt=chance.choice([0, 1]))]),
        adapters=("french",),
    )
    told = {ask.id: [] for ask in asks}
    for ask in asks:  # they come while others are being answered
        made.add(ask)
        for _ in range(chance.choice([0, 0, 1, 5])):
            for said in made.step():
                told[said.ask].append(said)
    finish(made, told)
    twin = HashForward(uniform=uniform)
    for ask in asks:
        expected = plainly(twin, ask)
        assert text(told[ask.id]) == text(expected), ask
        assert [said.ending is not None for said in told[ask.id]] == [False] * (len(told[ask.id]) - 1) + [True]
        if ask.logprobs is not None:
            assert [(s.logprob, s.top) for s in told[ask.id] if s.token >= 0] == [(s.logprob, s.top) for s in expected]
    assert made.free_pages == made._cache.pages, "no page is lost"


@pytest.mark.parametrize("uniform", [True, False])
def test_memory_too_short_sets_answers_aside_and_changes_nothing(uniform):
    """What is taken up again is read as prompt up to the prompt's end, and from there on as what was written."""
    chance = random.Random(1)
    asks = [Ask(id=str(n), prompt=tokens(chance, 20), max_tokens=150, draw=Draw(seed=n)) for n in range(6)]
    short, ample = (engine(HashForward(uniform=uniform), pages=pages, guesses=0) for pages in (12, 200))
    told, expected = run(short, *asks), run(ample, *asks)
    assert {name: text(said) for name, said in told.items()} == {name: text(said) for name, said in expected.items()}
    assert short.set_aside > 0
    assert ample.set_aside == 0


def test_prompts_are_read_in_chunks_and_answers_go_on_meanwhile():
    """No step has more rows than said; while 1,000 tokens are read, the other answer gets a token at every step."""
    chance, forward = random.Random(2), HashForward()
    made = engine(forward, pages=100, rows=64, batch=8, guesses=0)
    made.add(Ask(id="old", prompt=(1, 2, 3), max_tokens=200, draw=GREEDY))
    made.step()
    made.add(Ask(id="long", prompt=tokens(chance, 1000), max_tokens=4, draw=GREEDY))
    steps, first = 0, False
    while not first:
        said = made.step()
        steps += 1
        assert [each.ask for each in said if each.ask == "old"] == ["old"]
        first = any(each.ask == "long" for each in said)
    assert steps == ceil(1000 / 63)
    assert max(len(rows.tokens) for rows in forward.steps) <= 64


def test_the_time_to_a_first_token_is_bounded_by_what_came_before():
    """While 32 answers are written, a new prompt's first token comes as soon as the rows left over have read it."""
    chance, forward = random.Random(3), HashForward()
    made = engine(forward, pages=200, batch=40, rows=96, guesses=0)
    for n in range(32):
        made.add(Ask(id=str(n), prompt=tokens(chance, 5), max_tokens=100, draw=GREEDY))
    for _ in range(5):
        made.step()
    made.add(Ask(id="new", prompt=tokens(chance, 300), max_tokens=2, draw=GREEDY))
    steps = 1
    while not any(said.ask == "new" for said in made.step()):
        steps += 1
    assert steps == ceil(300 / (96 - 32))


def test_who_comes_first_is_read_first():
    chance, order = random.Random(4), []
    made = engine(pages=100, rows=64, batch=4, guesses=0)
    for n in range(8):
        made.add(Ask(id=str(n), prompt=tokens(chance, 100), max_tokens=3, draw=GREEDY))
    while not made.idle:
        order += [said.ask for said in made.step() if said.ask not in order]
    assert order == [str(n) for n in range(8)]


def test_a_cancelled_answer_frees_slot_and_pages_before_the_next_step():
    chance, forward = random.Random(5), HashForward()
    made = engine(forward, pages=8, batch=1, guesses=0)
    made.add(Ask(id="a", prompt=tokens(chance, 100), max_tokens=50, draw=GREEDY))
    made.add(Ask(id="b", prompt=tokens(chance, 90), max_tokens=50, draw=GREEDY))
    made.step()
    assert (made.running, made.waiting, made.free_pages) == (1, 1, 4)
    last = made.cancel("a")
    assert last is not None
    assert last.ending == "cancelled"
    assert (made.running, made.waiting, made.free_pages) == (0, 1, 8)
    said = made.step()
    assert [each.ask for each in said] == ["b"], "the slot is used in the very next step"
    assert made.cancel("a") is None
    waits = Ask(id="c", prompt=(1,), max_tokens=5)
    made.add(waits)
    assert made.cancel("c") is not None
    assert made.waiting == 0
    made.cancel("b")
    assert made.idle
    assert made.free_pages == 8
    assert made.step() == []


def test_many_answers_to_one_prompt_read_it_once():
    """Asked at the same moment: seven stand by while the first reads, then each reads the last page's rest alone."""
    chance, forward = random.Random(6), HashForward()
    prompt = tokens(chance, 330)
    made = engine(forward, pages=200, rows=64, guesses=0)
    asks = [Ask(id=str(n), prompt=prompt, max_tokens=5, draw=Draw(seed=n)) for n in range(8)]
    told = run(made, *asks)
    read = sum(span.count for rows in forward.steps for span in rows.spans if span.prompt)
    assert read == 330 + 7 * (330 - 320)
    assert [told[str(n)][0].cached for n in range(8)] == [0] + [320] * 7
    assert len({tuple(text(said)) for said in told.values()}) > 1


def test_those_who_stand_by_read_for_themselves_when_the_reader_is_cancelled():
    chance, forward = random.Random(7), HashForward()
    prompt = tokens(chance, 330)
    made = engine(forward, pages=200, rows=64, guesses=0)
    asks = [Ask(id=str(n), prompt=prompt, max_tokens=5, draw=GREEDY) for n in range(3)]
    for ask in asks:
        made.add(ask)
    made.step()
    made.cancel("0")
    told = {"1": [], "2": []}
    finish(made, told)
    assert text(told["1"]) == text(told["2"]) == text(plainly(HashForward(), asks[1]))


@pytest.mark.parametrize("uniform", [True, False])
def test_an_answers_pages_are_lent_to_the_next_turn_only_where_that_changes_nothing(uniform):
    chance, forward = random.Random(8), HashForward(uniform=uniform)
    made = engine(forward, pages=200)
    first = Ask(id="1", prompt=tokens(chance, 40), max_tokens=90, draw=GREEDY)
    answer = text(run(made, first)["1"])
    second = Ask(id="2", prompt=(*first.prompt, *answer, 5, 6, 7), max_tokens=20, draw=GREEDY)
    told = run(made, second)["2"]
    assert told[0].cached == (128 if uniform else 32)
    assert text(told) == text(plainly(HashForward(uniform=uniform), second))


def test_adapters_share_nothing_with_each_other():
    chance = random.Random(9)
    prompt = tokens(chance, 100)
    made = engine(adapters={"a", "b"})
    asks = [Ask(id=name or "none", prompt=prompt, max_tokens=9, draw=GREEDY, adapter=name) for name in ("", "a", "b")]
    told = run(made, *asks)
    assert [said[0].cached for said in told.values()] == [0, 0, 0]
    assert [text(told[ask.id]) for ask in asks] == [text(plainly(HashForward(), ask)) for ask in asks]
    made.forget()
    assert run(made, asks[0])["none"][0].cached == 0
    assert run(made, asks[0])["none"][0].cached == 96


@pytest.mark.parametrize("rows", [33, 512])
def test_a_prompt_is_scored_without_writing_a_token(rows):
    chance = random.Random(10)
    ask = Ask(id="echo", prompt=tokens(chance, 300), max_tokens=0, prompt_logprobs=2)
    made = engine(rows=rows, batch=1)
    run(made, Ask(id="warm", prompt=ask.prompt, max_tokens=3))  # what is cached has no logits: it is read again
    (said,) = run(made, ask)["echo"]
    assert max(len(each.wanted) for each in made._forward.steps) <= 128, "a row of logits is a vocabulary wide"
    assert (said.token, said.ending, said.cached) == (-1, "length", 0)
    assert said.prompt is not None
    assert [likely[0].token for likely in said.prompt] == list(ask.prompt[1:])
    for place in (
        1,
        150,
        299,
    ):  # the twin reads as far as there; the row that gave its next token is the one that scored
        row = plainly(HashForward(), Ask(id="t", prompt=ask.prompt[:place], max_tokens=1, draw=GREEDY, logprobs=2))[0]
        assert said.prompt[place - 1][1:] == row.top
        assert said.prompt[place - 1][1].logprob == pytest.approx(row.logprob)


def test_scores_and_answer_come_together():
    chance = random.Random(11)
    ask = Ask(id="a", prompt=tokens(chance, 70), max_tokens=5, draw=Draw(seed=3), prompt_logprobs=0, logprobs=1)
    told = run(engine(pages=8), ask)["a"]
    assert told[0].prompt is not None
    assert [len(each) for each in told[0].prompt] == [1] * 69
    assert all(said.prompt is None for said in told[1:])
    assert text(told) == text(plainly(HashForward(), ask))


def test_a_stop_token_is_named_and_not_told_as_a_token():
    ask = Ask(id="a", prompt=(5, 6, 7), max_tokens=50, draw=GREEDY, logprobs=0)
    whole = text(run(engine(), ask)["a"])
    stop = whole[10]
    cut = whole.index(stop)
    told = run(
        engine(), Ask(id="a", prompt=(5, 6, 7), max_tokens=50, draw=GREEDY, logprobs=0, stop_tokens=frozenset([stop]))
    )
    assert text(told["a"]) == whole[:cut]
    last = told["a"][-1]
    assert (last.token, last.ending, last.stop) == (-1, "stop", stop)
    assert last.logprob is not None


@pytest.mark.parametrize(("context", "pages"), [(50, 64), (4096, 2)])
def test_an_answer_ends_where_the_context_or_the_memory_is_full(context, pages):
    made = engine(HashForward(context=context), pages=pages)
    told = run(made, Ask(id="a", prompt=tuple(range(30)), max_tokens=500))["a"]
    assert len(text(told)) == made.context - 30
    assert told[-1].ending == "length"


def test_logits_that_are_no_numbers_end_their_own_ask_alone():
    forward, well = HashForward(), Ask(id="well", prompt=(3, 4), max_tokens=30, draw=GREEDY)
    expected = text(plainly(HashForward(), well))
    forward.broken = frozenset(range(VOCABULARY)) - {3, 4} - set(expected)
    ill = min(forward.broken)
    made = engine(forward)
    told = run(
        made,
        well,
        Ask(id="ill", prompt=(3, ill), max_tokens=30),
        Ask(id="ill2", prompt=(ill,), max_tokens=3, draw=GREEDY),
    )
    assert text(told["well"]) == expected
    for name in ("ill", "ill2"):
        assert told[name][-1].ending == "failed"
        assert told[name][-1].failure.kind == "internal"
    assert made.free_pages == 64


@pytest.mark.parametrize(
    ("ask", "kind", "param"),
    [
        (Ask(id="a", prompt=(), max_tokens=5), "bad_request", "prompt"),
        (Ask(id="a", prompt=(1, VOCABULARY), max_tokens=5), "bad_request", "prompt"),
        (Ask(id="a", prompt=(1, -1), max_tokens=5), "bad_request", "prompt"),
        (Ask(id="a", prompt=(1,) * 4096, max_tokens=5), "context_window", "prompt"),
        (Ask(id="a", prompt=(1,), max_tokens=-1), "bad_request", "max_tokens"),
        (Ask(id="a", prompt=(1,), max_tokens=5, logprobs=-1), "bad_request", "logprobs"),
        (Ask(id="a", prompt=(1,), max_tokens=5, prompt_logprobs=10**9), "bad_request", "prompt_logprobs"),
        (Ask(id="a", prompt=(1,), max_tokens=5, draw=Draw(top_p=7.0)), "bad_request", "top_p"),
        (Ask(id="a", prompt=(1,), max_tokens=5, adapter="unknown"), "not_found", "adapter"),
        (Ask(id="a", prompt=(1,), max_tokens=5, grammar="{}"), "unsupported", ""),
        (Ask(id="there", prompt=(1,), max_tokens=5), "conflict", ""),
    ],
)
def test_what_cannot_be_answered_is_refused_at_the_door(ask, kind, param):
    made = engine(pages=200)
    there = Ask(id="there", prompt=(8, 9), max_tokens=9, draw=GREEDY)
    made.add(there)
    with pytest.raises(ModelFailure) as refused:
        made.add(ask)
    assert (refused.value.failure.kind, refused.value.failure.param) == (kind, param)
    told = {"there": []}
    finish(made, told)
    assert text(told["there"]) == text(plainly(HashForward(), there))


def test_a_full_queue_says_when_to_come_back():
    made = engine(queue=3, batch=1)
    for n in range(3):
        made.add(Ask(id=str(n), prompt=(1,), max_tokens=5))
    with pytest.raises(ModelFailure) as refused:
        made.add(Ask(id="more", prompt=(1,), max_tokens=5))
    failure = refused.value.failure
    assert (failure.kind, failure.http_status) == ("rate_limit", 429)
    assert failure.retry_after is not None
    assert 1.0 <= failure.retry_after <= 60.0
    made.step()
    made.add(Ask(id="more", prompt=(1,), max_tokens=5))


def test_a_step_that_breaks_can_be_tried_again():
    """The forward runs out of memory once: no token is lost or doubled."""
    forward, plain = HashForward(), HashForward.step
    made = engine(forward, guesses=0)
    ask = Ask(id="a", prompt=tuple(range(50)), max_tokens=40, draw=Draw(seed=1))
    made.add(ask)
    told = {"a": made.step()}
    forward.step = lambda rows, cache: (_ for _ in ()).throw(MemoryError)
    with pytest.raises(MemoryError):
        made.step()
    forward.step = lambda rows, cache: plain(forward, rows, cache)
    finish(made, told)
    assert text(told["a"]) == text(plainly(HashForward(), ask))


def test_a_page_is_enough_to_begin_and_none_is_held_for_tokens_that_may_never_come():
    made = engine(pages=4, guesses=0)
    for n in range(3):
        made.add(Ask(id=str(n), prompt=(n,), max_tokens=100, draw=GREEDY))
    made.step()
    assert made.free_pages >= 4 - 3
    assert PAGE == 32
