"""A decoder's tensors as the kernel wants them named, out of a `Transformer`; and which decoders it covers.

Knows `Transformer` and `Architecture`; no memory layout. Invariant: `reason` is empty exactly for what the C code
computes in full; everything else keeps plain torch.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from loam.engine.architecture import Architecture
from loam.engine.quantize import Int4Linear, Int8Linear
from loam.engine.rope import RotaryTable
from loam.engine.transformer import Block, Normed, Transformer


@dataclass(frozen=True, slots=True)
class Quantized:
    """int8 weights (outputs, inputs) that are so already, with one scale an output (outputs,)."""

    weights: Tensor
    scales: Tensor


Linear = Tensor | Quantized
"""A weight (outputs, inputs), as `torch.nn.Linear` keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One block. Norm gains are what the normed row is multiplied by (Gemma's 1 + weight, added already)."""

    qkv: tuple[Linear, Linear, Linear]
    out: Linear
    gate_up: tuple[Linear, Linear]
    down: Linear
    qkv_bias: tuple[Tensor, ...] = ()
    out_bias: tuple[Tensor, ...] = ()
    down_bias: tuple[Tensor, ...] = ()
    gains: dict[str, Tensor]
    """attention_norm, mlp_norm, query_norm, key_norm, attention_after, mlp_after: those that are there."""
    rope: int
    """By which of the ropes this layer turns; -1: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A whole decoder, as plain tensors. `ropes` are at most two."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Linear
    head_bias: tuple[Tensor, ...] = ()
    ropes: tuple[RotaryTable, ...]


def reason(model: Transformer) -> str:
    """Why the kernel does not cover this decoder; empty where it does."""
    a = model.architecture
    refusals = {
        "it is not on the CPU": model.embed_tokens.weight.device.type != "cpu",
        "its weights are int4": any(isinstance(layer, Int4Linear) for layer in model.modules()),
        "its norms have a mean": a.norm == "layer",
        "its MLP has no gate": not a.gated,
        "attention and MLP run in parallel": a.parallel,
        "its positions are learned": a.learned_positions is not None,
        "its gates have a bias": a.mlp_bias,
        f"its activation is {a.activation}": a.activation not in {"silu", "gelu_tanh"},
        f"its heads are {a.head_width} wide, no multiple of 16": a.head_width % 16 != 0,
        "its heads do not share keys evenly": a.heads % a.kv_heads != 0,
    }
    return "; ".join(said for said, refused in refusals.items() if refused)


def weights_of(model: Transformer) -> Weights:
    """The tensors of a model that `reason` lets pass; nothing is copied but norm gains."""
    a = model.architecture
    names = list(model.tables)
    layers = tuple(
        _layer(cast(Block, block), a, names.index(turning) if (turning := a.turning(i)) != "none" else -1)
        for i, block in enumerate(model.layers)
    )
    return Weights(
        embedding=model.embed_tokens.weight,
        layers=layers,
        final_norm=_gain(model.norm),
        head=_linear(model.lm_head),
        head_bias=_bias(model.lm_head),
        ropes=tuple(model.tables[name] for name in names),
    )


def _layer(block: Block, a: Architecture, rope: int) -> LayerWeights:
    attention, mlp = block.self_attn, block.mlp
    qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
    norms = {
        "attention_norm": block.attn_norm,
        "mlp_norm": block.mlp_norm,
        "query_norm": attention.q_norm,
        "key_norm": attention.k_norm,
        "attention_after": block.attn_post_norm,
        "mlp_after": block.mlp_post_norm,
    }
    return LayerWeights(
        qkv=(_linear(qkv[0]), _linear(qkv[1]), _linear(qkv[2])),
        out=_linear(attention.o_proj),
        gate_up=(_linear(cast(nn.Module, mlp.gate_proj)), _linear(mlp.up_proj)),
        down=_linear(mlp.down_proj),
        qkv_bias=tuple(bias for one in qkv for bias in _bias(one)),
        out_bias=_bias(attention.o_proj),
        down_bias=_bias(mlp.down_proj),
        gains={name: _gain(norm) for name, norm in norms.items() if isinstance(norm, Normed)},
        rope=rope,
    )


def _linear(layer: nn.Module) -> Linear:
    if isinstance(layer, Int8Linear):
        return Quantized(layer.packed, layer.scale)
    return cast(nn.Linear, layer).weight.detach()


def _bias(layer: nn.Module) -> tuple[Tensor, ...]:
    bias = cast("Tensor | None", layer.bias)
    return () if bias is None else (bias.detach(),)


def _gain(norm: Normed) -> Tensor:
    gain = norm.weight.detach().to(torch.float32)
    return 1.0 + gain if norm.kind == "rms_plus_one" else gain
