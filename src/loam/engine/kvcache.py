"""Where keys and values are kept: pages of `PAGE` positions, which sequences with the same beginning share.

Knows where things lie, not who may use them (see `pages.py`). Invariant: a page is one contiguous block a layer and key
head, so a compiled kernel can walk it with plain pointers.
"""

import math
import mmap

import torch
from torch import Tensor

from loam.engine.architecture import Architecture

PAGE = 32
"""Positions on a page."""
_LARGE = 1 << 20
"""Bytes from which a mapping of its own is worth it."""


class PagedCache:
    """`keys` and `values`: (layers, pages, kv_heads, PAGE, head_width), contiguous."""

    def __init__(
        self,
        architecture: Architecture,
        pages: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (architecture.layers, pages, architecture.kv_heads, PAGE, architecture.head_width)
        self.keys = _zeros(shape, dtype, device)
        self.values = _zeros(shape, dtype, device)

    @property
    def pages(self) -> int:
        return self.keys.shape[1]

    def write(self, layer: int, pages: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keys and values (rows, kv_heads, head_width) of one layer, row i to place `places[i]` of page `pages[i]`."""
        self.keys[layer, pages, :, places] = keys.to(self.keys.dtype)
        self.values[layer, pages, :, places] = values.to(self.values.dtype)

    def gather(self, layer: int, pages: Tensor) -> tuple[Tensor, Tensor]:
        """All positions of some sequences' pages, `pages` (sequences, n): keys and values, each
        (sequences, kv_heads, n * PAGE, head_width), contiguous. One copy, a row of it a page and head.
        """
        sequences, n = pages.shape
        heads, head_width = self.keys.shape[2], self.keys.shape[4]
        # (sequences, kv_heads, n): which row of (pages * kv_heads, PAGE * head_width)
        index = pages[:, None, :] * heads + torch.arange(heads, device=pages.device)[None, :, None]

        def gathered(pool: Tensor) -> Tensor:
            taken = pool[layer].view(-1, PAGE * head_width).index_select(0, index.flatten())
            return taken.view(sequences, heads, n * PAGE, head_width)

        return gathered(self.keys), gathered(self.values)

    def read(self, layer: int, pages: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` positions of one sequence: keys and values, each (kv_heads, length, head_width)."""
        keys, values = self.gather(layer, pages[None])
        return keys[0, :, :length], values[0, :, :length]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros that take memory page by page as they are written: `torch.zeros` would write all of them now."""
    size = math.prod(shape) * dtype.itemsize
    if torch.device(device).type != "cpu" or size < _LARGE:
        return torch.zeros(shape, dtype=dtype, device=device)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(room, dtype=dtype).view(shape)
