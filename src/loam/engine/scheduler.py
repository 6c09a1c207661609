"""Which tokens of which sequences the next step computes: first come first served, under a budget of rows a step.

Knows sequences and pages, no logits. Invariant: the sequence that came first never waits for pages and is never set
aside, and alone it always fits; so some sequence moves at every step, and none can wait for ever.

Pages are taken as they are needed, not reserved for the longest answer possible: a short answer must not keep room that
it never uses. Where none is left, the sequence that came last is set aside: its pages go, its tokens stay, and it is
taken up again, first of all that wait, by computing its tokens anew (or finding them, where nobody needed their pages).
"""

from collections import deque
from dataclasses import dataclass, field

from loam.engine.asks import Ask, Likely
from loam.engine.constrain import Constraint
from loam.engine.kvcache import PAGE
from loam.engine.pages import Node, Pages
from loam.engine.sampling import Sampler
from loam.engine.speculation import Guesses

MOST_SCORED = 128
"""Prompt rows a step whose logits are wanted: each is a vocabulary wide."""


@dataclass(slots=True, eq=False)
class Sequence:
    """An ask on its way. Positions before `computed` have their keys and values in the cache."""

    ask: Ask
    number: int
    """The how-manieth ask this is; who came first goes first."""
    sampler: Sampler
    limit: int
    """Tokens of prompt and answer at which the answer ends."""
    tokens: list[int]
    constraint: Constraint | None = None
    guesses: Guesses | None = None
    pages: list[int] = field(default_factory=list[int])
    computed: int = 0
    filled: int = 0
    """How many of `pages` are filled for good and made known."""
    reader: "tuple[Sequence, int] | None" = None
    """Whom it stands by for, who is just reading the same beginning as far as this position."""
    cached: int = 0
    told: bool = False
    scored: list[tuple[Likely, ...]] = field(default_factory=list[tuple[Likely, ...]])

    @property
    def given(self) -> int:
        """The prompt's length."""
        return len(self.ask.prompt)

    @property
    def scores(self) -> bool:
        """Whether the logits of its prompt are wanted, every one."""
        return self.ask.prompt_logprobs is not None and not self.told

    @property
    def plain(self) -> bool:
        """Whether its next token is the likeliest one and nothing is told but the token."""
        return self.sampler.plain and self.constraint is None and self.ask.logprobs is None and not self.scores

    @property
    def writes(self) -> bool:
        """Whether all but its last token is computed, and that one is of the answer."""
        return self.computed >= self.given and self.computed == len(self.tokens) - 1


@dataclass(slots=True)
class Turn:
    """What one sequence computes in a step: `count` of its tokens from `computed` on, then its guesses."""

    sequence: Sequence
    count: int
    guessed: list[int] = field(default_factory=list[int])
    forced: int = 0
    """How many of the guesses a grammar leaves no choice about."""
    drafted: bool = False
    """Whether a draft model made the guesses."""


