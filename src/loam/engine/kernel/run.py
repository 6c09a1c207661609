"""The compiled forward: a decoder's weights, packed, and one call a step.

Knows the engine's rows and cache and the kernel's structures. Invariant (P9): a row's result depends on its own
sequence alone; no bit changes with the batch, the cut of a prompt or the number of threads (see linear.c, attention.c).
"""

import ctypes
import logging
import weakref
from array import array
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor

from loam.core.errors import EngineError
from loam.engine.adapters import Adapter
from loam.engine.architecture import Architecture
from loam.engine.kernel.adapters import Packed, Uncovered, packed_adapter
from loam.engine.kernel.binding import Kind, Layer, Matrix, Model, Step
from loam.engine.kernel.pack import TYPES, Arena, arena_bytes, pack
from loam.engine.kernel.weights import LayerWeights, Linear, Weights
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.mapped import Mapped
from loam.engine.rope import RotaryTable
from loam.engine.rows import Rows
from loam.engine.transformer import Transformer

_log = logging.getLogger(__name__)


class Compiled:
    """A Forward by the compiled kernel, on `threads` threads of its own. One caller at a time.

    `plain` is the same decoder in torch; its `adapters` are packed when they are first asked for, and a span whose
    adapter the kernel has no place for is computed by it, on the same cache.
    """

    uniform = True

    def __init__(self, library: ctypes.CDLL, plain: Transformer, weights: Weights, *, threads: int, kind: Kind) -> None:
        self.architecture: Architecture = plain.architecture
        self._plain = plain
        self.kind: Kind = kind
        self._library = library
        self._runner: int = library.loam_new(threads)
        if not self._runner:
            raise MemoryError("no memory for the kernel's threads")
        self._end = weakref.finalize(self, library.loam_free, self._runner)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}
        self._kept: list[Any] = []  # what the kernel points at and Python must not free
        self._ropes: tuple[RotaryTable, ...] = weights.ropes
        self._adapters: dict[str, tuple[Adapter, Packed | None]] = {}  # None: torch's
        self._turned = 0  # how many positions the rotary tables hold
        self._model = self._packed(weights)

    def step(self, rows: Rows, cache: PagedCache) -> Tensor:
        """Logits (wanted, vocabulary) in fp32; writes every row's keys and values into `cache` (fp32, bf16 or fp16)."""
        vocabulary = self.architecture.vocabulary
        logits = torch.empty((len(rows.wanted), vocabulary), dtype=torch.float32)
        if not rows.tokens:
            return logits
        names = sorted({span.adapter for span in rows.spans if span.adapter})
        adapters = [self._adapter(name) for name in names]
        if None in adapters:
            torchs = {name for name, packed in zip(names, adapters, strict=True) if packed is None}
            return self._parted(rows, cache, logits, torchs)
        pages = array("i", chain.from_iterable(span.pages for span in rows.spans))
        _check(rows, pages, cache.pages, vocabulary)
        self._turn_up_to(max(span.start + span.count for span in rows.spans))
        first, at = array("i"), 0
        for span in rows.spans:
            first.append(at)
            at += len(span.pages)
        held = [array("i", rows.tokens), first, pages, array("i", rows.wanted)]
        held += [array("i", (span.start for span in rows.spans)), array("i", (span.count for span in rows.spans))]
        tokens, first_page, flat, wanted, starts, counts = (numbers.buffer_info()[0] for numbers in held)
        step = Step(
            rows=len(rows.tokens), spans=len(rows.spans), wanted=len(rows.wanted),
            cache_type=TYPES[cache.keys.dtype],
            tokens=tokens, starts=starts, counts=counts, first_page=first_page, pages=flat, wanted_rows=wanted,
            keys=cache.keys.data_ptr(), values=cache.values.data_ptr(),
            layer_stride=cache.keys.stride(0), page_stride=cache.keys.stride(1), logits=logits.data_ptr(),
        )  # fmt: skip
        adapted = _adapt(step, rows, dict(zip(names, adapters, strict=True))) if names else None
        if self._library.loam_step(self._runner, ctypes.byref(self._model), ctypes.byref(step)):
            raise MemoryError(f"no memory for a step of {len(rows.tokens)} rows")
        del adapted  # the kernel read it
        return logits

    def _adapter(self, name: str) -> Packed | None:
        """The adapter of this name as it is now, packed; None where it is torch's."""
        there = self._plain.adapters
        if name not in there:
            raise EngineError(f"no adapter is loaded under the name {name!r}; load it first")
        if name not in self._adapters or self._adapters[name][0] is not there[name]:
            for gone in self._adapters.keys() - there.keys():
                del self._adapters[gone]
            self._adapters[name] = (there[name], self._packed_adapter(name))
        return self._adapters[name][1]

    def _packed_adapter(self, name: str) -> Packed | None:
        try:
            return packed_adapter(self._plain.adapters[name], self._plain)
        except Uncovered as reason:
            _log.warning("adapter %s is run by torch, and slowly: %s", name, reason)
            return None

    def _parted(self, rows: Rows, cache: PagedCache, logits: Tensor, torchs: set[str]) -> Tensor:
        """Spans with `torchs` adapters by torch, the others here; whom they share a step with changes nothing."""
        for forward, theirs in ((self, False), (self._plain, True)):
            spans = tuple(span for span in rows.spans if (span.adapter in torchs) is theirs)
            ends = list(accumulate(span.count for span in rows.spans))
            chosen = [
                row
                for span, end in zip(rows.spans, ends, strict=True)
                if (span.adapter in torchs) is theirs
                for row in range(end - span.count, end)
            ]
            places = {row: place for place, row in enumerate(chosen)}
            asked = [i for i, row in enumerate(rows.wanted) if row in places]
            wanted = tuple(places[rows.wanted[i]] for i in asked)
            part = forward.step(Rows(tuple(rows.tokens[row] for row in chosen), spans, wanted), cache)
            logits[torch.tensor(asked, dtype=torch.long)] = part
        return logits

    def _turn_up_to(self, length: int) -> None:
        if length <= self._turned:
            return
        for index, rope in enumerate(self._ropes):
            rope.at(torch.zeros(1, dtype=torch.long), length)
            self._model.cosines[index], self._model.sines[index] = rope.cos.data_ptr(), rope.sin.data_ptr()
            self._held[index] = (rope.cos, rope.sin)
        self._turned = min((rope.cos.shape[0] for rope in self._ropes), default=length)

    def _packed(self, weights: Weights) -> Model:
        shape, kind = self.architecture, self.kind
        arena, mapped = Arena(arena_bytes(shape, kind)), Mapped()
        layers = (Layer * shape.layers)()
        for index, layer in enumerate(weights.layers):
            self._pack_layer(arena, mapped, layers[index], layer, index)
        model = Model(
            layers=shape.layers, width=shape.width, heads=shape.heads, kv_heads=shape.kv_heads,
            head_width=shape.head_width, hidden=shape.hidden, vocabulary=shape.vocabulary,
            activation=0 if shape.activation == "silu" else 1, embedding_type=TYPES[weights.embedding.dtype],
            norm_eps=shape.norm_eps, residual_scale=shape.residual_scale,
            embedding_scale=_rounded(shape.embedding_scale, weights.embedding.dtype),
            logit_scale=shape.logit_scale, logit_softcap=shape.logit_softcap or 0.0,
            attention_scale=shape.score_scale, wide_norm=shape.qk_norm == "width",
            attention_softcap=shape.attention_softcap or 0.0,
            embedding=self._address(weights.embedding, as_it_is=True), final_norm=self._address(weights.final_norm),
            head=pack(self._library, self._runner, arena, mapped, (weights.head,), kind=kind, bias=weights.head_bias),
        )  # fmt: skip
        for index, rope in enumerate(weights.ropes):
            model.rope_width[index] = rope.rope.width
        model.layer = ctypes.cast(layers, ctypes.POINTER(Layer))
        self._kept += [arena, layers]
        return model

    def _pack_layer(self, arena: Arena, mapped: Mapped, to: Layer, layer: LayerWeights, index: int) -> None:
        def packed(*parts: Linear, bias: tuple[Tensor, ...] = (), gated: bool = False) -> Matrix:
            return pack(self._library, self._runner, arena, mapped, parts, kind=self.kind, bias=bias, gated=gated)

        to.qkv = packed(*layer.qkv, bias=layer.qkv_bias)
        to.out = packed(layer.out, bias=layer.out_bias)
        to.up = packed(*layer.gate_up, gated=True)
        to.down = packed(layer.down, bias=layer.down_bias)
        for name, gain in layer.gains.items():
            setattr(to, name, self._address(gain))
        to.window, to.rope = self.architecture.window(index) or 0, layer.rope

    def _address(self, tensor: Tensor, *, as_it_is: bool = False) -> int:
        kept = tensor.detach() if as_it_is else tensor.detach().to(torch.float32, copy=True)
        kept = kept.contiguous()
        self._kept.append(kept)
        return kept.data_ptr()


