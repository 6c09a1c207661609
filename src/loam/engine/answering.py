"""What a step's logits become: tokens, logprobs, endings, and the events that tell of them.

Knows one sequence at a time. Invariant: whatever goes wrong in here is one ask's own and ends that ask alone.
"""

from typing import Any

import numpy as np

from loam.core.errors import Failure, ModelFailure
from loam.engine.asks import Ending, Likely, Said
from loam.engine.drafting import Drafts
from loam.engine.sampling import Floats, NoToken, logprobs
from loam.engine.scheduler import Scheduler, Sequence, Turn


class Answers:
    """Takes in the rows of a step, turn by turn."""

    def __init__(self, scheduler: Scheduler, drafts: Drafts | None) -> None:
        self._scheduler, self._drafts = scheduler, drafts
        self.guessed = self.accepted = 0

    def take_in(self, turn: Turn, table: Floats, best: list[int], first: int) -> list[Said]:
        """Take in what the step computed for one sequence. What goes wrong here is this ask's alone."""
        sequence, said = turn.sequence, list[Said]()
        start = sequence.computed
        try:
            if start < sequence.given and sequence.scores:
                first += self._score(turn, table, first)
            self._scheduler.computed(sequence, turn.count)
            if sequence.computed < len(sequence.tokens):
                if sequence.guesses is not None:
                    sequence.guesses.lookup.read(sequence.tokens, sequence.computed)
            elif len(sequence.tokens) >= sequence.limit:  # an ask of no tokens
                said.append(self.end(sequence, "length"))
            else:
                self._write(turn, table, best, first, said)
        except NoToken as error:
            failure = Failure(kind="internal", message=str(error))
            said.append(self.end(sequence, "failed", failure=failure))
        except ModelFailure as error:
            said.append(self.end(sequence, "failed", failure=error.failure))
        return said

    def _score(self, turn: Turn, table: Floats, first: int) -> int:
        """Note the logprobs of the prompt's tokens after these rows; the number of rows before the one that draws."""
        sequence, top = turn.sequence, turn.sequence.ask.prompt_logprobs or 0
        for row in range(turn.count):
            at = sequence.computed + row + 1
            if at < sequence.given:
                sequence.scored.append(_scored(table[first + row], sequence.tokens[at], top))
        return turn.count - 1

    def _write(self, turn: Turn, table: Floats, best: list[int], first: int, said: list[Said]) -> None:
        """Draw a token, and one more as long as the guess was it."""
        sequence = turn.sequence
        written: list[int] = []
        self.guessed += len(turn.guessed) - turn.forced  # what a grammar forces is known, not guessed
        for place in range(len(turn.guessed) + 1):
            row = table[first + place]
            certain = place < turn.forced
            token = turn.guessed[place] if certain else self._choose(sequence, row, best[first + place])
            written.append(token)
            self.accepted += not certain and turn.guessed[place : place + 1] == [token]
            said.append(self._told(sequence, token, row))
            if said[-1].ending is not None:
                break
            if place == len(turn.guessed) or turn.guessed[place] != token:
                break
            self._scheduler.computed(sequence, 1)
        if turn.drafted and self._drafts is not None:
            self._drafts.tell(turn, written)
        elif sequence.guesses is not None and not turn.forced:
            sequence.guesses.tell(turn.guessed, written)

    def _choose(self, sequence: Sequence, row: Floats, best: int) -> int:
        if sequence.constraint is None:
            if sequence.sampler.plain and best >= 0:
                return best
            return sequence.sampler.choose(row, len(sequence.tokens))
        allowed = np.zeros(len(row), dtype=np.bool_)
        mask = sequence.constraint.mask()
        allowed[: len(mask)] = mask[: len(row)]
        token = sequence.sampler.choose(row, len(sequence.tokens), allowed)
        return sequence.constraint.steer(token, sequence.limit - len(sequence.tokens))

    def _told(self, sequence: Sequence, token: int, row: Floats) -> Said:
        """Take the token into the sequence, and make its event."""
        ask = sequence.ask
        ending: Ending | None = None
        stop = token in ask.stop_tokens or (sequence.constraint is not None and sequence.constraint.ends(token))
        if stop:
            ending = "stop"
        else:
            sequence.tokens.append(token)
            sequence.sampler.add(token)
            if sequence.constraint is not None:
                sequence.constraint.advance(token)
                ending = "stop" if sequence.constraint.ended else None
            if ending is None and len(sequence.tokens) >= sequence.limit:
                ending = "length"
        more: dict[str, Any] = {"stop": token} if stop else {}
        if ask.logprobs is not None:
            more["logprob"], more["top"] = logprobs(row, token, ask.logprobs)
        return self._said(sequence, -1 if stop else token, ending, **more)

    def end(self, sequence: Sequence, ending: Ending, failure: Failure | None = None) -> Said:
        """The last event of an ask that ends without a token; its slot and pages are free when this returns."""
        return self._said(sequence, -1, ending, failure=failure)

    def _said(self, sequence: Sequence, token: int, ending: Ending | None, **more: Any) -> Said:
        """An event. The first of an ask tells of its prompt, the last frees its slot and pages."""
        if not sequence.told:
            sequence.told = True
            more["cached"] = sequence.cached
            if sequence.ask.prompt_logprobs is not None:
                more["prompt"] = tuple(sequence.scored)
        if ending is not None:
            self._scheduler.remove(sequence)
            more["closed"] = sequence.constraint is not None and sequence.constraint.closed
        return Said(sequence.ask.id, token, ending=ending, **more)


def _scored(row: Floats, token: int, top: int) -> tuple[Likely, ...]:
    own, likely = logprobs(row, token, top)
    return (Likely(token, own), *likely)
