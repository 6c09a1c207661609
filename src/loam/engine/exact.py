"""The batch-invariant form of a step: a row gets the same bits alone, in any batch, in any chunking of its prompt, and
with any number of threads (P9).

Floating-point sums depend on their order, and libraries choose the order by the shape of the work. What was measured of
torch on CPUs (see docs/design/engine.md): a matrix product changes a row's bits between 1, 2, 3 and more rows, and,
with few output columns a thread, with the number of threads; silu and sigmoid differ between the vector loop and its
tail; scaled_dot_product_attention differs with the length. So here: every product has a fixed number of rows,
activations are composed of operations that do not differ, and attention sums over fixed tiles of keys, tile by tile
from the first.
Invariant: no sum's order depends on anything but the row's own position. The reference is one thread and `FEW` rows;
what is faster is taken only where a probe showed it to give the reference's bits.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from torch import Tensor, nn

from loam.engine.architecture import Activation, Architecture
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.passes import Added, Paged, Tables, View, activate
from loam.engine.rows import Rows

FEW, MANY = 16, 256
"""Rows of one matrix product: for decoding, and for prompts where the probe allows it."""
QUERIES = 8
"""Query rows of one tile of attention."""
PAGES = 4
"""Pages of keys in one tile of attention."""


@contextmanager
def threads(count: int) -> Generator[None]:
    """Torch's threads within an operation, for a while."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Exact:
    """Matrix products in fixed tiles. Holds what the probes found, for each shape of layer and number of threads."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[int, int]] = {}

    def multiply(self, layer: nn.Module, x: Tensor) -> Tensor:
        """layer(x) of rows (rows, in), each row's bits independent of the others."""
        if not len(x):  # a step that asks for no logits
            return layer(x)
        tile, count = self._plan(layer, x)
        with threads(count):
            parts: list[Tensor] = []
            done = 0
            while done < x.shape[0]:
                size = tile if x.shape[0] - done > FEW else FEW
                part = x[done : done + size]
                short = size - part.shape[0]
                parts.append(layer(F.pad(part, (0, 0, 0, short)) if short else part)[: part.shape[0]])
                done += size
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _plan(self, layer: nn.Module, x: Tensor) -> tuple[int, int]:
        """The largest tile and the most threads that give the reference's bits."""
        now = torch.get_num_threads()
        weights = tuple((tuple(w.shape), w.dtype, w.stride()) for w in (*layer.parameters(), *layer.buffers()))
        key = (type(layer), weights, x.dtype, x.device, now)
        if key not in self._found:
            self._found[key] = self._probe(layer, x, now)
        return self._found[key]

    def _probe(self, layer: nn.Module, x: Tensor, now: int) -> tuple[int, int]:
        noise = torch.randn(MANY, x.shape[1], generator=torch.Generator().manual_seed(0)).to(x.device, x.dtype)
        with threads(1):
            reference = torch.cat([layer(part) for part in torch.split(noise, FEW)])
            alone = torch.equal(layer(noise), reference)
        few = torch.cat([layer(part) for part in torch.split(noise, FEW)])
        count = now if torch.equal(few, reference) else 1
        many = torch.equal(layer(noise), reference) if count == now else alone
        return (MANY if many else FEW), count


class ExactPaged(Paged):
    """One step over the cache in the batch-invariant form."""

    at_once = PAGES

    def __init__(
        self,
        architecture: Architecture,
        tables: Tables,
        rows: Rows,
        cache: PagedCache,
        added: Added | None,
        exact: Exact,
    ) -> None:
        super().__init__(architecture, tables, rows, cache, added)
        self.exact = exact

    def multiply(self, layer: nn.Module, x: Tensor) -> Tensor:
        return self.exact.multiply(layer, x)

    def activate(self, x: Tensor) -> Tensor:
        return _activated(x, self.architecture.activation)

    def read(self, q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
        assert view.mask is not None
        count = q.shape[2]
        parts: list[Tensor] = []
        for low in range(0, count, QUERIES):
            short = max(0, low + QUERIES - count)
            # A tile that is not full is filled with rows of zeros that see everything; they are cut off again.
            asked = F.pad(q[:, :, low : low + QUERIES], (0, 0, 0, short))
            mask = F.pad(view.mask[:, :, low : low + QUERIES], (0, 0, 0, short))
            parts.append(_tiled(asked, k, v, mask, self.architecture)[:, :, : QUERIES - short])
        return torch.cat(parts, dim=2)


def _activated(x: Tensor, kind: Activation) -> Tensor:
    if kind == "silu":
        return x / (1 + torch.exp(-x))
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))  # sqrt(2 / pi)
    return activate(x, kind)


def _tiled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, a: Architecture) -> Tensor:
    """softmax(q k' * scale) v for q (sequences, heads, QUERIES, head_width), over tiles of PAGES * PAGE keys.

    A tile behind the mask adds exact zeros, so it does not matter how many of them there are.
    """
    sequences, heads, queries, head_width = q.shape
    tile, groups = PAGES * PAGE, sequences * a.kv_heads
    tiles = k.shape[2] // tile
    rows = a.group * queries
    # (groups, tiles, rows, head_width) times (groups, tiles, head_width, tile); a group is one key head of one sequence
    asked = q.reshape(groups, 1, rows, head_width).expand(-1, tiles, -1, -1).reshape(-1, rows, head_width)
    scores = torch.bmm(asked, k.reshape(-1, tile, head_width).mT).float() * a.score_scale
    if a.attention_softcap is not None:
        scores = a.attention_softcap * torch.tanh(scores / a.attention_softcap)
    seen = mask.view(sequences, 1, queries, tiles, tile).permute(0, 3, 1, 2, 4)  # (sequences, tiles, 1, queries, tile)
    scores = scores.view(sequences, a.kv_heads, tiles, a.group, queries, tile) + seen[:, None]
    weights = torch.exp(scores - scores.amax(dim=(2, 5), keepdim=True))
    sums = weights.sum(-1).view(groups, tiles, rows, 1)
    read = torch.bmm(weights.view(-1, rows, tile).to(v.dtype), v.reshape(-1, tile, head_width)).float()
    read = read.view(groups, tiles, rows, head_width)
    total, whole = sums[:, 0], read[:, 0]
    for number in range(1, tiles):  # from the first tile to the last: the order is the position's, not the length's
        total, whole = total + sums[:, number], whole + read[:, number]
    return (whole / total).to(q.dtype).view(sequences, heads, queries, head_width)
