"""Weights in the layout the kernel reads: packed once, in one stretch of memory with huge pages.

Knows which tensors a decoder has, not where they come from. Invariant: a packed matrix owns its numbers; only the
embedding table stays where the caller has it. Huge pages matter: at a decoding step all weights pass by once, and with
4 KB pages the page walks alone halve the rate.
"""

import ctypes
import mmap

import torch
from torch import Tensor

from loam.engine.architecture import Architecture
from loam.engine.kernel.binding import BF16, BLOCK, FP16, FP32, INT8, KINDS, Kind, Matrix
from loam.engine.kernel.weights import Linear, Quantized
from loam.engine.mapped import Mapped

HUGE = 2 << 20
AT_ONCE = 4 << 20
"""Bytes of a weight that are packed, and leave memory, together."""
TYPES = {torch.float32: FP32, torch.bfloat16: BF16, torch.float16: FP16}


def shape_of(linear: Linear) -> tuple[int, int]:
    """Outputs and inputs of a weight."""
    outputs, inputs = (linear.weights if isinstance(linear, Quantized) else linear).shape
    return outputs, inputs


class Arena:
    """Memory for packed weights: one mapping, asked to be of huge pages, handed out in order."""

    def __init__(self, size: int) -> None:
        # private: the kernel gives a shared mapping small pages unless it is set to do otherwise
        self.map = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.map.madvise(mmap.MADV_HUGEPAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.at = (start + HUGE - 1) // HUGE * HUGE
        self.end = self.at + size

    def take(self, size: int) -> int:
        """The address of `size` fresh zero bytes, on a cache line's border."""
        address = self.at
        self.at += (size + 63) // 64 * 64
        if self.at > self.end:
            raise ValueError(f"the arena is {self.at - self.end} bytes too small")
        return address


def packed_bytes(kind: Kind, outputs: int, inputs: int) -> int:
    """What a matrix takes in an arena, scales and bias included."""
    wide = (outputs + BLOCK - 1) // BLOCK * BLOCK
    each = {"int8": (inputs + 3) // 4 * 4, "bf16": 2 * inputs, "fp32": 4 * inputs}[kind]
    return wide * each + 2 * 4 * wide + 128


def arena_bytes(shape: Architecture, kind: Kind) -> int:
    """What a decoder's matrices take together, before any is read."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    each = ((queries + 2 * keys, shape.width), (shape.width, queries), (2 * shape.hidden, shape.width))
    each += ((shape.width, shape.hidden),)
    size = packed_bytes(kind, shape.vocabulary, shape.width)
    size += shape.layers * sum(packed_bytes(kind, *one) for one in each)
    return size + 4 * (shape.width + 64) * (4 * shape.layers + 2) + 8 * 64 * shape.layers * shape.head_width


def pack(
    library: ctypes.CDLL,
    runner: int,
    arena: Arena,
    mapped: Mapped,
    parts: tuple[Linear, ...],
    *,
    kind: Kind,
    bias: tuple[Tensor, ...] = (),
    gated: bool = False,
) -> Matrix:
    """One matrix out of weights that stand below each other (queries, keys, values; or gates, ups).

    Weights that lie in a mapped file leave memory as soon as they are packed.
    """
    outputs, inputs = sum(shape_of(part)[0] for part in parts), shape_of(parts[0])[1]
    wide = (outputs + BLOCK - 1) // BLOCK * BLOCK
    size = packed_bytes(kind, wide, inputs) - 2 * 4 * wide - 128
    matrix = Matrix(
        packed=arena.take(size),
        scales=arena.take(4 * wide),
        type=KINDS[kind],
        outputs=outputs,
        inputs=inputs,
        gated=gated,
    )
    at = 0
    for part in parts:
        weights, scales = (part.weights, part.scales) if isinstance(part, Quantized) else (part, None)
        weights = weights.detach().contiguous()
        scales = None if scales is None else scales.detach().to(torch.float32).contiguous()
        source = INT8 if weights.dtype == torch.int8 else TYPES[weights.dtype]
        for first in range(0, weights.shape[0], step := max(1, AT_ONCE // (inputs * weights.itemsize))):
            some = weights[first : first + step]
            address = None if scales is None else scales[first:].data_ptr()
            library.loam_pack(runner, ctypes.byref(matrix), at, some.shape[0], source, some.data_ptr(), address)
            mapped.give_back(some)
            at += some.shape[0]
    if bias:
        matrix.bias = arena.take(4 * wide)
        together = torch.cat([part.detach().to(torch.float32) for part in bias]).contiguous()
        ctypes.memmove(matrix.bias, together.data_ptr(), 4 * outputs)
    return matrix
