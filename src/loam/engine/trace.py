"""Writes a few tokens and keeps everything that decided them: the glass box.

Knows the forward, the cache and the sampler's stages; draws no picture. Invariant: every number is one that the engine
works with. The logits are the forward's, the draw is `sampling.steps_of`'s, and the same ask with the same seed gets
the same tokens from the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from loam.core.errors import refuse
from loam.engine import sampling
from loam.engine.inspection import MOST_HEADS, Candidate, Drawn, Inspection, Layer, Moved, Piece, Removal, Step, Wish
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.rows import Forward, Rows, Span
from loam.engine.sampling import Distribution, Floats, Sampler, Weights
from loam.engine.trace_layers import Seen, layer_of, look, rank
from loam.engine.transformer import Transformer

CHUNK = 512
"""Prompt tokens read in one step."""
EXAMPLES = 3
"""Removed tokens that are named per filter."""


class Spelling(Protocol):
    def token_bytes(self, token: int) -> bytes: ...


class Words(Spelling, Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str, special: bool = False) -> list[int]: ...
    def chat(self, messages: list[dict[str, str]]) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is looked into.

    `forward` is what the engine runs; `model` is the plain decoder of its weights, or `forward` itself.
    """

    forward: Forward
    model: Transformer
    words: Words
    cache_type: torch.dtype
    stop_tokens: frozenset[int] = frozenset()


class Pieces:
    """Tokens as people read them."""

    def __init__(self, words: "Spelling") -> None:
        self._words = words

    def __call__(self, token: int) -> Piece:
        raw = self._words.token_bytes(int(token))
        return Piece(int(token), raw.decode("utf-8", "replace"), raw.hex())


