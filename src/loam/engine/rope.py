"""Rotary positions (Su et al. 2021) and the ways in which checkpoints stretch them.

Invariant: the angle of a position depends on the position alone, so that a token turns alike in every batch and in
every chunk of its prompt. Two scalings are defined by the length of the text in their papers; here, therefore:
`dynamic` turns position p as it was turned when p was the last position, and `longrope` takes its long factors for all
positions if the model's context is longer than the trained one.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from loam.engine.architecture import Rope

BLOCK = 1024
"""The table grows by so many positions at a time."""


class RotaryTable:
    """cos and sin of every position so far asked for, fp32, (positions, rope.width / 2) each."""

    def __init__(self, rope: Rope, context: int) -> None:
        self.rope, self.context = rope, context
        self.cos = self.sin = torch.empty(0)

    def at(self, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Cos and sin, (*positions.shape, 1, width / 2): the 1 is for the heads. All positions are below `length`."""
        if self.cos.shape[0] < length or self.cos.device != positions.device:
            self._grow(-(-max(length, self.cos.shape[0]) // BLOCK) * BLOCK, positions.device)
        return self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2)

    def _grow(self, length: int, device: torch.device) -> None:
        frequencies, gain = _frequencies(self.rope, self.context, length)
        # (positions, 1) times (width / 2) or, where a position has frequencies of its own, (positions, width / 2)
        angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
        self.cos, self.sin = (angles.cos() * gain).to(device), (angles.sin() * gain).to(device)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn heads (..., heads, head_width): number i with number i + width / 2, as Llama's files want it."""
    half = cos.shape[-1]
    first, second, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def _plain(theta: float, width: int) -> Tensor:
    return 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)


def _frequencies(rope: Rope, context: int, length: int) -> tuple[Tensor, float]:
    """Radians a position, and what cos and sin are multiplied by."""
    said = rope.scaling or {}  # `families.py` has seen to it that nothing is missing
    return _KINDS[said.get("rope_type", "default")](rope, said, context, length)


def _default(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    return _plain(rope.theta, rope.width), 1.0


def _factors(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    """Each frequency divided by its own factor, as GGUF files say it."""
    return _plain(rope.theta, rope.width) / torch.tensor(said["factors"], dtype=torch.float32), 1.0


def _linear(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    return _plain(rope.theta, rope.width) / said["factor"], 1.0


def _dynamic(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    """NTK by length (bloc97, emozilla 2023), (positions, width / 2)."""
    trained, factor = said["max_position_embeddings"], said["factor"]
    lengths = torch.arange(1, length + 1, dtype=torch.float64).clamp_min(trained)
    bases = rope.theta * (factor * lengths / trained - (factor - 1)) ** (rope.width / (rope.width - 2))
    powers = torch.arange(0, rope.width, 2, dtype=torch.float64) / rope.width
    return (1.0 / bases[:, None] ** powers).float(), 1.0


def _llama3(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    """Long waves are slowed by the factor, short ones kept, those between blended (Llama 3.1)."""
    plain = _plain(rope.theta, rope.width)
    low, high = said["low_freq_factor"], said["high_freq_factor"]
    turns = said["original_max_position_embeddings"] * plain / (2 * math.pi)  # within the trained length
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return blend * plain + (1 - blend) * plain / said["factor"], 1.0


def _yarn(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    """Peng et al. 2023."""
    trained = said.get("original_max_position_embeddings") or said["max_position_embeddings"]
    width, factor = rope.width, said["factor"]

    def dimension(turns: float) -> float:
        """The pair of numbers that turns so often within the trained length."""
        return width * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(said.get("beta_fast") or 32), dimension(said.get("beta_slow") or 1)
    if said.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = ((torch.arange(width // 2, dtype=torch.float32) - low) / ((high - low) or 0.001)).clamp(0, 1)
    plain = _plain(rope.theta, width)
    return plain / factor * ramp + plain * (1 - ramp), _yarn_gain(said, factor)


def _yarn_gain(said: dict[str, Any], factor: float) -> float:
    def gain(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if said.get("attention_factor") is not None:
        return float(said["attention_factor"])
    if said.get("mscale") and said.get("mscale_all_dim"):  # DeepSeek's two dials
        return gain(said["mscale"]) / gain(said["mscale_all_dim"])
    return gain(1.0)


def _longrope(rope: Rope, said: dict[str, Any], context: int, length: int) -> tuple[Tensor, float]:
    """Ding et al. 2024: a factor for each frequency."""
    trained = said["original_max_position_embeddings"]
    factors = torch.tensor(said["long_factor"] if context > trained else said["short_factor"], dtype=torch.float32)
    powers = torch.arange(0, rope.width, 2, dtype=torch.int64).float() / rope.width
    stretch = said.get("factor") or said["max_position_embeddings"] / trained
    gain = said.get("attention_factor")
    if gain is None:
        gain = math.sqrt(1 + math.log(stretch) / math.log(trained)) if stretch > 1 else 1.0
    return 1.0 / (factors * rope.theta**powers), float(gain)


_KINDS: dict[str, Callable[[Rope, dict[str, Any], int, int], tuple[Tensor, float]]] = {
    "default": _default,
    "factors": _factors,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