class Scheduler:
    """Sequences wait, run at most `batch` together, and leave; each step has at most `rows` rows.

    `uniform` says whether a page that an answer filled may be lent to a prompt (see `Forward.uniform`).
    """

    def __init__(self, pages: Pages, *, batch: int, rows: int, uniform: bool) -> None:
        self.pages = pages
        self.batch, self.rows, self._uniform = batch, rows, uniform
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.set_aside = 0
        """How often a sequence gave its pages back before its end; many say that the cache is too small."""

    def plan(self) -> list[Turn]:
        """The next step. Answers first, a row each, the oldest first; prompts by age with the rows that are left."""
        self._admit()
        # who came last is set aside for who came first, so none that has its turn already loses it
        writers = (each for each in list(self.running) if each.writes and self.reach(each, len(each.tokens)))
        turns = [Turn(each, 1) for each in writers]
        left = self.rows - len(turns)
        for sequence in self.running:
            if left <= 0:
                break
            if not sequence.writes:
                turns.append(Turn(sequence, self._chunk(sequence, left)))
                left -= turns[-1].count
        return turns

    def spare(self, turns: list[Turn]) -> int:
        """The rows that this step could still take."""
        return self.rows - sum(turn.count + len(turn.guessed) for turn in turns)

    def _chunk(self, sequence: Sequence, left: int) -> int:
        """How many tokens to read: never over the prompt's end, since what was written is computed as written."""
        end = sequence.given if sequence.computed < sequence.given else len(sequence.tokens)
        if sequence.scores:
            left = min(left, MOST_SCORED)
        return min(end - sequence.computed, left)

    def reach(self, sequence: Sequence, length: int, *, force: bool = True) -> bool:
        """Give a sequence pages for `length` positions. With `force` the last to come are set aside for it.

        False where it was set aside itself, or without `force` where no page is free.
        """
        while len(sequence.pages) * PAGE < length:
            page = self.pages.take()
            if page is not None:
                sequence.pages.append(page)
            elif not force:
                return False
            else:
                last = self.running[-1]
                self._set_aside(last)
                if last is sequence:
                    return False
        return True

    def _set_aside(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self.set_aside += 1

    def _release(self, sequence: Sequence) -> None:
        self.pages.drop(sequence.pages)
        sequence.pages.clear()
        sequence.computed = sequence.filled = 0
        sequence.scored.clear()

    def remove(self, sequence: Sequence) -> None:
        """It has ended, or nobody wants it any more: its slot and pages are free at once."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)

    def _admit(self) -> None:
        """Let in who waits, in order. One whose prompt another one is just reading stands by, and shares it later."""
        stay: list[Sequence] = []
        while self.waiting and len(self.running) < self.batch:
            sequence = self.waiting.popleft()
            if self._stands_by(sequence):
                stay.append(sequence)
                continue
            found = self._found(sequence)
            sequence.reader = self._reader(sequence, len(found))
            if sequence.reader is not None:
                self.pages.drop(found)
                stay.append(sequence)
                continue
            need = -(-len(sequence.tokens) // PAGE) - len(found)
            # room to grow by a page each, so that nobody is let in only to be set aside at the next step
            if self.running and self.pages.free < need + len(self.running) + 1:
                self.pages.drop(found)
                stay.append(sequence)
                break
            self._let_in(sequence, found)
        self.waiting.extendleft(reversed(stay))

    def _let_in(self, sequence: Sequence, found: list[int]) -> None:
        sequence.pages = found
        sequence.filled = len(found)
        sequence.computed = len(found) * PAGE
        if not sequence.told:
            sequence.cached = sequence.computed
        self.running.append(sequence)
        self.running.sort(key=lambda each: each.number)
        self.reach(sequence, len(sequence.tokens))

    def _most_found(self, sequence: Sequence) -> int:
        """Pages that may be taken from others: all whole ones before the last token, whose logits are needed."""
        if sequence.scores:
            return 0  # every row's logits are needed
        return (len(sequence.tokens) - 1) // PAGE

    def _found(self, sequence: Sequence) -> list[int]:
        return self.pages.find(sequence.tokens, self._most_found(sequence), sequence.ask.adapter)

    def _stands_by(self, sequence: Sequence) -> bool:
        """Whether it still waits for what another one reads of their common beginning."""
        reader, end = sequence.reader or (None, 0)
        return reader is not None and reader.computed < end and reader in self.running

    def _reader(self, sequence: Sequence, found: int) -> tuple[Sequence, int] | None:
        """Who is reading more of the same beginning than the `found` pages known yet, and as far as which position."""
        start = found * PAGE
        most = self._most_found(sequence) * PAGE
        for other in self.running if start < most else ():
            if other.ask.adapter == sequence.ask.adapter and other.tokens[:start] == sequence.tokens[:start]:
                end, last = start, min(most, other.given)
                while end + PAGE <= last and other.tokens[end : end + PAGE] == sequence.tokens[end : end + PAGE]:
                    end += PAGE
                if other.computed < end:
                    return other, end
        return None

    def computed(self, sequence: Sequence, count: int) -> None:
        """`count` more of its tokens are in the cache for good; pages that became full are made known."""
        sequence.computed += count
        end = sequence.computed if self._uniform else min(sequence.computed, sequence.given)
        while (sequence.filled + 1) * PAGE <= end:
            at = sequence.filled
            node: Node = self.pages.node(sequence.pages[at - 1]) if at else sequence.ask.adapter
            tokens = tuple(sequence.tokens[at * PAGE : (at + 1) * PAGE])
            sequence.pages[at] = self.pages.fill(sequence.pages[at], node, tokens)
            sequence.filled += 1
