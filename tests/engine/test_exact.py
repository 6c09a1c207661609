"""The batch-invariant form: the same bits alone, in any batch, in any chunking, with any number of threads."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loam.engine.exact import Exact, threads
from loam.engine.kvcache import PagedCache
from loam.engine.load import load
from loam.engine.rows import Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import make

SEQUENCES, TIME, PAGES = 3, 150, 5


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def alone(model: Transformer, text: Tensor, dtype: torch.dtype) -> Tensor:
    """One text, read at once: (TIME, vocabulary)."""
    cache = PagedCache(model.architecture, PAGES, dtype=dtype)
    return model.step(Rows(tuple(text.tolist()), (Span(tuple(range(PAGES)), 0, TIME),), tuple(range(TIME))), cache)


def together(model: Transformer, texts: Tensor, dtype: torch.dtype, dice: random.Random) -> Tensor:
    """All texts, in random chunks, companies and pages."""
    cache = PagedCache(model.architecture, 20, dtype=dtype)
    pages = dice.sample(range(20), SEQUENCES * PAGES)
    at = [0] * SEQUENCES
    said = torch.zeros(SEQUENCES, TIME, model.architecture.vocabulary)
    while min(at) < TIME:
        spans, tokens, who = [], [], []
        for i in dice.sample(range(SEQUENCES), dice.randint(1, SEQUENCES)):
            count = min(TIME - at[i], dice.choice((1, 1, 2, 3, 5, 17, 40, 120)))
            if count:
                spans.append(Span(tuple(pages[i * PAGES : (i + 1) * PAGES]), at[i], count))
                tokens += texts[i, at[i] : at[i] + count].tolist()
                who += [(i, place) for place in range(at[i], at[i] + count)]
                at[i] += count
        if spans:
            logits = model.step(Rows(tuple(tokens), tuple(spans), tuple(range(len(tokens)))), cache)
            for row, (i, place) in enumerate(who):
                said[i, place] = logits[row]
    return said


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("llama", torch.float32), ("llama", torch.bfloat16), ("gemma2", torch.float32), ("gpt2", torch.float32)],
)
def test_a_row_has_the_same_bits_in_every_company(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = load(make(tmp_path / "model", family, layers=2, vocabulary=500, dtype=dtype)).model
    model.exact = Exact()
    texts = torch.randint(0, 500, (SEQUENCES, TIME), generator=torch.Generator().manual_seed(2))
    torch.set_num_threads(1)
    expected = torch.stack([alone(model, text, dtype) for text in texts])
    dice = random.Random(3)
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
        assert torch.equal(together(model, texts, dtype, dice), expected)
    if dtype == torch.float32:
        assert (expected - model(texts)).abs().max() < 1e-4  # and it is the same function as the fast form


def test_the_fast_form_does_not_promise_that(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    model = load(make(tmp_path / "model", "llama")).model
    texts = torch.randint(0, 500, (SEQUENCES, TIME), generator=torch.Generator().manual_seed(2))
    expected = torch.stack([alone(model, text, torch.float32) for text in texts])
    assert not torch.equal(together(model, texts, torch.float32, random.Random(3)), expected)


@pytest.mark.parametrize(("ins", "outs"), [(64, 24), (128, 97), (576, 192)])
def test_products_do_not_depend_on_rows_or_threads(ins: int, outs: int) -> None:
    layer = torch.nn.Linear(ins, outs).requires_grad_(False)
    x = torch.randn(300, ins, generator=torch.Generator().manual_seed(4))
    torch.set_num_threads(1)
    expected = Exact().multiply(layer, x)
    exact = Exact()
    for count in (1, 2, 4, 8):
        with threads(count):
            assert torch.equal(exact.multiply(layer, x), expected)
            for low, high in ((0, 1), (5, 8), (17, 290)):
                assert torch.equal(exact.multiply(layer, x[low:high]), expected[low:high])
    torch.testing.assert_close(expected, layer(x))
