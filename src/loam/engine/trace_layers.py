"""The last position on its way through the layers: norms, attention head by head, and the logit lens.

Knows the plain torch decoder. Invariant: it runs the decoder's own blocks and its own pass over the cache, and only
listens, so that what it sees is what the decoder did; its logits are those of `Transformer.step`, bit by bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from loam.engine.inspection import Guess, Head, Layer, Look, Piece, Wish
from loam.engine.kvcache import PagedCache
from loam.engine.passes import Paged, Pass, attention_weights
from loam.engine.rows import Rows
from loam.engine.sampling import Floats, Weights, softmax_weights
from loam.engine.transformer import Block, Transformer

Name = Callable[[int], Piece]


@dataclass(frozen=True, slots=True)
class Seen:
    """One layer at the last position. Vectors are (width,), fp32."""

    entering: Tensor
    attended: Tensor
    """What attention added to the stream."""
    leaving: Tensor
    weights: Tensor
    """(heads, length): each head's attention over the positions up to its own; rows sum to 1."""
    written: Tensor
    """(heads, width): what each head put into the output projection's sum, before any bias or norm."""
    logits: Tensor
    """(vocabulary,): the logit lens."""


class Listening(Pass):
    """A step's own pass, overheard: the last row's queries, what its heads read and what came of it are kept."""

    query: Tensor
    """(heads, head_width)"""
    read: Tensor
    """(heads, head_width)"""
    projected: Tensor
    """(width,): what the output projection made of that; it is the first matrix after attention"""
    _just_read = False

    def __init__(self, inner: Paged) -> None:
        self.inner = inner
        self.architecture, self.positions = inner.architecture, inner.positions

    def linear(self, layer: nn.Module, x: Tensor) -> Tensor:
        out = self.inner.linear(layer, x)
        if self._just_read:
            self.projected, self._just_read = out[-1], False
        return out

    def activate(self, x: Tensor) -> Tensor:
        return self.inner.activate(x)

    def turn(self, layer: int, x: Tensor) -> Tensor:
        return self.inner.turn(layer, x)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = self.inner.attend(layer, q, k, v)
        self.query, self.read, self._just_read = q[-1], out[-1], True
        return out


@torch.inference_mode()
def look(model: Transformer, rows: Rows, cache: PagedCache) -> tuple[Tensor, list[Seen]]:
    """One step of one sequence: its logits (vocabulary,) in fp32, and each layer at its last row."""
    way = Listening(model.paged(rows, cache))
    x = model.embed(torch.tensor(rows.tokens, device=cache.keys.device), way)  # (rows, width)
    seen: list[Seen] = []
    for block in model.layers:
        entering = x[-1]
        x = block(x, way)
        seen.append(_seen(model, cast(Block, block), way, rows, entering, x[-1:]))
    return model.head(x[-1:], way)[0].float(), seen


def _seen(model: Transformer, block: Block, way: Listening, rows: Rows, entering: Tensor, leaving: Tensor) -> Seen:
    scale = model.architecture.residual_scale
    attended = block.attn_post_norm(way.projected[None])[0] * scale
    return Seen(
        entering.float(),
        attended.float(),
        leaving[0].float(),
        _weights(model, block, way, rows),
        _written(block, way) * scale,
        model.head(leaving, way)[0].float(),
    )


def _weights(model: Transformer, block: Block, way: Listening, rows: Rows) -> Tensor:
    """The attention of the last row, (heads, length), out of the queries and the cache's keys."""
    architecture, layer = model.architecture, block.self_attn.layer
    [span] = rows.spans
    length = span.start + span.count
    pages = torch.tensor(span.pages, device=way.inner.device)
    keys, _ = way.inner.cache.read(layer, pages, length)  # (kv_heads, length, head_width)
    mask = None
    window = architecture.window(layer)
    if window is not None and window < length:
        mask = torch.zeros(length, device=way.inner.device)
        mask[: length - window] = -torch.inf
    query = way.query[None, :, None]  # (1, heads, 1, head_width)
    return attention_weights(query, keys[None].to(query.dtype), mask, architecture)[0, :, 0]


def _written(block: Block, way: Listening) -> Tensor:
    """What each head alone sends through the output projection, and through an adapter's beside it: (heads, width)."""
    read, project = way.read, block.self_attn.o_proj
    heads = read.shape[0]
    alone = torch.zeros(heads, *read.shape, dtype=read.dtype, device=read.device)  # (heads, heads, head_width)
    alone[torch.arange(heads), torch.arange(heads)] = read
    silent = torch.zeros(1, read.numel(), dtype=read.dtype, device=read.device)  # gives the bias, where there is one
    written = (project(alone.flatten(1)) - project(silent)).float()
    for _, low_rank in way.inner.added.get(project, ()):
        written += low_rank(alone.flatten(1)).float()
    return written


def layer_of(number: int, seen: Seen, token: int, wish: Wish, context: list[int], name: Name, heads: bool) -> Layer:
    """A layer in words; `token` is the one that came after `context`."""
    probabilities = _softmax(seen.logits)
    best = np.argsort(-probabilities, kind="stable")[: wish.lens]
    values = seen.logits.cpu().numpy()
    return Layer(
        layer=number,
        entering=_norm(seen.entering),
        attention=_norm(seen.attended),
        mlp=_norm(seen.leaving - seen.entering - seen.attended),
        leaving=_norm(seen.leaving),
        heads=tuple(_head(head, seen, wish.looks, context, name) for head in range(len(seen.weights))) if heads else (),
        lens=tuple(Guess(name(int(one)), float(probabilities[one])) for one in best),
        drawn_rank=rank(values, token),
        drawn_probability=float(probabilities[token]),
    )


def _head(head: int, seen: Seen, looks: int, context: list[int], name: Name) -> Head:
    weights: Weights = seen.weights[head].double().cpu().numpy()
    most = [int(at) for at in np.argsort(-weights, kind="stable")[:looks]]
    some = weights[weights > 0]
    return Head(
        head=head,
        norm=_norm(seen.written[head]),
        entropy=float(-(some * np.log2(some)).sum()) + 0.0,
        looks=tuple(Look(at, name(context[at]), float(weights[at])) for at in most),
        rest=float(np.delete(weights, most).sum()),
    )


def rank(values: Floats, token: int) -> int:
    """1 for the largest; equals count by id."""
    return int((values > values[token]).sum() + (values[:token] == values[token]).sum()) + 1


def _softmax(logits: Tensor) -> Weights:
    weights = softmax_weights(logits.cpu().numpy(), 1.0)
    return weights / weights.sum()


def _norm(vector: Tensor) -> float:
    return float(vector.square().sum().sqrt())
