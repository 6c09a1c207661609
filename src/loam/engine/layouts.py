"""How each family names and packs its weights in files, and how that becomes Loam's one naming, both ways.

Knows tensors, opens no file. Invariant: unpacking and packing are each other's inverse, so a saved checkpoint is the
one that was loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from loam.engine.architecture import Architecture

How = Literal["same", "rows", "heads", "turned", "turned_rows"]
"""same: as it is. rows: several matrices, one below the other. heads: query, key and value of head 1, then of head 2 …
(GPT-NeoX). turned: stored as (in, out), as GPT-2's Conv1D; turned_rows: both."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A module of a checkpoint (`theirs`) and what it holds of ours; `{}` stands for the layer's number."""

    theirs: str
    ours: tuple[str, ...]
    how: How = "same"

    def numbered(self, layer: int) -> "Piece":
        return Piece(self.theirs.format(layer), tuple(name.format(layer) for name in self.ours), self.how)

    def split(self, tensor: Tensor, a: Architecture) -> tuple[Tensor, ...]:
        """What `theirs` holds, as views where its layout allows."""
        if self.how.startswith("turned") and tensor.dim() == 2:
            tensor = tensor.T.contiguous()
        if self.how in ("same", "turned"):
            return (tensor,)
        if self.how == "heads":
            apart = tensor.view(a.heads, 3, a.head_width, *tensor.shape[1:])
            return tuple(apart[:, part].flatten(0, 1) for part in range(3))
        return torch.split(tensor, self._rows(a), dim=0)

    def join(self, parts: list[Tensor], a: Architecture) -> Tensor:
        """The inverse of `split`."""
        if self.how == "heads":
            return torch.stack([part.view(a.heads, a.head_width, *part.shape[1:]) for part in parts], dim=1).flatten(
                0, 2
            )
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return tensor.T.contiguous() if self.how.startswith("turned") and tensor.dim() == 2 else tensor

    def shape(self, parts: list[tuple[int, ...]]) -> tuple[int, ...]:
        """The stored shape, from ours."""
        shape = (sum(part[0] for part in parts), *parts[0][1:])
        return shape[::-1] if self.how.startswith("turned") else shape

    def _rows(self, a: Architecture) -> list[int]:
        if len(self.ours) == 2:
            return [a.hidden, a.hidden]
        return [a.heads * a.head_width, a.kv_heads * a.head_width, a.kv_heads * a.head_width]


_QKV = tuple(f"layers.{{}}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj"))
_LLAMA = {
    "model.embed_tokens": "embed_tokens",
    "model.layers.{}.input_layernorm": "layers.{}.attn_norm",
    **{f"model.{name}": name for name in _QKV},
    "model.layers.{}.self_attn.o_proj": "layers.{}.self_attn.o_proj",
    "model.layers.{}.self_attn.q_norm": "layers.{}.self_attn.q_norm",
    "model.layers.{}.self_attn.k_norm": "layers.{}.self_attn.k_norm",
    "model.layers.{}.post_attention_layernorm": "layers.{}.mlp_norm",
    "model.layers.{}.mlp.gate_proj": "layers.{}.mlp.gate_proj",
    "model.layers.{}.mlp.up_proj": "layers.{}.mlp.up_proj",
    "model.layers.{}.mlp.down_proj": "layers.{}.mlp.down_proj",
    "model.norm": "norm",
    "lm_head": "lm_head",
}
_POST_NORMS = {
    "model.layers.{}.post_attention_layernorm": "layers.{}.attn_post_norm",
    "model.layers.{}.pre_feedforward_layernorm": "layers.{}.mlp_norm",
    "model.layers.{}.post_feedforward_layernorm": "layers.{}.mlp_post_norm",
}


def _renamed(changes: Mapping[str, str]) -> dict[str, str]:
    """Llama's names, but for those of ours that `changes` calls otherwise."""
    taken = set(changes.values())
    return {theirs: ours for theirs, ours in _LLAMA.items() if ours not in taken and theirs not in changes} | dict(
        changes
    )


