"""Answers that a grammar allows: JSON Schema, regular expressions and Lark, by llguidance.

Knows tokens and grammars, no model. Invariant: a token that `mask` does not allow is never written, and what llguidance
cannot hold to exactly is refused in its own words, never quietly loosened (no `lenient`, no `coerce_one_of`).
"""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from loam.core.errors import ModelFailure, refuse
from loam.engine.formats import narrowed

SPACES = r"[\x20\x0A\x0D\x09]{0,20}"
"""Between the parts of JSON: enough for a model's own indentation, with an end for one that writes spaces for ever."""
ENDS = """}])>",:;0123456789ntf-[{(<.@_/abcdeghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ """
"""What a search for an end tries, in this order."""
LONGEST_GRAMMAR = 1_000_000
"""Characters."""
SHORT_WAY, LONGEST_WAY = 64, 512
"""Tokens: ways to an end are looked for among the short ones first; a longer one than these is not looked for."""
_LIMITS = LLParserLimits(verbose_errors=False, max_grammar_size=200_000)


def grammar_of(*, schema: dict[str, Any] | str | None = None, regex: str | None = None, lark: str | None = None) -> str:
    """The llguidance grammar, as its JSON, of a JSON Schema, a regular expression or a Lark grammar: exactly one.

    Raises `ModelFailure`: "unsupported" with llguidance's words where it cannot hold to the grammar exactly.
    """
    source = schema if schema is not None else regex if regex is not None else lark
    if source is None or sum(each is not None for each in (schema, regex, lark)) != 1:
        raise refuse("bad_request", "give exactly one of a JSON Schema, a regular expression and a Lark grammar")
    text = source if isinstance(source, str) else json.dumps(source)
    if schema is not None:
        text = _schema_text(text)
    if len(text) > LONGEST_GRAMMAR:
        raise refuse("too_large", f"a grammar of {len(text):,} characters; at most {LONGEST_GRAMMAR:,}")
    if schema is not None:
        try:
            grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": SPACES})
        except ValueError as error:
            raise refuse("bad_request", f"the schema is not a JSON Schema: {error}") from error
    elif regex is not None:
        grammar = LLMatcher.grammar_from_regex(regex)
    else:
        grammar = LLMatcher.grammar_from_lark(text)
    wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=_LIMITS)
    if wrong or messages:
        raise _unsupported("; ".join(messages))
    return grammar


def _schema_text(text: str) -> str:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise refuse("bad_request", f"the schema is not JSON: {error}") from error
    except RecursionError as error:
        raise refuse("too_large", "the schema is nested too deeply") from error
    return json.dumps({} if schema is True else narrowed(schema))  # `true` allows all, as {} does


def _unsupported(words: str) -> ModelFailure:
    return refuse("unsupported", f"the engine cannot hold an answer to this grammar: {words}", code="grammar")


def grammar_tokens(tokenizer: str, *, vocabulary: int, stop_tokens: Collection[int]) -> LLTokenizer:
    """What llguidance needs to know of a tokenizer; takes about a second for a large one, so make it once a model.

    Args:
        tokenizer: the text of a Hugging Face `tokenizer.json`.
        vocabulary: the width of the model's logits, which may be more than the tokenizer's.
        stop_tokens: those that may end an answer; none may be drawn before the grammar allows an end.
    """
    return LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(stop_tokens))


