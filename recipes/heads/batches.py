"""Texts as padded batches of word pieces, pairs of like length together.

Knows the tokenizer and torch, no loss. Invariant: a span in pieces covers the characters that it was made from, and a
pair whose span fell outside the window counts as one whose passage has no answer only if it never had one.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recipes.heads.claims import LABELS, Claim, Pair
from tokenizers import Tokenizer

UNKNOWN = -100
"""Where a pair has no target for a head."""


@dataclass(frozen=True, slots=True)
class Example:
    """One pair in pieces with its targets; `first` is where the passage's pieces begin."""

    pieces: list[int]
    first: int
    start: int
    end: int
    relevant: int
    label: int
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step."""

    pieces: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    relevant: torch.Tensor
    label: torch.Tensor


class Pieces:
    """Cuts pairs of texts into pieces the way the heads will read them."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._most, self._first = settings["pieces"], settings["first_pieces"]

    def pairs(self, pairs: Sequence[Pair], *, keep_offsets: bool = False) -> list[Example]:
        """Reader pairs; those whose answer lies beyond the window are left out."""
        found: list[Example] = []
        joined = self._joined([(pair.question, pair.passage) for pair in pairs])
        for pair, (pieces, first, offsets) in zip(pairs, joined, strict=True):
            start, end = _in_pieces(pair.span, first, offsets) if pair.span else (0, 0)
            if start == UNKNOWN:
                continue
            relevant = UNKNOWN if pair.relevant is None else int(pair.relevant)
            found.append(Example(pieces, first, start, end, relevant, UNKNOWN, offsets if keep_offsets else ()))
        return found

    def claims(self, claims: Sequence[Claim]) -> list[Example]:
        """Claims with their evidence."""
        joined = self._joined([(claim.text, claim.evidence) for claim in claims])
        return [
            Example(pieces, first, UNKNOWN, UNKNOWN, UNKNOWN, LABELS.index(claim.label))
            for claim, (pieces, first, _) in zip(claims, joined, strict=True)
        ]

    def _joined(self, texts: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], int, tuple[tuple[int, int], ...]]]:
        firsts = self._tokenizer.encode_batch([first for first, _ in texts], add_special_tokens=False)
        seconds = self._tokenizer.encode_batch([second for _, second in texts], add_special_tokens=False)
        cls, sep = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")
        for one, other in zip(firsts, seconds, strict=True):
            head = [cls, *one.ids[: self._first], sep]
            room = self._most - len(head) - 1
            yield [*head, *other.ids[:room], sep], len(head), tuple(other.offsets[:room])


def _in_pieces(span: tuple[int, int], first: int, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    inside = [place for place, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not inside or offsets[-1][1] < span[1]:
        return UNKNOWN, UNKNOWN
    return first + inside[0], first + inside[-1]


def batches(examples: Sequence[Example], most: int, rng: random.Random) -> list[list[Example]]:
    """The examples in batches of at most `most` padded pieces, of like length, in random order."""
    jittered = sorted(examples, key=lambda example: len(example.pieces) + rng.random() * 8)
    found: list[list[Example]] = [[]]
    for example in jittered:
        if (len(found[-1]) + 1) * (len(example.pieces) + 8) > most:
            found.append([])
        found[-1].append(example)
    rng.shuffle(found)
    return [batch for batch in found if batch]


def padded(examples: Sequence[Example]) -> Batch:
    """The examples as tensors as long as the longest of them."""
    longest = max(len(example.pieces) for example in examples)
    pieces = torch.zeros(len(examples), longest, dtype=torch.long)
    types, mask = torch.zeros_like(pieces), torch.zeros_like(pieces)
    for row, example in enumerate(examples):
        size = len(example.pieces)
        pieces[row, :size] = torch.tensor(example.pieces)
        types[row, example.first : size] = 1
        mask[row, :size] = 1
    targets = [[getattr(example, name) for example in examples] for name in ("start", "end", "relevant", "label")]
    return Batch(pieces, types, mask, *(torch.tensor(target) for target in targets))
