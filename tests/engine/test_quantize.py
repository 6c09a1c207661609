"""Fewer bits a weight: each product against the plain one with the same matrix, and the error that the bits cost."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it

from loam.engine.load import load
from loam.engine.quantize import Int4Linear, Int8DynamicLinear, Int8Linear, quantised
from tests.engine.checkpoints import make

KINDS = [Int8Linear, Int8DynamicLinear, Int4Linear]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 16, 17, 70])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_that_with_its_own_matrix(kind: Any, rows: int, bias: bool) -> None:
    layer = kind(drawn(48, 96), drawn(48, seed=1) if bias else None)
    x = drawn(rows, 96, seed=2).to(torch.bfloat16)
    added = layer.bias.float() if bias else None
    expected = F.linear(x.float(), layer.weight(), added)
    tolerance = 0.03 if kind is Int8DynamicLinear else 0.01
    y = layer(x)
    assert y.dtype == x.dtype
    assert float((y.float() - expected).norm() / expected.norm()) < tolerance
    assert layer(x.view(1, rows, 96)).shape == (1, rows, 48)


@pytest.mark.parametrize(("kind", "error"), [(Int8Linear, 0.01), (Int4Linear, 0.09)])
def test_the_matrix_is_near_the_one_it_stands_for(kind: Any, error: float) -> None:
    weight = drawn(64, 128)
    assert float((kind(weight, None).weight() - weight).norm() / weight.norm()) < error


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind: Any) -> None:
    layer = kind(torch.zeros(32, 64), None)
    assert torch.equal(layer(drawn(3, 64).to(torch.bfloat16)).float(), torch.zeros(3, 32))
    assert torch.isfinite(kind(drawn(32, 64), None)(torch.zeros(2, 64, dtype=torch.bfloat16))).all()


def test_dynamic_products_are_exact_in_every_company() -> None:
    layer = Int8DynamicLinear(drawn(48, 96), None)
    x = drawn(40, 96, seed=2)
    together = layer(x)
    assert all(torch.equal(layer(x[i : i + 1])[0], together[i]) for i in range(40))


def test_sizes_that_do_not_fit_four_bits_take_eight() -> None:
    assert isinstance(quantised(drawn(48, 96), None, "int4"), Int4Linear)
    assert isinstance(quantised(drawn(48, 40), None, "int4"), Int8Linear)
    assert isinstance(quantised(drawn(50, 96), None, "int4"), Int8Linear)


@pytest.mark.parametrize(("weights", "error"), [("int8", 0.05), ("int8_dynamic", 0.08), ("int4", 0.5)])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_whole_model_stays_near(weights: Any, error: float, family: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", family)
    tokens = torch.randint(0, 512, (1, 40), generator=torch.Generator().manual_seed(0))
    plain, packed = load(folder).model(tokens), load(folder, weights=weights).model(tokens)
    assert packed.dtype == torch.float32
    assert float((packed - plain).norm() / plain.norm()) < error
