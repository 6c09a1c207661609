"""The engine: asks in, tokens out, many at a time, one step after the other.

Knows everything of this folder but files, text and processes; one thread drives it (`worker` does). Invariant: what an
ask is told depends on the ask and the model alone (P9). Which step computes a token, beside whom, after which guesses
and on which pages decides when it comes, never which it is.
"""

from collections.abc import Callable, Container
from time import monotonic

import numpy as np
import torch
from llguidance import LLTokenizer
from msgspec import Struct

from loam.core.errors import refuse
from loam.engine.answering import Answers
from loam.engine.architecture import Architecture
from loam.engine.asks import Ask, Said
from loam.engine.constrain import Constraint
from loam.engine.drafting import Drafts
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.pages import Pages
from loam.engine.rows import Forward, Rows, Span
from loam.engine.sampling import Floats, Sampler, check
from loam.engine.scheduler import Scheduler, Sequence, Turn
from loam.engine.speculation import Costs, Guesses, Rates

MOST_LIKELY = 1024
"""The most logprobs a token that can be asked for."""


class EngineSettings(Struct, frozen=True, kw_only=True):
    """How much the engine does at a time."""

    batch: int = 32
    """Answers that are written together."""
    rows: int = 512
    """Tokens a step, at most. It bounds how long a long prompt can hold up the next token of everybody else."""
    queue: int = 256
    """Asks that may wait; more are refused, with a time to come back."""
    guesses: int = 12
    """Tokens that an answer may guess ahead in a step, at most; 0: never."""


def page_bytes(architecture: Architecture, dtype: torch.dtype = torch.float32) -> int:
    """What one page of the cache takes, keys and values of all layers."""
    return 2 * architecture.layers * architecture.kv_heads * PAGE * architecture.head_width * dtype.itemsize