class Constraint:
    """Where one answer stands in its grammar. Raises `ModelFailure` where llguidance gives up, at any call."""

    def __init__(self, grammar: str, tokens: LLTokenizer) -> None:
        self._tokens = tokens
        self._at = LLMatcher(tokens, grammar, log_level=0, limits=_LIMITS)
        self._way: list[int] | None = None  # to an end from here, where one is known
        self._next_way: list[int] | None = None  # from where `steer` leads
        self._ends: list[int] = []
        self._quote = self._letter = 0
        self._best = 0  # the walk that found the last way
        self._steers = False
        self.closed = False
        """Whether a token was written for no other reason than that the limit was near."""
        if self._at.is_error():
            raise _unsupported(self._at.get_error())

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next: (vocabulary,)."""
        return _mask(self._at, self._tokens.vocab_size)

    def advance(self, token: int) -> None:
        """The answer goes on with `token`, or ends where it is one that ends answers."""
        if self._next_way is None and self._way and self._way[0] == token:
            self._next_way = self._way[1:]  # a forced token, which needed no steering
        self._way, self._next_way = self._next_way, None
        if not self._at.consume_token(token):
            raise _unsupported(self._at.get_error().partition("\n")[0])

    def forced(self, most: int) -> list[int]:
        """Tokens that the grammar leaves no choice about, at most `most`: each is alone in the mask of its place."""
        return self._at.compute_ff_tokens()[:most]

    def allowed(self, tokens: list[int]) -> list[int]:
        """The beginning of `tokens` that the grammar allows."""
        return tokens[: self._at.validate_tokens(tokens)] if tokens else tokens

    @property
    def ended(self) -> bool:
        """Whether the grammar is complete and nothing can be added to it."""
        return self._at.is_stopped()

    @property
    def accepting(self) -> bool:
        """Whether what is written so far is whole as it stands, though more may be allowed."""
        return self._at.is_accepting()

    def ends(self, token: int) -> bool:
        """Whether `token` is one of those that end an answer."""
        return token in self._tokens.eos_tokens

    def close_within(self, most: int) -> None:
        """Look for a way to end, which `steer` then keeps. Raises `ModelFailure` where `most` tokens do not suffice."""
        self._ends = [token for each in ENDS for token in self._tokens.greedy_tokenize(each)[:1]]
        self._quote, self._letter = (self._tokens.greedy_tokenize(each)[0] for each in '"q')
        for walk in range(3):
            way = self._walk(self._at.deep_copy(), walk, LONGEST_WAY if self._way is None else len(self._way) - 1)
            if way is not None:
                self._way, self._best = way, walk
        if self._way is None or len(self._way) > most:
            found = "no way to end it was found" if self._way is None else f"the shortest found takes {len(self._way)}"
            raise refuse("bad_request", f"{most} tokens are too few for this grammar: {found}", param="max_tokens")
        self._steers = True

    def steer(self, token: int, left: int) -> int:
        """`token`; or another one where after `token` no end is found within the `left - 1` tokens that remain.

        A way to end is known at every token, and mostly it is still one after the next: that takes some 30 microseconds
        to see. Only where a bracket, a key or a value begins is one looked for anew, in about a millisecond.
        """
        if not self._steers:
            return token
        after = self._at.deep_copy()
        if not after.consume_token(token):
            return token  # `advance` will say why
        way = self._old_way(after, left - 1)
        if way is None:
            way = self._way_to_end(after, left - 1)
        if way is None and self._way is not None and left <= LONGEST_WAY:
            self.closed = True
            token, *way = self._way or [self._tokens.eos_token]
        self._next_way = way
        return token

    def _old_way(self, after: LLMatcher, most: int) -> list[int] | None:
        """The way known so far, or the rest of it, where it still leads to an end; most tokens change nothing of it."""
        way = self._way or []
        for start in range(min(len(way), 8) + 1):
            rest = way[start:]
            if len(rest) <= most and after.validate_tokens(rest) == len(rest):
                after.consume_tokens(rest)
                ended = after.is_accepting()
                after.rollback(len(rest))
                if ended:
                    return rest
        return None

    def _way_to_end(self, start: LLMatcher, most: int) -> list[int] | None:
        """Tokens, at most `most`, after which the grammar may end: the first of three greedy walks that gets there.

        Not surely the shortest. The walk that found the last way is tried first.
        """
        if start.is_accepting():
            return []
        walks = sorted(range(3), key=lambda each: each != self._best)
        for longest in (SHORT_WAY, LONGEST_WAY):  # a walk in circles is given up early where another one ends
            for walk in walks:
                way = self._walk(start.deep_copy(), walk, min(most, longest))
                if way is not None:
                    self._best = walk
                    return way
            if most <= longest:
                break
        return None

    def _walk(self, at: LLMatcher, walk: int, most: int) -> list[int] | None:
        way: list[int] = []
        while not at.is_accepting():
            forced = at.compute_ff_tokens()
            taken = forced or [self._preferred(at, walk, way)]
            if len(way) + len(taken) > most or at.try_consume_tokens(taken) < len(taken):
                return None
            way += taken
        return way

    def _preferred(self, at: LLMatcher, walk: int, way: list[int]) -> int:
        """A token that may lead to an end.

        In a string its quote, first of all in walk 1; else the first of `ENDS`, in walk 2 the one least used so far.
        One by one, because a mask over a large vocabulary costs as much as a hundred of these.
        """

        def may(token: int) -> bool:
            return at.validate_tokens([token]) == 1

        if may(self._quote) and (walk == 1 or may(self._letter)):
            return self._quote
        ends = self._ends
        if walk == 2:
            space = ends[-1]
            ends = sorted(ends, key=lambda each: (each == space, way.count(each)))
        end = next(filter(may, ends), None)
        return int(_mask(at, self._tokens.vocab_size).argmax()) if end is None else end


def _mask(at: LLMatcher, vocabulary: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(at.compute_bitmask(), dtype=np.uint8)
    if at.is_error():
        raise _unsupported(at.get_error().partition("\n")[0])
    return np.unpackbits(bits, count=vocabulary, bitorder="little").view(np.bool_)