def _adapt(step: Step, rows: Rows, adapters: "dict[str, Packed | None]") -> list[object]:
    """Tells a step which span has which adapter; what is returned must live as long as the step."""
    packed = [each for each in adapters.values() if each is not None]
    places = {"": -1} | {name: place for place, name in enumerate(adapters)}
    of_span = array("i", (places[span.adapter] for span in rows.spans))
    lows = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(each.lows) for each in packed))
    step.adapters, step.lows = of_span.buffer_info()[0], ctypes.addressof(lows)
    step.ranks = max(each.ranks for each in packed)
    return [of_span, lows, *packed]


def _rounded(scale: float, dtype: torch.dtype) -> float:
    """As the weights' type has it, which is how Gemma means it."""
    return float(torch.tensor(scale, dtype=dtype))


def _check(rows: Rows, pages: "array[int]", there: int, vocabulary: int) -> None:
    """C reads where it is told to; so what it is told is looked at first."""
    if max(pages) >= there or min(pages) < 0 or max(rows.tokens) >= vocabulary or min(rows.tokens) < 0:
        raise ValueError(f"a token is outside the vocabulary of {vocabulary}, or a page outside the cache's {there}")
    if any(span.start + span.count > len(span.pages) * PAGE for span in rows.spans):
        raise ValueError("a span goes past its pages")
    if sum(span.count for span in rows.spans) != len(rows.tokens) or max(rows.wanted, default=0) >= len(rows.tokens):
        raise ValueError("spans and tokens do not agree, or a row is wanted that is not there")
