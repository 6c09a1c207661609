"""A technique costs at most a millisecond beyond the calls that it makes, over an answer of 200 pieces."""

import pytest

from bench.techniques import CASES, overhead


@pytest.mark.parametrize("name", CASES)
def test_overhead(name: str) -> None:
    seconds, _ = min(overhead(name) for _ in range(2))
    assert seconds <= 1e-3, f"{name}: {seconds * 1e6:.0f} microseconds"
