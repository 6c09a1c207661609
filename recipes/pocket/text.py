"""What the pocket model reads: Shakespeare's plays and novels of 1847 to 1921, all in the public domain.

Knows texts and tokens, no model. Invariant: the end of every text is held out, and neither the tokenizer nor the model
is trained on it.
"""

import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
"""Stands between two texts: token 0."""

Tokens = NDArray[np.uint16]


def texts(data: Path) -> dict[str, list[str]]:
    """The two kinds of text: `shakespeare`, one long text, and `novels`, 27 of them."""
    with gzip.open(data / "small" / "tinyshakespeare.txt.gz", "rt", encoding="utf-8") as file:
        shakespeare = file.read()
    with lzma.open(data / "pretrain-extra" / "novels-pd.jsonl.xz", "rt", encoding="utf-8") as lines:
        novels = [json.loads(line)["text"] for line in lines]
    return {"shakespeare": [shakespeare], "novels": novels}


def split(text: str, held_out: float) -> tuple[str, str]:
    """The text without its end, and its end; cut at a blank."""
    cut = text.index(" ", int(len(text) * (1 - held_out)))
    return text[:cut], text[cut:]


def trained_tokenizer(read: Iterator[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE (as GPT-2's) with `vocabulary` tokens: END, the 256 bytes, and the commonest merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        read,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def tokens(tokenizer: Tokenizer, read: list[str]) -> Tokens:
    """All texts one after the other, each with END before it."""
    found: list[int] = []
    for text in read:
        found.append(0)
        for start in range(0, len(text), 100_000):  # bounds the memory
            found += tokenizer.encode(text[start : start + 100_000]).ids
    return np.array(found, dtype=np.uint16)
