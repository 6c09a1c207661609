"""Grammars on a model that wants to write noise: every answer is valid, and what cannot be held to is refused."""

import json
import random
import re

import jsonschema_rs
import numpy as np
import pytest

from loam.core.errors import ModelFailure
from loam.engine.asks import Ask, Draw
from loam.engine.constrain import Constraint, grammar_of, grammar_tokens
from loam.engine.sampling import Sampler
from tests.engine.checkpoints import write_tokenizer
from tests.engine.schemas import varied
from tests.engine.worlds import HashForward, NoiseForward, engine, finish, plainly, run, text

VOCABULARY, STOP = 512, 1
LIST = {"type": "array", "items": {"type": "string"}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, VOCABULARY - 12, 512)
    return (folder / "tokenizer.json").read_text()


@pytest.fixture(scope="module")
def tokens(written):
    """Of a tokenizer that is a little smaller than the model's logits are wide, as many are."""
    return grammar_tokens(written, vocabulary=VOCABULARY, stop_tokens=[STOP])


def noise(tokens, **settings):
    return engine(HashForward(vocabulary=VOCABULARY), tokens=tokens, pages=400, **settings)


def bounded(digits):
    """JSON's numbers have no bound, the checker's have."""
    return max(min(float(digits), 1e300), -1e300)


def ask(name, grammar, **more):
    more = {"max_tokens": 120, "draw": Draw(seed=hash(name) % 1000), "stop_tokens": frozenset([STOP]), **more}
    return Ask(id=name, prompt=(5, 6, 7), grammar=grammar, close_grammar=True, **more)


def test_every_completion_of_120_schemas_is_valid(tokens):
    """In one batch, at temperatures 0 and 1, some with few tokens; closed where the noise would never end."""
    schemas = varied(120)
    made = engine(NoiseForward(VOCABULARY), tokens=tokens, pages=400)
    asks = [
        ask(str(n), grammar_of(schema=schema), draw=Draw(seed=n, temperature=n % 2), max_tokens=240)
        for n, schema in enumerate(schemas)
    ]
    told = run(made, *asks)
    for n, schema in enumerate(schemas):
        last = told[str(n)][-1]
        assert last.failure is None, (schema, last.failure)
        answer = tokens.decode_str(text(told[str(n)]))
        answer = answer.replace(":60", ":59")  # llguidance allows a leap second at any time, the checker at few
        try:
            jsonschema_rs.validator_for(schema, validate_formats=True).validate(json.loads(answer, parse_float=bounded))
        except ValueError as error:
            raise AssertionError((schema, answer, last)) from error
    assert sum(said[-1].closed for said in told.values()) > 5, "some would never have ended"


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        ({"regex": r"[0-9]{3}-[0-9]{4}"}, r"[0-9]{3}-[0-9]{4}"),
        ({"regex": r"(yes|no|perhaps)"}, r"yes|no|perhaps"),
        ({"regex": r"[a-z]+@[a-z]+\.com"}, r"[a-z]+@[a-z]+\.com"),
        ({"lark": 'start: "x" (" + " NUMBER)+\nNUMBER: /[0-9]{1,2}/'}, r"x( \+ [0-9]{1,2})+"),
        ({"lark": 'start: pair\npair: "(" pair? ")"'}, r"\(+\)+"),
    ],
)
def test_regular_expressions_and_lark(tokens, given, pattern):
    made = noise(tokens)
    told = run(made, *(ask(str(n), grammar_of(**given), max_tokens=40, draw=Draw(seed=n)) for n in range(8)))
    for said in told.values():
        assert re.fullmatch(pattern, tokens.decode_str(text(said))), tokens.decode_str(text(said))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schema": {"not": {"type": "string"}}}, "Unimplemented keys"),
        ({"schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"schema": {"type": "string", "format": "nonsense"}}, "Unknown format"),
        ({"schema": {"type": "integer", "minimum": 5, "maximum": 1}}, "Unsatisfiable"),
        ({"schema": {"$ref": "http://elsewhere.example/schema"}}, "does not fetch"),
        ({"schema": {"type": "wrong"}}, "Invalid type"),
        ({"regex": "(?=a)b"}, "look-ahead"),
        ({"regex": "(" * 50}, "unclosed group"),
        ({"lark": "start: unknown"}, "unknown name"),
    ],
)
def test_what_llguidance_cannot_hold_to_is_refused_in_its_words(given, words):
    with pytest.raises(ModelFailure, match=words) as refused:
        grammar_of(**given)
    assert refused.value.failure.kind == "unsupported"


def test_what_is_no_grammar_is_refused():
    for given in ({}, {"schema": {}, "regex": "a"}, {"schema": "no JSON"}, {"regex": "a" * 2_000_000}):
        with pytest.raises(ModelFailure):
            grammar_of(**given)


def test_a_constraint_is_dropped_into_the_middle_of_a_batch_and_hurts_nobody(tokens):
    free = Ask(id="free", prompt=(9, 9), max_tokens=60, draw=Draw(seed=4))
    made = noise(tokens)
    told = run(made, free, ask("a", grammar_of(schema=LIST)), ask("b", grammar_of(regex="[0-9]+")))
    assert text(told["free"]) == text(plainly(HashForward(vocabulary=VOCABULARY), free))


