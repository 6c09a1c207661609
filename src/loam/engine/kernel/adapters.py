"""LoRA adapters in the layout the kernel reads (kernel.h, `LowRank`).

Knows `Adapter` and where a decoder's layers stand among the kernel's matrices. Invariant: an adapter is packed whole or
not at all; `Uncovered` says which of its layers the kernel has no place for.
"""

import ctypes
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from torch import Tensor, nn

from loam.engine.adapters import Adapter
from loam.engine.kernel.binding import BF16, BLOCK, FP32, PLACES, LowRank
from loam.engine.transformer import Block, Transformer

LANES = 16


class Uncovered(Exception):
    """The kernel cannot run this adapter; the message says why."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An adapter as the kernel reads it."""

    lows: "ctypes.Array[LowRank]"
    """(layers * PLACES,)"""
    ranks: int
    """The most that one matrix has, in whole chunks."""
    held: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.held)


def packed_adapter(adapter: Adapter, model: Transformer) -> Packed:
    """Raises `Uncovered` where it adapts what is no matrix of a block (the head, say)."""
    left = dict(adapter.layers)
    lows = (LowRank * (len(model.layers) * PLACES))()
    held: list[Tensor] = []
    for index, block in enumerate(model.layers):
        for place, layers in enumerate(_matrices(cast(Block, block))):
            pairs = [(layer, left.pop(layer, None)) for layer in layers]
            parts = [(layer, (low.get_buffer("down"), low.get_buffer("up")) if low else None) for layer, low in pairs]
            if any(pair for _, pair in parts):
                lows[index * PLACES + place] = _packed(parts, gated=len(layers) == 2, held=held)
    if left:
        raise Uncovered(f"it adapts {len(left)} layers that are no matrix of a block (the head, or another model's)")
    return Packed(lows, max((low.ranks for low in lows), default=0), tuple(held))


def _matrices(block: Block) -> tuple[tuple[nn.Module, ...], ...]:
    """A block's layers by the matrix they are parts of, in the order of kernel.h's places."""
    attention, mlp = block.self_attn, block.mlp
    return (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (cast(nn.Module, mlp.gate_proj), mlp.up_proj),
        (mlp.down_proj,),
    )


Part = tuple[nn.Module, tuple[Tensor, Tensor] | None]


def _packed(parts: Sequence[Part], *, gated: bool, held: list[Tensor]) -> LowRank:
    """One matrix's: the parts' `down` below each other, their `up` half block by half block."""
    pairs = [pair for _, pair in parts if pair]
    exact = all(tensor.dtype == torch.bfloat16 for pair in pairs for tensor in pair)
    kind = torch.bfloat16 if exact else torch.float32
    down = torch.cat([first for first, _ in pairs]).to(kind)
    ranks = -(-down.shape[0] // LANES) * LANES
    down = F.pad(down, (0, 0, 0, ranks - down.shape[0]))
    # (ranks, inputs) -> (ranks / 16, inputs, 16)
    down = down.view(-1, LANES, down.shape[1]).transpose(1, 2).contiguous()
    halves, ups, at, first = defaultdict[int, tuple[int, int, int]](lambda: (0, 0, 0)), list[Tensor](), 0, 0
    begins = 0  # the part's first half block, were they not taken in turns
    for number, (layer, pair) in enumerate(parts):
        count = -(-int(cast(int, layer.out_features)) // LANES)
        if pair:
            up = pair[1].to(kind)
            rank = up.shape[1]
            # (outputs, rank) -> (half blocks, rank, 16)
            up = F.pad(up, (0, 0, 0, count * LANES - up.shape[0])).view(count, LANES, rank).transpose(1, 2).contiguous()
            for i in range(count):
                halves[2 * i + number if gated else begins + i] = (at + i * rank * LANES, first, rank)
            ups.append(up.flatten())
            at, first = at + up.numel(), first + rank
        begins += count
    outputs = sum(int(cast(int, layer.out_features)) for layer, _ in parts)
    blocks = -(-outputs // BLOCK)
    table = torch.tensor([halves[i] for i in range(2 * blocks)], dtype=torch.int64)
    up = torch.cat(ups)
    held += [down, up, table]
    return LowRank(
        down=down.data_ptr(), up=up.data_ptr(), halves=table.data_ptr(), type=BF16 if exact else FP32, ranks=ranks
    )
