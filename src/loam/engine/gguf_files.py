"""llama.cpp's GGUF files as a source of weights: its metadata in the words of a config.json, its tensors dequantised.

Knows what llama.cpp's converter changes on the way (rows of queries and keys interleaved for Llama, Gemma's gains with
one added) and undoes it. The tokenizer inside is `gguf_vocabulary.py`'s. Invariant: the model is the same as from the
folder that was converted, up to the bits of the file's own quantisation.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from torch import Tensor

from loam.core.errors import EngineError
from loam.engine.layouts import Piece
from loam.engine.sources import Source

_WORDS = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "norm_epsilon",
    "rope.freq_base": "rope_theta",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Of `ARCHITECTURE.key`, the word in a config.json."""

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
    "gpt2": "gpt2",
    "starcoder2": "starcoder2",
}
"""llama.cpp's name of an architecture, and transformers'."""

_NAMES = {
    "token_embd": "embed_tokens",
    "position_embd": "embed_positions",
    "output_norm": "norm",
    "output": "lm_head",
    "blk.{}.attn_norm": "layers.{}.attn_norm",
    "blk.{}.attn_q": "layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "layers.{}.self_attn.v_proj",
    "blk.{}.attn_output": "layers.{}.self_attn.o_proj",
    "blk.{}.attn_q_norm": "layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "layers.{}.self_attn.k_norm",
    "blk.{}.post_attention_norm": "layers.{}.attn_post_norm",
    "blk.{}.ffn_norm": "layers.{}.mlp_norm",
    "blk.{}.ffn_gate": "layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "layers.{}.mlp.down_proj",
    "blk.{}.post_ffw_norm": "layers.{}.mlp_post_norm",
}
_QKV = ("layers.{}.self_attn.q_proj", "layers.{}.self_attn.k_proj", "layers.{}.self_attn.v_proj")
_PACKED = (Piece("blk.{}.attn_qkv", _QKV, "rows"),)
_GATED = (Piece("blk.{}.ffn_up", ("layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"), "rows"),)


def open_gguf(file: Path) -> tuple[dict[str, Any], Source, list[Piece]]:
    """A file's configuration as a config.json would say it, its tensors, and how they are named and packed."""
    reader = _reader(file)
    fields = {name: _value(reader, name) for name in reader.fields}
    name = fields.get("general.architecture")
    if name not in FAMILIES:
        raise EngineError(f"{file} is of architecture {name!r}; of GGUF files Loam runs {', '.join(FAMILIES)}")
    tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(name, fields, tensors)
    shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    for gone in ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"):
        shapes.pop(gone, None)  # read into the configuration

    undo = _undo(FAMILIES[name], config)

    def read(name: str) -> Tensor:
        tensor = tensors[name]
        try:
            values = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as unknown:
            kind = tensor.tensor_type.name
            raise EngineError(
                f"{file}: {name} is of type {kind}, which cannot be read ({unknown}); take Q8_0"
            ) from unknown
        return undo(name, torch.tensor(np.asarray(values, dtype=np.float32)).view(shapes[name]))

    quantised = any(t.tensor_type not in _FLOATS for t in reader.tensors)
    wide = any(t.tensor_type == GGMLQuantizationType.F32 and len(t.shape) > 1 for t in reader.tensors)
    kind = torch.float32 if wide and not quantised else torch.bfloat16
    return config, Source(file, shapes, kind, read), _layout(name, int(config["num_hidden_layers"]))


_FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


def _reader(file: Path) -> GGUFReader:
    if not file.exists():
        raise EngineError(f"{file} does not exist")
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, OSError, KeyError, OverflowError, UnicodeDecodeError) as broken:
        raise EngineError(f"{file} is not a whole GGUF file ({broken}); download it again") from broken


def _value(reader: GGUFReader, name: str) -> Any:
    """A field's value; arrays (the vocabulary) are left alone."""
    field = reader.fields[name]
    return field.contents() if len(field.types) == 1 else None


