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

SPACES = r"[\x20\x0A\x0D\x09]{0,20}"
"""Between the parts of JSON: enough for a model's own indentation, with an end for one that writes spaces for ever."""
ENDS = """}]")>,:;.@-_/ 0123456789tfnabcdeghijklmopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"""
"""What a search for an end tries, in this order."""
LONGEST_GRAMMAR = 1_000_000
"""Characters."""
LONGEST_CLOSING = 2048
"""Tokens that the search for a way to end may take."""
_LIMITS = LLParserLimits(verbose_errors=False, max_grammar_size=200_000)


def grammar_of(*, schema: dict[str, Any] | str | None = None, regex: str | None = None, lark: str | None = None) -> str:
    """The llguidance grammar, as its JSON, of a JSON Schema, a regular expression or a Lark grammar: exactly one.

    Raises `ModelFailure`: "unsupported" with llguidance's words where it cannot hold to the grammar exactly.
    """
    source = schema if schema is not None else regex if regex is not None else lark
    if source is None or sum(each is not None for each in (schema, regex, lark)) != 1:
        raise refuse("bad_request", "give exactly one of a JSON Schema, a regular expression and a Lark grammar")
    text = source if isinstance(source, str) else json.dumps(source)
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
        self._strategy = 0
        self._zone = 0
        self.closed = False
        """Whether a token was written for no other reason than that the limit was near."""
        if self._at.is_error():
            raise _unsupported(self._at.get_error())

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next: (vocabulary,)."""
        return _mask(self._at, self._tokens.vocab_size)

    def advance(self, token: int) -> None:
        """The answer goes on with `token`, or ends where it is one that ends answers."""
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
        """Look for a way to end before `steer` is used. Raises `ModelFailure` where `most` tokens do not suffice."""
        self._ends = [token for each in ENDS for token in self._tokens.greedy_tokenize(each)[:1]]
        found = self._way_to_end(self._at, LONGEST_CLOSING)
        if found is None or len(found) > most:
            shortest = "no way to end it was found" if found is None else f"the shortest end found takes {len(found)}"
            raise refuse("bad_request", f"{most} tokens are too few for this grammar: {shortest}", param="max_tokens")
        self._zone = 4 * len(found) + 64

    def steer(self, token: int, left: int) -> int:
        """`token`, or another one where after `token` the `left - 1` tokens that remain would not suffice for an end.

        Only near the limit: before, an end is far closer than the limit, and looking for it costs about a millisecond.
        """
        if left > self._zone:
            return token
        after = self._at.deep_copy()
        if not after.consume_token(token):
            return token  # `advance` will say why
        way = [] if after.is_stopped() else self._way_to_end(after, left - 1)
        if way is None:
            here = self._way if self._way is not None else self._way_to_end(self._at, left)
            if here is not None:
                self.closed = True
                token, *way = here or [self._tokens.eos_token]
        self._next_way = way
        return token

    def _way_to_end(self, start: LLMatcher, most: int) -> list[int] | None:
        """Tokens, at most `most`, after which the grammar may end: the first of three greedy walks that gets there.

        Not surely the shortest. The walk that found the last way is tried first.
        """
        if start.is_accepting():
            return []
        for turn in range(3):
            strategy = (self._strategy + turn) % 3
            way = self._walk(start.deep_copy(), strategy, most)
            if way is not None:
                self._strategy = strategy
                return way
        return None

    def _walk(self, at: LLMatcher, strategy: int, most: int) -> list[int] | None:
        way: list[int] = []
        while not at.is_accepting():
            forced = at.compute_ff_tokens()
            taken = forced or [self._preferred(_mask(at, self._tokens.vocab_size), strategy, way)]
            if len(way) + len(taken) > most or at.try_consume_tokens(taken) < len(taken):
                return None
            way += taken
        return way

    def _preferred(self, mask: NDArray[np.bool_], strategy: int, way: list[int]) -> int:
        """Of the tokens that may lead to an end: brackets before quotes, but quotes in a string; or the least used."""
        ends = [token for token in self._ends if mask[token]]
        if not ends:
            return int(mask.argmax())
        if strategy == 2:
            return min(ends, key=way.count)
        quote, letter = self._tokens.greedy_tokenize('"')[0], self._tokens.greedy_tokenize("q")[0]
        return quote if mask[quote] and (strategy == 1 or mask[letter]) else ends[0]


def _mask(at: LLMatcher, vocabulary: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(at.compute_bitmask(), dtype=np.uint8)
    if at.is_error():
        raise _unsupported(at.get_error().partition("\n")[0])
    return np.unpackbits(bits, count=vocabulary, bitorder="little").view(np.bool_)
