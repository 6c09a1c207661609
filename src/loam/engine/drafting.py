"""Guessing with a small model of the same vocabulary, ahead of the large one.

Its keys and values lie on the same pages, by the same numbers, in a cache of its own. Invariant: as with every guess,
the draft decides when a token comes, never which; a page it never read, or read wrongly, costs only speed.

Speculative decoding is Leviathan et al. 2023 and Chen et al. 2023; their acceptance rule keeps the distribution, ours
keeps the very tokens: the target draws by seed and position, and the draft draws with the same chance, so as to agree.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from loam.core.errors import EngineError
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.rows import Forward, Rows, Span
from loam.engine.sampling import NoToken
from loam.engine.scheduler import Scheduler, Sequence, Turn
from loam.engine.speculation import Costs, Rates, worth

LONGEST_READ = 512
"""Rows that the draft reads in a step before it guesses: a long prompt is read over several steps."""
PROBE = 32
"""While guessing does not pay, one guess is made every so many steps, to see whether it would."""


@dataclass(slots=True)
class Progress:
    """How much of a sequence the draft has read, on which pages it wrote that, and how well it guesses it."""

    done: int = 0
    pages: list[int] = field(default_factory=list[int])
    rates: Rates | None = None
    steps: int = 0


class Drafts:
    """Guesses for all that write, each round one row a sequence, as many rounds as pay."""

    def __init__(self, forward: Forward, cache: PagedCache, vocabulary: int, clock: Callable[[], float]) -> None:
        if forward.architecture.vocabulary != vocabulary:
            raise EngineError(
                f"the draft has a vocabulary of {forward.architecture.vocabulary}, the model one of {vocabulary}; "
                "a draft must share the model's tokenizer"
            )
        self._forward, self._clock = forward, clock
        self._cache = PagedCache(forward.architecture, cache.pages, dtype=cache.keys.dtype, device=cache.keys.device)
        self._progress: dict[int, Progress] = {}
        self._left = 0  # rows that may still be read in this step
        self._rates, self._costs = Rates(), Costs()

    def guess(self, turns: list[Turn], scheduler: Scheduler, most: int, *, base: float, each: float) -> None:
        """Fill in the guesses of turns that have none. `base` and `each`: what the target's step costs a sequence."""
        self._forget_gone(scheduler)
        spare, lengths = scheduler.spare(turns), dict[int, int]()
        self._left = LONGEST_READ
        ready = [turn for turn in turns if not turn.guessed and self._read(turn.sequence)]
        for turn in ready:
            sequence = turn.sequence
            bound = min(most, spare, sequence.limit - len(sequence.tokens) - 1)
            length = self._length(sequence, bound, base=base, each=each, beside=len(ready))
            scheduler.reach(sequence, len(sequence.tokens) + length, force=False)
            length = min(length, len(sequence.pages) * PAGE - len(sequence.tokens))
            if length > 0:
                lengths[sequence.number] = length
                spare -= length
        drafting = [turn for turn in ready if turn.sequence.number in lengths]
        while drafting:
            drafting = [turn for turn in self._round(drafting) if len(turn.guessed) < lengths[turn.sequence.number]]
        for turn in turns:
            if turn.drafted and turn.sequence.constraint is not None:
                turn.guessed = turn.sequence.constraint.allowed(turn.guessed)

    def tell(self, turn: Turn, written: list[int]) -> None:
        """Which of the draft's guesses came true."""
        progress = self._progress[turn.sequence.number]
        assert progress.rates is not None
        for guess, token in zip(turn.guessed, written, strict=False):
            progress.rates.note(0, guess == token)
        # the last guess was not read by the draft; of the others, those that came true are good
        right = len(written) - 1
        progress.done = min(progress.done, len(turn.sequence.tokens) - len(written) + right)

    def _length(self, sequence: Sequence, most: int, *, base: float, each: float, beside: int) -> int:
        progress = self._progress[sequence.number]
        rate = (progress.rates or self._rates).of(0)
        draft_base, draft_each = self._costs.line()
        length = worth([rate] * max(most, 0), base, each, draft_base / beside + draft_each)
        progress.steps += 1
        return min(most, 1) if not length and progress.steps % PROBE == 0 else length

    def _read(self, sequence: Sequence) -> bool:
        """Bring the draft up to the last token but one; False where that takes more steps than this."""
        progress = self._progress.setdefault(sequence.number, Progress(rates=Rates(self._rates)))
        if progress.pages != sequence.pages[: len(progress.pages)]:
            same = next(i for i, page in enumerate(progress.pages) if sequence.pages[i : i + 1] != [page])
            progress.done = min(progress.done, same * PAGE)
        progress.pages = list(sequence.pages)
        missing = len(sequence.tokens) - 1 - progress.done
        if missing > 1:
            count = min(missing, self._left)
            self._left -= count
            if count:
                self._step([(sequence, sequence.tokens[progress.done : progress.done + count])], wanted=False)
        return progress.done >= len(sequence.tokens) - 2

    def _round(self, turns: list[Turn]) -> list[Turn]:
        """One more guess for each; those that got one."""
        fed: list[tuple[Sequence, list[int]]] = []
        for turn in turns:
            done = self._progress[turn.sequence.number].done
            fed.append((turn.sequence, (turn.sequence.tokens + turn.guessed)[done:]))
        started = self._clock()
        logits = self._step(fed, wanted=True).cpu().numpy()
        self._costs.note(sum(len(tokens) for _, tokens in fed), self._clock() - started)
        guessed: list[Turn] = []
        for turn, row in zip(turns, logits, strict=True):
            position = len(turn.sequence.tokens) + len(turn.guessed)
            try:
                guess = turn.sequence.sampler.choose(row, position)
            except NoToken:
                continue
            turn.drafted = True
            turn.guessed.append(guess)
            guessed.append(turn)
        return guessed

    def _step(self, fed: list[tuple[Sequence, list[int]]], *, wanted: bool) -> torch.Tensor:
        """Read tokens that the draft has not read; if `wanted`, the logits (fed, vocabulary) after each one's last."""
        spans: list[Span] = []
        lasts: list[int] = []
        rows: list[int] = []
        for sequence, tokens in fed:
            progress = self._progress[sequence.number]
            spans.append(Span(tuple(sequence.pages), progress.done, len(tokens)))
            progress.done += len(tokens)
            rows += tokens
            lasts.append(len(rows) - 1)
        with torch.inference_mode():
            return self._forward.step(Rows(tuple(rows), tuple(spans), tuple(lasts) if wanted else ()), self._cache)

    def _forget_gone(self, scheduler: Scheduler) -> None:
        if len(self._progress) > 2 * scheduler.batch:
            here = {sequence.number for sequence in scheduler.running}
            self._progress = {number: kept for number, kept in self._progress.items() if number in here}
