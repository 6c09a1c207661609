"""A technique costs at most a millisecond beyond the calls that it makes, over an answer of 200 pieces."""

import pytest

from bench.techniques import CASES, overhead, step_overhead


@pytest.mark.parametrize("name", CASES)
def test_overhead(name: str) -> None:
    seconds, _ = min(overhead(name) for _ in range(2))
    assert seconds <= 1e-3, f"{name}: {seconds * 1e6:.0f} microseconds"


def test_a_step_of_an_agent() -> None:
    """Beyond its model's call, and without the write to the disk."""
    seconds = min(step_overhead(durable=False) for _ in range(2))
    assert seconds <= 1e-3, f"{seconds * 1e6:.0f} microseconds"