class Line:
    """One sequence in a cache of its own, read and written as the engine would."""

    def __init__(
        self, forward: Forward, length: int, dtype: torch.dtype, device: torch.device, adapter: str = ""
    ) -> None:
        pages = -(-length // PAGE)
        self._forward, self._adapter = forward, adapter
        self._pages = tuple(range(pages))
        self._cache = PagedCache(forward.architecture, pages, dtype=dtype, device=device)
        self._length = 0

    def read(self, tokens: Sequence[int], *, prompt: bool) -> Floats:
        """The logits after the last of `tokens`, (vocabulary,) fp32."""
        logits = torch.zeros(1, 0)
        for rows in self._rows(tokens, prompt):
            logits = self._forward.step(rows, self._cache)
        return logits[0].float().cpu().numpy()

    def look(self, model: Transformer, tokens: Sequence[int], *, prompt: bool) -> tuple[Floats, list[Seen]]:
        """The same of a plain decoder, with each layer at the last of `tokens`."""
        *before, last = self._rows(tokens, prompt)
        for rows in before:
            model.step(rows, self._cache)
        logits, seen = look(model, last, self._cache)
        return logits.cpu().numpy(), seen

    def _rows(self, tokens: Sequence[int], prompt: bool) -> list[Rows]:
        found: list[Rows] = []
        for start in range(0, len(tokens), CHUNK):
            piece = tuple(tokens[start : start + CHUNK])
            span = Span(self._pages, self._length, len(piece), self._adapter, prompt)
            found.append(Rows(piece, (span,), (len(piece) - 1,)))
            self._length += len(piece)
        return found


class _Run:
    """One inspection on its way."""

    def __init__(self, subject: Subject, wish: Wish, prompt: list[int]) -> None:
        self._subject, self._wish = subject, wish
        self._pieces = Pieces(subject.words)
        self._tokens = list(prompt)
        self._sampler = Sampler(wish.draw, prompt)
        device = next(subject.model.parameters()).device
        alike = len(prompt) + wish.steps, subject.cache_type, device, wish.adapter
        self._line = Line(subject.forward, *alike)
        self._inner = Line(subject.model, *alike) if wish.layers and subject.forward is not subject.model else None
        self.gap = 0.0
        """How far the plain decoder's logits were from those of the forward, at most."""
        architecture = subject.model.architecture
        self.with_heads = MOST_HEADS // (architecture.layers * architecture.heads)
        """Steps that tell every head."""

    def steps(self, limit: int) -> tuple[list[Step], str]:
        """The steps, at most `limit`, and how it ended."""
        found: list[Step] = []
        new = list(self._tokens)
        while len(found) < limit:
            logits, seen = self._read(new, prompt=not found)
            position = len(self._tokens)
            distribution = self._drawn(logits, position)
            layers = self._layers(seen, distribution.token, heads=len(found) < self.with_heads)
            found.append(step_of(distribution, position, self._wish, self._pieces, layers))
            if distribution.token in self._subject.stop_tokens:
                return found, "stop"
            new = [distribution.token]
            self._tokens += new
            self._sampler.add(distribution.token)
        return found, "length"

    def _drawn(self, logits: Floats, position: int) -> Distribution:
        try:
            return sampling.steps_of(logits, self._wish.draw, self._sampler.seen, position)
        except sampling.NoToken as error:
            raise refuse("internal", f"no token can be drawn at position {position}: {error}") from error

    def _read(self, new: list[int], *, prompt: bool) -> tuple[Floats, list[Seen]]:
        model = self._subject.model
        if not self._wish.layers:
            return self._line.read(new, prompt=prompt), []
        if self._inner is None:
            return self._line.look(model, new, prompt=prompt)
        logits = self._line.read(new, prompt=prompt)
        inner, seen = self._inner.look(model, new, prompt=prompt)
        self.gap = max(self.gap, float(np.abs(inner - logits).max()))
        return logits, seen

    def _layers(self, seen: list[Seen], token: int, *, heads: bool) -> tuple[Layer, ...]:
        return tuple(
            layer_of(number, one, token, self._wish, self._tokens, self._pieces, heads)
            for number, one in enumerate(seen)
        )


def inspect(subject: Subject, wish: Wish) -> Inspection:
    """How the model continues the wish's prompt. Raises `ModelFailure` for a wish that cannot be met."""
    architecture = subject.forward.architecture
    sampling.check(wish.draw, architecture.vocabulary)
    if wish.adapter and wish.adapter not in subject.model.adapters:
        there = ", ".join(sorted(subject.model.adapters)) or "none"
        raise refuse("not_found", f"no adapter {wish.adapter!r}; there are: {there}", param="adapter")
    prompt = _prompt(subject, wish)
    room = architecture.context - len(prompt)
    if room < 0:
        raise refuse(
            "context_window",
            f"the prompt has {len(prompt):,} tokens, the model's context {architecture.context:,}; shorten the prompt",
            param="prompt",
        )
    run = _Run(subject, wish, prompt)
    steps, ending = run.steps(min(wish.steps, room))
    written = [step.drawn.token.id for step in steps]
    pieces = Pieces(subject.words)
    return Inspection(
        model=wish.model,
        prompt=tuple(pieces(token) for token in prompt),
        steps=tuple(steps),
        text=subject.words.decode(written[:-1] if ending == "stop" else written),
        ending=ending,
        draw=wish.draw,
        temperatures=wish.temperatures,
        notes=_notes(subject, wish, run, len(steps), room),
    )


def _prompt(subject: Subject, wish: Wish) -> list[int]:
    if wish.chat:
        prompt = subject.words.chat([{"role": "user", "content": wish.prompt}])
    else:
        prompt = subject.words.encode(wish.prompt, special=True)
    if not prompt:
        raise refuse("bad_request", "the prompt has no token, so there is nothing to continue", param="prompt")
    return prompt


def _notes(subject: Subject, wish: Wish, run: _Run, steps: int, room: int) -> tuple[str, ...]:
    notes: list[str] = []
    if wish.steps > room:
        notes.append(f"the context is full after {room} of {wish.steps} steps")
    if wish.layers and steps > run.with_heads:
        notes.append(f"heads are told for the first {run.with_heads} steps: {MOST_HEADS:,} in all are the most")
    if wish.layers and subject.forward is not subject.model:
        notes.append(
            "the layers are those of the plain decoder with the same weights; its logits are at most "
            f"{run.gap:.2g} from those that were drawn from"
        )
    return tuple(notes)


def entropy(probabilities: Weights) -> float:
    """In bits; a probability of 0 counts nothing."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log2(some)).sum()) + 0.0  # no -0.0


def softmax(logits: Floats, temperature: float = 1.0) -> Weights:
    """Of logits over the temperature, in fp64."""
    weights = sampling.softmax_weights(logits, temperature)
    return weights / weights.sum()


def step_of(found: Distribution, position: int, wish: Wish, pieces: Pieces, layers: tuple[Layer, ...] = ()) -> Step:
    """What a distribution tells, in words and bounded numbers."""
    probabilities = softmax(found.logits)
    shown = _shown(found, wish.candidates)
    moved = np.flatnonzero((found.adjusted != found.logits) & (found.adjusted > -np.inf))
    return Step(
        position=position,
        entropy=entropy(probabilities),
        entropy_left=entropy(found.probabilities),
        candidates=_candidates(found, shown, wish.temperatures, pieces),
        moved=len(moved),
        moves=tuple(
            Moved(pieces(token), float(found.logits[token]), float(found.adjusted[token]))
            for token in shown
            if token in moved
        ),
        removed=_removed(found, wish.temperature, pieces),
        kept=len(found.kept),
        drawn=_drawn(found, probabilities, pieces),
        layers=layers,
    )


def _shown(found: Distribution, count: int) -> list[int]:
    """The likeliest by the adjusted logits, then the likeliest of the model's own, then the drawn one; each once."""
    adjusted = np.argsort(-found.adjusted, kind="stable")[:count]
    own = np.argsort(-found.logits, kind="stable")[:1]
    return list(dict.fromkeys(int(token) for token in (*adjusted, *own, found.token)))


def _candidates(
    found: Distribution, shown: Sequence[int], temperatures: Sequence[float], pieces: Pieces
) -> tuple[Candidate, ...]:
    plain = softmax(found.logits)
    heated = [softmax(found.adjusted, temperature) for temperature in temperatures]
    chances = {int(token): float(chance) for token, chance in zip(found.kept, found.probabilities, strict=True)}
    removed_by = {int(token): name for name, tokens in found.removed.items() for token in tokens}
    removed_by |= {int(token): "grammar" for token in found.forbidden}
    return tuple(
        Candidate(
            token=pieces(token),
            logit=float(found.logits[token]),
            probability=float(plain[token]),
            adjusted=float(found.adjusted[token]) if found.adjusted[token] > -np.inf else None,
            at=tuple(float(one[token]) for one in heated),
            removed_by=removed_by.get(token),
            chance=chances.get(token, 0.0),
        )
        for token in shown
    )


def _removed(found: Distribution, temperature: float, pieces: Pieces) -> tuple[Removal, ...]:
    """What each filter took, of the probability that had come as far as it."""
    left = np.flatnonzero(found.adjusted > -np.inf)
    removals: list[Removal] = []
    for name, gone in found.removed.items():
        probabilities = np.zeros(len(found.adjusted))
        probabilities[left] = softmax(found.adjusted[left], temperature)
        likeliest = gone[np.argsort(-probabilities[gone], kind="stable")][:EXAMPLES]
        removals.append(
            Removal(name, len(gone), float(probabilities[gone].sum()), tuple(pieces(one) for one in likeliest))
        )
        left = np.setdiff1d(left, gone, assume_unique=True)
    return tuple(removals)


def _drawn(found: Distribution, probabilities: Weights, pieces: Pieces) -> Drawn:
    place = int(np.flatnonzero(found.kept == found.token)[0])
    low = float(found.probabilities[:place].sum())
    chance = float(found.probabilities[place])
    return Drawn(
        token=pieces(found.token),
        number=found.chance,
        low=low,
        high=low + chance,
        chance=chance,
        logprob=sampling.logprobs(found.logits, found.token)[0],
        rank=rank(found.logits, found.token),
    )