def _config(name: str, fields: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {key.removeprefix(f"{name}."): value for key, value in fields.items()}
    config: dict[str, Any] = {word: own[key] for key, word in _WORDS.items() if own.get(key) is not None}
    for eps in ("layer_norm_eps", "layer_norm_epsilon"):  # each family calls it otherwise
        if "norm_epsilon" in config:
            config[eps] = config["norm_epsilon"]
    config["model_type"] = FAMILIES[name]
    if "token_embd.weight" in tensors:
        config["vocab_size"] = int(tensors["token_embd.weight"].shape[1])
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["eos_token_id"] = fields.get("tokenizer.ggml.eos_token_id")
    if name == "gpt2":
        config["n_inner"] = config.get("intermediate_size")
    if name in ("gemma2", "gemma3"):
        config |= _gemma(own, config, name)
    scaling = _scaling(own, config, tensors)
    if scaling:
        config["rope_scaling"] = scaling
    turned = own.get("rope.dimension_count")
    head_width = config.get("head_dim") or config.get("hidden_size", 0) // max(1, config.get("num_attention_heads", 1))
    if turned and head_width and turned < head_width:
        config["partial_rotary_factor"] = turned / head_width
    return config


def _gemma(own: dict[str, Any], config: dict[str, Any], name: str) -> dict[str, Any]:
    """What llama.cpp keeps in its code and not in the file: how the scores are scaled, and where the windows are."""
    largest = {"gemma2": 46, "gemma3": 62}[name]  # the 27B of each scales by the width, the smaller by the head's
    width = config["hidden_size"] // config["num_attention_heads"]
    scalar = width if config["num_hidden_layers"] == largest else config.get("head_dim", width)
    return {"query_pre_attn_scalar": scalar, "rope_local_base_freq": own.get("rope.freq_base_swa") or 10_000.0}


def _scaling(own: dict[str, Any], config: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any] | None:
    trained = own.get("rope.scaling.original_context_length") or config.get("max_position_embeddings")
    if "rope_freqs.weight" in tensors:  # Llama 3.1's stretching, worked out by the converter
        return {"rope_type": "factors", "factors": tensors["rope_freqs.weight"].data.tolist()}
    if "rope_factors_long.weight" in tensors:
        both = {f"{kind}_factor": tensors[f"rope_factors_{kind}.weight"].data.tolist() for kind in ("long", "short")}
        gain = own.get("rope.scaling.attn_factor")
        return {"rope_type": "longrope", **both, "original_max_position_embeddings": trained, "attention_factor": gain}
    kind, factor = own.get("rope.scaling.type"), own.get("rope.scaling.factor")
    if not factor or kind in (None, "none"):
        return None
    return {"rope_type": kind, "factor": factor, "original_max_position_embeddings": trained}


def _layout(name: str, layers: int) -> list[Piece]:
    packed = {"phi3": (*_PACKED, *_GATED), "gpt2": _PACKED}.get(name, ())
    gone = {ours for piece in packed for ours in piece.ours}
    whole = [Piece(theirs, (ours,)) for theirs, ours in _NAMES.items() if ours not in gone] + list(packed)
    made: list[Piece] = []
    for piece in whole:
        made += [piece.numbered(layer) for layer in range(layers)] if "{}" in piece.theirs else [piece]
    return made


def _undo(family: str, config: dict[str, Any]) -> Callable[[str, Tensor], Tensor]:
    """What the converter did to a tensor, backwards."""
    heads = {"attn_q": config.get("num_attention_heads", 1)}
    heads["attn_k"] = config.get("num_key_value_heads", heads["attn_q"])

    def undone(name: str, tensor: Tensor) -> Tensor:
        part = name.split(".")[-2]
        if family == "llama" and part in heads:  # pairs lie side by side there, half a head apart here
            return tensor.view(heads[part], -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
        if family.startswith("gemma") and part.endswith("norm"):
            return tensor - 1
        return tensor

    return undone