def _pieces(names: Mapping[str, str], *packed: Piece) -> tuple[Piece, ...]:
    gone = {name for piece in packed for name in piece.ours}
    return (*(Piece(theirs, (ours,)) for theirs, ours in names.items() if ours not in gone), *packed)


_GPT2 = {
    "transformer.wte": "embed_tokens",
    "transformer.wpe": "embed_positions",
    "transformer.h.{}.ln_1": "layers.{}.attn_norm",
    "transformer.h.{}.ln_2": "layers.{}.mlp_norm",
    "transformer.ln_f": "norm",
    "lm_head": "lm_head",
}
_NEOX = {
    "gpt_neox.embed_in": "embed_tokens",
    "gpt_neox.layers.{}.input_layernorm": "layers.{}.attn_norm",
    "gpt_neox.layers.{}.post_attention_layernorm": "layers.{}.mlp_norm",
    "gpt_neox.layers.{}.attention.dense": "layers.{}.self_attn.o_proj",
    "gpt_neox.layers.{}.mlp.dense_h_to_4h": "layers.{}.mlp.up_proj",
    "gpt_neox.layers.{}.mlp.dense_4h_to_h": "layers.{}.mlp.down_proj",
    "gpt_neox.final_layer_norm": "norm",
    "embed_out": "lm_head",
}
_PHI = {
    "model.layers.{}.self_attn.dense": "layers.{}.self_attn.o_proj",
    "model.layers.{}.mlp.fc1": "layers.{}.mlp.up_proj",
    "model.layers.{}.mlp.fc2": "layers.{}.mlp.down_proj",
    "model.final_layernorm": "norm",
}
_STARCODER2 = {
    "model.layers.{}.mlp.c_fc": "layers.{}.mlp.up_proj",
    "model.layers.{}.mlp.c_proj": "layers.{}.mlp.down_proj",
}

_OTHER: dict[str, tuple[Piece, ...]] = {
    "gemma2": _pieces(_renamed(_POST_NORMS)),
    "gemma3_text": _pieces(_renamed(_POST_NORMS)),
    "olmo2": _pieces(_renamed(_POST_NORMS)),
    "phi": _pieces(_renamed(_PHI)),
    "starcoder2": _pieces(_renamed(_STARCODER2)),
    "phi3": _pieces(
        _LLAMA,
        Piece("model.layers.{}.self_attn.qkv_proj", _QKV, "rows"),
        Piece("model.layers.{}.mlp.gate_up_proj", ("layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"), "rows"),
    ),
    "gpt_neox": _pieces(_NEOX, Piece("gpt_neox.layers.{}.attention.query_key_value", _QKV, "heads")),
    "gpt2": _pieces(
        _GPT2,
        Piece("transformer.h.{}.attn.c_attn", _QKV, "turned_rows"),
        Piece("transformer.h.{}.attn.c_proj", ("layers.{}.self_attn.o_proj",), "turned"),
        Piece("transformer.h.{}.mlp.c_fc", ("layers.{}.mlp.up_proj",), "turned"),
        Piece("transformer.h.{}.mlp.c_proj", ("layers.{}.mlp.down_proj",), "turned"),
    ),
}


def pieces(a: Architecture) -> list[Piece]:
    """All modules of a checkpoint of this architecture's family, numbered. Some may not exist in this model."""
    made: list[Piece] = []
    for piece in _OTHER.get(a.family) or _pieces(_LLAMA):
        made += [piece.numbered(layer) for layer in range(a.layers)] if "{}" in piece.theirs else [piece]
    return made


def harmless(name: str) -> bool:
    """Tensors that old checkpoints carry and nobody needs: causal masks, and angles that the config tells."""
    ends = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
    return name.endswith(ends)
