"""Pieces and spans, against what `tokenizers` makes of the same texts (recipes/encoder_reference.py)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.grounding.encoder.weights import VOCABULARY, Weights
from loam.grounding.encoder.wordpiece import Pieces, WordPiece

SMALL = WordPiece(
    ("[UNK]", "[CLS]", "[SEP]", "un", "##bel", "##iev", "##able", "a", "##b", "cafe", "[", "]", "sep", ".")
)


def test_pieces_and_spans_are_the_references(minilm: Weights) -> None:
    words = WordPiece.read(minilm.folder / VOCABULARY)
    reference = json.loads((Path(__file__).parent / "pieces.json").read_text("ascii"))
    assert len(reference) >= 300
    for text, ids, places in reference:
        cut = words.cut(text)
        assert list(cut.ids) == ids, text
        assert [place for span in cut.spans for place in span] == places, text


def test_a_word_is_cut_into_the_longest_pieces() -> None:
    assert SMALL.cut(" Unbelievable.") == ([3, 4, 5, 6, 13], [(1, 3), (3, 6), (6, 9), (9, 13), (13, 14)])


def test_a_word_that_cannot_be_cut_is_one_unknown_piece() -> None:
    assert SMALL.cut("unknown a") == ([0, 7], [(0, 7), (8, 9)])
    assert SMALL.cut("a" + "b" * 99) == ([7] + [8] * 99, [(0, 1), *((at, at + 1) for at in range(1, 100))])
    assert SMALL.cut("a" + "b" * 100) == ([0], [(0, 101)])


def test_spans_count_characters_before_folding() -> None:
    assert SMALL.cut("cafe\u0301 CAFÉ") == ([9, 9], [(0, 4), (6, 10)])
    assert SMALL.cut("c\u200bafé") == ([9], [(0, 5)])


def test_the_separator_cannot_be_forged() -> None:
    assert SMALL.cut("a [SEP] a").ids == [7, 10, 12, 11, 7]


def test_a_long_text_is_cut_and_still_ends() -> None:
    assert SMALL.ids("a " * 50, 8) == [1, 7, 7, 7, 7, 7, 7, 2]
    assert SMALL.ids("", 8) == [1, 2]


def test_a_pair_gives_the_second_text_what_the_first_leaves() -> None:
    first, second = SMALL.cut("a " * 9), SMALL.cut("a. " * 9)
    pair = SMALL.pair(first, second, most=10, most_first=3)
    assert pair.ids == [1, 7, 7, 7, 2, 7, 13, 7, 13, 2]
    assert pair.types == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert pair.offset == 5
    assert pair.spans == [(0, 1), (1, 2), (3, 4), (4, 5)]


@given(st.text(max_size=60))
def test_spans_go_forward_inside_the_text(text: str) -> None:
    pieces: Pieces = SMALL.cut(text)
    assert len(pieces.ids) == len(pieces.spans)
    last = 0
    for start, end in pieces.spans:
        assert last <= start < end <= len(text)
        last = end if end - start == 1 else start
    assert SMALL.ids(text, 1000) == [1, *pieces.ids, 2]


@pytest.mark.parametrize("char", ["\u2028", "\u3000", "\t", "\x85"])
def test_white_space_of_any_kind_ends_a_word(char: str) -> None:
    assert len(SMALL.cut(f"a{char}a").ids) == (1 if char == "\x85" else 2)
