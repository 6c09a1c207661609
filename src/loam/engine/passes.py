"""One pass of some tokens through the layers: where their keys and values come from, and who sees whom.

`Whole` reads whole texts without a cache: simple, differentiable, the twin that the cached form is judged by. `Paged`
runs one step of many sequences over the paged cache. A block (see `transformer.py`) is the same for both; it asks its
pass for the things in which they differ: `linear`, `activate`, `turn`, `attend`, and the positions. `exact.py` has a
third.
Invariant: a row sees its own sequence's positions up to its own, within the layer's window, and nothing else.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from torch import Tensor, nn

from loam.engine.architecture import Activation, Architecture, Turning
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.rope import RotaryTable, turn
from loam.engine.rows import Rows, Span

Tables = dict[Turning, RotaryTable]
Added = Mapping[nn.Module, Sequence[tuple[Tensor, nn.Module]]]
"""What adapters add to a layer: to which rows, and by which low-rank pair."""


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, architecture: Architecture, causal: bool = False
) -> Tensor:
    """softmax(q k' * scale) v, of q (batch, heads, rows, head_width) and k, v (batch, kv_heads, length, head_width).

    `mask` is added to the scores, (batch or 1, 1, rows, length), 0 or -inf. Query head h reads key head h // group.
    """
    a = architecture
    if a.attention_softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=a.score_scale, enable_gqa=a.group > 1
        )
    return attention_weights(q, k, mask, a, causal=causal).to(v.dtype) @ v.repeat_interleave(a.group, dim=1)


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, architecture: Architecture, causal: bool = False
) -> Tensor:
    """The weights themselves, (batch, heads, rows, length), fp32: what a plain reading of the paper computes."""
    a = architecture
    scores = (q @ k.repeat_interleave(a.group, dim=1).mT).float() * a.score_scale
    if a.attention_softcap is not None:
        scores = a.attention_softcap * torch.tanh(scores / a.attention_softcap)
    if causal:
        rows, length = scores.shape[-2:]
        scores = scores + barred(torch.ones(rows, length, dtype=torch.bool, device=q.device).tril(), scores.dtype)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1)


def barred(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where `seen`, -inf elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def activate(x: Tensor, kind: Activation) -> Tensor:
    """The bend between two matrices of an MLP."""
    match kind:
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return F.relu(x)
        case "relu_squared":
            return F.relu(x).square()


class Pass:
    """What both passes share. `positions` has the shape of the tokens."""

    def __init__(self, architecture: Architecture, tables: Tables, positions: Tensor, length: int) -> None:
        self.architecture, self.positions = architecture, positions
        self._turns = {turning: table.at(positions, length) for turning, table in tables.items()}

    def linear(self, layer: nn.Module, x: Tensor) -> Tensor:
        """One matrix multiplication over all rows."""
        return layer(x)

    def activate(self, x: Tensor) -> Tensor:
        return activate(x, self.architecture.activation)

    def turn(self, layer: int, x: Tensor) -> Tensor:
        """Heads (..., heads, head_width), turned to their positions; as they are where the layer has none."""
        turning = self.architecture.turning(layer)
        return x if turning == "none" else turn(x, *self._turns[turning])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Heads that were turned, (..., heads or kv_heads, head_width), to what they read, (..., heads, head_width)."""
        raise NotImplementedError


class Whole(Pass):
    """Whole texts, tokens (batch, time), each from its beginning; nothing is kept."""

    def __init__(self, architecture: Architecture, tables: Tables, tokens: Tensor) -> None:
        time = tokens.shape[1]
        positions = torch.arange(time, device=tokens.device).expand(tokens.shape)
        super().__init__(architecture, tables, positions, time)
        self._masks: dict[int, Tensor] = {}

    def mask(self, layer: int, dtype: torch.dtype) -> Tensor | None:
        """(1, 1, time, time) for a layer with a window that matters, else None: plainly causal."""
        window, time = self.architecture.window(layer), self.positions.shape[1]
        if window is None or window >= time:
            return None
        if window not in self._masks:
            at = torch.arange(time, device=self.positions.device)
            behind = at[:, None] - at[None, :]
            self._masks[window] = barred((behind >= 0) & (behind < window), dtype)[None, None]
        return self._masks[window]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # (batch, time, heads, head_width) -> (batch, heads, time, head_width) and back
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mask = self.mask(layer, q.dtype)
        return attention(q, k, v, mask, self.architecture, causal=mask is None).transpose(1, 2)


@dataclass(slots=True)
class Group:
    """Spans of equally many rows and similarly many pages, which attend in one call."""

    rows: Tensor
    """(sequences * count,): their places among the step's rows; a slice where they are all of them."""
    spans: list[Span]
    count: int
    views: "dict[int | None, View]"


@dataclass(slots=True)
class View:
    """What a group sees in layers of one window."""

    pages: Tensor
    """(sequences, n)"""
    length: int
    """How many of the gathered positions are attended to."""
    mask: Tensor | None
    """(sequences, 1, count, length)"""
    causal: bool


class Paged(Pass):
    """One step: rows (rows,) of many sequences, over the cache."""

    at_once = 1
    """Keys are read so many pages at a time, counted from the sequence's beginning."""

    def __init__(
        self, architecture: Architecture, tables: Tables, rows: Rows, cache: PagedCache, added: Added | None = None
    ) -> None:
        self.cache = cache
        self.added = added or {}
        self.device = cache.keys.device
        positions = [position for span in rows.spans for position in range(span.start, span.start + span.count)]
        pages = [span.pages[p // PAGE] for span in rows.spans for p in range(span.start, span.start + span.count)]
        at = torch.tensor(positions, device=self.device)
        super().__init__(architecture, tables, at, max(positions, default=0) + 1)
        self._pages, self._places = torch.tensor(pages, device=self.device), at % PAGE
        self._groups = self._grouped(rows)

    def multiply(self, layer: nn.Module, x: Tensor) -> Tensor:
        """One matrix, over rows (rows, in)."""
        return layer(x)

    def linear(self, layer: nn.Module, x: Tensor) -> Tensor:
        y = self.multiply(layer, x)
        for rows, low_rank in self.added.get(layer, ()):
            y.index_add_(0, rows, self.multiply(low_rank, x[rows]))
        return y

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.write(layer, self._pages, self._places, k, v)
        out = torch.empty_like(q)  # (rows, heads, head_width)
        window = self.architecture.window(layer)
        for group in self._groups:
            view = group.views[window]
            keys, values = self.cache.gather(layer, view.pages)
            # (sequences * count, heads, head_width) -> (sequences, heads, count, head_width)
            asked = q[group.rows].view(-1, group.count, *q.shape[1:]).transpose(1, 2)
            read = self.read(asked, keys.to(q.dtype), values.to(q.dtype), view)
            out[group.rows] = read.transpose(1, 2).flatten(0, 1)
        return out

    def read(self, q: Tensor, k: Tensor, v: Tensor, view: "View") -> Tensor:
        """Attention of one group: q (sequences, heads, count, head_width), k and v all gathered positions."""
        k, v = k[:, :, : view.length], v[:, :, : view.length]
        return attention(q, k, v, view.mask, self.architecture, causal=view.causal)

    def _grouped(self, rows: Rows) -> list[Group]:
        """Spans alike in rows, and in pages to a factor of two, so that padding costs at most that."""
        alike: dict[tuple[int, int], list[tuple[int, Span]]] = defaultdict(list)
        first = 0
        for span in rows.spans:
            pages = (span.start + span.count - 1) // PAGE + 1
            alike[span.count, pages.bit_length()].append((first, span))
            first += span.count
        windows: set[int | None] = set(self.architecture.windows) or {None}
        groups: list[Group] = []
        for (count, _), members in alike.items():
            places = [place for first, _ in members for place in range(first, first + count)]
            spans = [span for _, span in members]
            views = {window: self._view(spans, count, window) for window in windows}
            groups.append(Group(torch.tensor(places, device=self.device), spans, count, views))
        return groups

    def _view(self, spans: list[Span], count: int, window: int | None) -> View:
        """The pages from the first that the window reaches to the last that is written, and who sees what there."""
        step = self.at_once
        skipped = [max(0, span.start - window + 1) // (PAGE * step) * step if window else 0 for span in spans]
        ends = [span.start + count for span in spans]  # positions, not included
        pages = [
            list(span.pages[skip : (end - 1) // PAGE + 1]) for span, skip, end in zip(spans, skipped, ends, strict=True)
        ]
        most = -(-max(len(own) for own in pages) // step) * step
        # A shorter sequence is padded with its own last page, behind the mask.
        table = torch.tensor([own + [own[-1]] * (most - len(own)) for own in pages], device=self.device)
        lengths = [end - skip * PAGE for end, skip in zip(ends, skipped, strict=True)]
        length = max(lengths) if step == 1 else most * PAGE
        plain = set(lengths) == {length} and (window is None or length <= window)
        if step == 1 and plain and count in (1, length):
            return View(table, length, None, causal=count > 1)
        at = torch.arange(length, device=self.device) + torch.tensor(skipped, device=self.device)[:, None] * PAGE
        asking = (
            torch.arange(count, device=self.device)
            + torch.tensor([s.start for s in spans], device=self.device)[:, None]
        )
        behind = asking[:, :, None] - at[:, None, :]  # (sequences, count, length)
        seen = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
        return View(table, length, barred(seen, self.cache.keys.dtype)[:, None], causal=False)
