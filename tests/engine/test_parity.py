"""Each family against transformers' own model of it, on tiny random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.load import Loaded, load
from loam.engine.rows import Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import PER_FAMILY, make

FAMILIES = sorted(PER_FAMILY)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def both(folder: Path) -> tuple[Loaded, Any]:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return load(folder), theirs.eval()


def texts(seed: int = 0, batch: int = 2, time: int = 90) -> torch.Tensor:
    return torch.randint(0, 512, (batch, time), generator=torch.Generator().manual_seed(seed))


def in_chunks(model: Transformer, tokens: torch.Tensor, edges: list[int]) -> torch.Tensor:
    """Logits (batch, time, vocabulary) of the cached form, each text read in chunks between `edges`."""
    batch, time = tokens.shape
    each = -(-time // PAGE)
    cache = PagedCache(model.architecture, batch * each)
    order = torch.randperm(batch * each, generator=torch.Generator().manual_seed(1)).view(batch, each).tolist()
    said: list[torch.Tensor] = []
    for low, high in zip([0, *edges], [*edges, time], strict=True):
        spans = tuple(Span(tuple(order[i]), low, high - low) for i in range(batch))
        rows = Rows(tuple(tokens[:, low:high].flatten().tolist()), spans, tuple(range(batch * (high - low))))
        said.append(model.step(rows, cache).view(batch, high - low, -1))
    return torch.cat(said, dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_transformers(family: str, shelf: Path) -> None:
    ours, theirs = both(make(shelf / family, family))
    tokens = texts()
    with torch.no_grad():
        expected, whole = theirs(tokens).logits, ours.model(tokens)
    cached = in_chunks(ours.model, tokens, [1, 40, 41])
    assert expected.std() > 0.3  # a model that says something
    assert (whole - expected).abs().max() <= 1e-4
    assert (cached - expected).abs().max() <= 1e-4