class Engine:
    """Writes answers with one model.

        engine = Engine(forward, PagedCache(forward.architecture, pages=256))
        engine.add(Ask(id="1", prompt=(5, 6), max_tokens=10))
        while not engine.idle:
            for said in engine.step(): ...

    `tokens` are needed for grammars only; `adapters` are the names that an ask may give. `draft` guesses; it must have
    the vocabulary of `forward`.
    """

    def __init__(
        self,
        forward: Forward,
        cache: PagedCache,
        settings: EngineSettings | None = None,
        *,
        draft: Forward | None = None,
        tokens: LLTokenizer | None = None,
        adapters: Container[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.settings = settings or EngineSettings()
        self._forward, self._cache, self._tokens, self._adapters, self._clock = forward, cache, tokens, adapters, clock
        batch = min(self.settings.batch, cache.pages)
        rows = max(self.settings.rows, batch + PAGE)  # prompts move, however many answers are written
        self._scheduler = Scheduler(Pages(cache.pages), batch=batch, rows=rows, uniform=forward.uniform)
        self._drafts = Drafts(draft, cache, forward.architecture.vocabulary, clock) if draft is not None else None
        self._sequences: dict[str, Sequence] = {}
        self._added = 0
        self._rates, self._costs = Rates(), Costs()
        self._seconds_an_ask, self._last_end = 1.0, clock()
        self._answers = Answers(self._scheduler, self._drafts)

    @property
    def context(self) -> int:
        """Tokens of prompt and answer that fit: the model's context, or all pages where they are fewer."""
        return min(self._forward.architecture.context, self._cache.pages * PAGE)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._sequences

    @property
    def waiting(self) -> int:
        """Asks that no step has begun yet."""
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        """Asks that hold a slot."""
        return len(self._scheduler.running)

    @property
    def free_pages(self) -> int:
        """Pages that nobody holds; what is on them may still be found."""
        return self._scheduler.pages.free

    @property
    def set_aside(self) -> int:
        """How often an answer had to give its pages back before its end; often: give the engine more memory."""
        return self._scheduler.set_aside

    @property
    def guesses(self) -> tuple[int, int]:
        """Tokens that were tried ahead of their time so far, by copying or a draft, and how many of them came true."""
        return self._answers.guessed, self._answers.accepted

    def forget(self) -> None:
        """No later prompt finds what earlier ones left (an adapter of the same name was replaced)."""
        self._scheduler.pages.forget_all()

    def add(self, ask: Ask) -> None:
        """Begin an ask at one of the next steps. Raises `ModelFailure` where it cannot be answered."""
        if ask.id in self._sequences:
            raise refuse("conflict", f"an ask named {ask.id!r} is being answered already")
        self._check(ask)
        if self.waiting >= self.settings.queue:
            wait = min(max(1.0, self._seconds_an_ask * self.waiting), 60.0)
            raise refuse("rate_limit", f"{self.waiting} asks wait for this model already", retry_after=round(wait, 1))
        limit = min(len(ask.prompt) + ask.max_tokens, self.context)
        sequence = Sequence(ask, self._added, Sampler(ask.draw, ask.prompt), limit, list(ask.prompt))
        if ask.grammar:
            sequence.constraint = self._constraint(ask, limit)
        if self.settings.guesses:
            sequence.guesses = Guesses(self._rates)
        self._added += 1
        self._sequences[ask.id] = sequence
        self._scheduler.waiting.append(sequence)

    def _check(self, ask: Ask) -> None:
        vocabulary = self._forward.architecture.vocabulary
        check(ask.draw, vocabulary)
        if not ask.prompt:
            raise refuse("bad_request", "the prompt has no tokens; give at least one", param="prompt")
        if min(ask.prompt) < 0 or max(ask.prompt) >= vocabulary:
            wrong = next(token for token in ask.prompt if not 0 <= token < vocabulary)
            raise refuse("bad_request", f"no token {wrong} in a vocabulary of {vocabulary}", param="prompt")
        if ask.max_tokens < 0:
            raise refuse("bad_request", f"max_tokens is {ask.max_tokens}; it must be 0 or more", param="max_tokens")
        if len(ask.prompt) + min(ask.max_tokens, 1) > self.context:
            raise refuse(
                "context_window",
                f"a prompt of {len(ask.prompt)} tokens leaves no room for an answer in a context of {self.context}",
                param="prompt",
            )
        for name, count in (("logprobs", ask.logprobs), ("prompt_logprobs", ask.prompt_logprobs)):
            if count is not None and not 0 <= count <= MOST_LIKELY:
                raise refuse("bad_request", f"{name} is {count}; it must lie between 0 and {MOST_LIKELY}", param=name)
        if ask.adapter and ask.adapter not in self._adapters:
            raise refuse("not_found", f"no adapter {ask.adapter!r} is loaded", param="adapter")

    def _constraint(self, ask: Ask, limit: int) -> Constraint:
        if self._tokens is None:
            raise refuse("unsupported", "grammars need a tokenizer, and this model was loaded without one")
        constraint = Constraint(ask.grammar, self._tokens)
        if ask.close_grammar:
            constraint.close_within(limit - len(ask.prompt))
        return constraint

    def cancel(self, name: str) -> Said | None:
        """Stop an ask: its slot and pages are free at once. Its last event, or None where it has ended before."""
        sequence = self._sequences.pop(name, None)
        return self._answers.end(sequence, "cancelled") if sequence is not None else None

    def step(self) -> list[Said]:
        """Compute one step, and tell what it wrote: events in order, none of a prompt that is still read."""
        turns = self._scheduler.plan()
        if not turns:
            return []
        self._guess(turns)
        started = self._clock()
        rows, firsts = self._rows(turns)
        with torch.inference_mode():
            logits = self._forward.step(rows, self._cache)
            table, best = _chosen(logits, plain=all(turn.sequence.plain for turn in turns))
        said: list[Said] = []
        for turn, first in zip(turns, firsts, strict=True):
            said += self._answers.take_in(turn, table, best, first)
        for each in said:
            if each.ending is not None:
                self._forget_ended(each.ask)
        if all(turn.sequence.computed > turn.sequence.given for turn in turns):
            self._costs.note(len(rows.tokens), self._clock() - started)
        return said

    def _forget_ended(self, name: str) -> None:
        del self._sequences[name]
        now = self._clock()
        self._seconds_an_ask += 0.1 * (now - self._last_end - self._seconds_an_ask)
        self._last_end = now

    def _guess(self, turns: list[Turn]) -> None:
        writing = [turn for turn in turns if turn.sequence.writes]
        base, each = self._costs.line()
        spare = self._scheduler.spare(turns)
        for turn in writing:
            sequence = turn.sequence
            most = min(spare, self.settings.guesses, sequence.limit - len(sequence.tokens) - 1)
            if sequence.guesses is None or most <= 0:
                continue
            guessed = sequence.constraint.forced(most) if sequence.constraint is not None else []
            turn.forced = len(guessed)
            if not guessed:
                # beside a prompt that is read, a row more costs what it costs: there is no idle memory to fill
                worth = most if len(writing) == len(turns) else 0
                guessed = sequence.guesses.next(sequence.tokens, worth, base=base / len(writing), each=each)
                if sequence.constraint is not None:
                    guessed = sequence.constraint.allowed(guessed)
            turn.guessed = self._with_room(sequence, guessed)
            turn.forced = min(turn.forced, len(turn.guessed))
            spare -= len(turn.guessed)
        if self._drafts is not None and len(writing) == len(turns):
            self._drafts.guess(turns, self._scheduler, base=base / len(writing), each=each, most=self.settings.guesses)

    def _with_room(self, sequence: Sequence, guessed: list[int]) -> list[int]:
        """As many of the guesses as pages can be had for without taking anybody's."""
        length = len(sequence.tokens)
        self._scheduler.reach(sequence, length + len(guessed), force=False)
        return guessed[: len(sequence.pages) * PAGE - length]

    def _rows(self, turns: list[Turn]) -> tuple[Rows, list[int]]:
        """The step's rows, and for each turn the place of its first row among those whose logits are wanted."""
        tokens: list[int] = []
        spans: list[Span] = []
        wanted: list[int] = []
        firsts: list[int] = []
        for turn in turns:
            sequence, start = turn.sequence, turn.sequence.computed
            row, end = len(tokens), start + turn.count
            tokens += sequence.tokens[start:end]
            tokens += turn.guessed
            count = turn.count + len(turn.guessed)
            prompt = start < sequence.given
            spans.append(Span(tuple(sequence.pages), start, count, sequence.ask.adapter, prompt))
            firsts.append(len(wanted))
            if prompt and sequence.scores:
                wanted += range(row, row + turn.count)
            elif end == len(sequence.tokens):
                wanted += range(row + turn.count - 1, row + count)
        return Rows(tuple(tokens), tuple(spans), tuple(wanted)), firsts


def _chosen(logits: torch.Tensor, *, plain: bool) -> tuple[Floats, list[int]]:
    """The logits (wanted, vocabulary) in numpy, and each row's likeliest id, the lowest among equals; -1: no number.

    Where nobody needs more than the likeliest (`plain`), the logits stay on their device: the table has no columns.
    """
    if plain and logits.device.type != "cpu" and len(logits):
        ids = logits.argmax(dim=1)  # the first among equals, as numpy
        if bool(logits.gather(1, ids[:, None]).isfinite().all()):
            return np.empty((len(ids), 0), dtype=np.float32), [int(token) for token in ids.cpu()]
    table: Floats = logits.numpy() if logits.device.type == "cpu" else logits.cpu().numpy()
    if not len(table):
        return table, []
    best = table.argmax(axis=1)
    best[~np.isfinite(table[np.arange(len(table)), best])] = -1
    return table, best.tolist()