@pytest.mark.parametrize("guesses", [0, 12])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_are_those_of_masking_and_drawing_one_by_one(tokens, guesses, temperature):
    """The twin asks a fresh matcher for each token's mask. What the grammar forces is jumped over; nothing changes."""
    schema = {
        "type": "object",
        "properties": {
            "question_in_full": {"type": "string", "maxLength": 20},
            "answer_in_words": {"enum": ["yes", "no"]},
        },
        "required": ["question_in_full", "answer_in_words"],
        "additionalProperties": False,
    }
    grammar = grammar_of(schema=schema)

    def allowed(answer):
        at = Constraint(grammar, tokens)
        for token in answer:
            at.advance(token)
        return at.mask() if not at.ended else np.arange(VOCABULARY) == STOP

    draw = Draw(temperature=temperature, repetition_penalty=1.1, frequency_penalty=0.1)
    made = noise(tokens, guesses=guesses)
    asked = Ask(id="a", prompt=(3, 4), max_tokens=120, draw=draw, grammar=grammar, stop_tokens=frozenset([STOP]))
    told = run(made, asked)["a"]
    assert told[-1].ending == "stop"
    assert text(told) == text(plainly(HashForward(vocabulary=VOCABULARY), asked, allowed))
    steps = len(made._forward.steps)
    assert steps < 0.75 * len(text(told)) if guesses else steps >= len(text(told))


def test_forced_tokens_are_alone_in_their_masks(tokens):
    at = Constraint(grammar_of(schema={"const": {"a_long_name": [1, 2, 3]}}), tokens)
    forced = at.forced(100)
    assert forced
    for token in forced:
        assert np.flatnonzero(at.mask()).tolist() == [token]
        at.advance(token)


def test_an_answer_that_may_end_ends_by_a_stop_token_only_where_the_grammar_allows_it(tokens):
    at = Constraint(grammar_of(regex="[a-c]{2,4}"), tokens)
    assert not at.mask()[STOP]
    at.advance(tokens.tokenize_str("a")[0])
    assert not at.mask()[STOP]
    at.advance(tokens.tokenize_str("b")[0])
    assert at.mask()[STOP]
    assert at.accepting
    assert not at.ended
    at.advance(STOP)
    assert at.ended


def test_no_more_tokens_than_asked_and_too_few_are_refused(tokens):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    grammar = grammar_of(schema=schema)
    made = noise(tokens)
    with pytest.raises(ModelFailure, match="too few") as refused:
        made.add(ask("a", grammar, max_tokens=3))
    assert refused.value.failure.param == "max_tokens"
    assert made.idle
    shortest = next(n for n in range(4, 30) if fits(made, grammar, n))
    for most in range(shortest, shortest + 12):
        told = run(made, *(ask(f"{most} {n}", grammar, max_tokens=most, draw=Draw(seed=n)) for n in range(4)))
        for said in told.values():
            assert len(text(said)) <= most
            assert set(json.loads(tokens.decode_str(text(said)))) >= {"name"}


def fits(made, grammar, most):
    try:
        made.add(ask("probe", grammar, max_tokens=most))
    except ModelFailure:
        return False
    made.cancel("probe")
    return True


def test_without_closing_the_answer_is_cut_and_says_so(tokens):
    cut = Ask(id="a", prompt=(5,), max_tokens=12, grammar=grammar_of(schema=LIST), draw=Draw(seed=2))
    told = run(noise(tokens), cut)["a"]
    assert (told[-1].ending, told[-1].closed) == ("length", False)


def test_closing_changes_nothing_before_the_limit_is_near(tokens):
    grammar = grammar_of(schema=LIST)
    plain = Ask(id="a", prompt=(5,), max_tokens=300, grammar=grammar, draw=Draw(seed=2, top_k=5))
    closed = Ask(id="a", prompt=(5,), max_tokens=300, grammar=grammar, draw=plain.draw, close_grammar=True)
    first, second = (text(run(noise(tokens), each)["a"]) for each in (plain, closed))
    assert first[:200] == second[:200]


def test_a_grammar_that_is_too_much_ends_its_own_ask_alone(tokens):
    """A token that the grammar cannot take is an error of that ask: here the mask is broken on purpose."""
    made = noise(tokens)
    asked, other = ask("a", grammar_of(regex="[0-9]+")), Ask(id="b", prompt=(9, 9), max_tokens=20, draw=Draw(seed=4))
    made.add(asked)
    made.add(other)
    sequence = made._sequences["a"]
    sequence.constraint.mask = lambda: np.ones(VOCABULARY, dtype=np.bool_)
    sequence.sampler = Sampler(Draw(temperature=0.0, bias={tokens.tokenize_str("x")[0]: 1000.0}))
    told = {"a": [], "b": []}
    finish(made, told)
    assert told["a"][-1].ending == "failed"
    assert told["a"][-1].failure.kind == "unsupported"
    assert text(told["b"]) == text(plainly(HashForward(vocabulary=VOCABULARY), other))
    assert made.free_pages == 400


def test_a_mixture_under_short_memory_is_the_same_as_alone(tokens):
    """Grammars survive being set aside, guesses and company."""
    chance = random.Random(0)
    asks = [
        ask(str(n), grammar_of(schema=schema), draw=Draw(seed=n), max_tokens=200, logprobs=chance.choice([None, 2]))
        for n, schema in enumerate(varied(60)[30:42])
    ]
    together = run(engine(HashForward(vocabulary=VOCABULARY), tokens=tokens, pages=14, rows=40), *asks)
    for each in asks:
        assert together[each.id][1:] == run(noise(tokens, guesses=0), each)[each.id][1:]
