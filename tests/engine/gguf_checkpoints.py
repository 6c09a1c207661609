"""GGUF files of tiny checkpoints, with what llama.cpp's converter does to a model on the way.

Written after its convert_hf_to_gguf.py: names, reversed shapes, rows of Llama's queries and keys interleaved, one added
to Gemma's gains, GPT-2's matrices turned.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

NAMES = {
    "embed_tokens": "token_embd",
    "wte": "token_embd",
    "wpe": "position_embd",
    "lm_head": "output",
    "norm": "output_norm",
    "ln_f": "output_norm",
    "input_layernorm": "attn_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
ARCHITECTURES = {"gemma3_text": "gemma3"}


def write_gguf(folder: Path, file: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> Path:
    """The checkpoint in `folder` as one file; matrices in `kind`, vectors in F32."""
    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"]
    name = ARCHITECTURES.get(family, family)
    writer = gguf.GGUFWriter(str(file), name)
    writer.add_name("tiny")
    _describe(writer, config)
    _tell_tokens(writer, folder)
    for theirs, tensor in load_file(folder / "model.safetensors").items():
        path, part = theirs.removeprefix("model.").removeprefix("transformer.").rsplit(".", 1)
        layer = next((int(word) for word in path.split(".") if word.isdigit()), None)
        path = path if layer is None else path.split(f".{layer}.")[1]
        ours = NAMES.get(path, "")
        if path == "post_attention_layernorm":
            ours = "post_attention_norm" if family in ("gemma2", "gemma3_text") else "ffn_norm"
        assert ours, theirs
        full = f"{ours}.{part}" if layer is None else f"blk.{layer}.{ours}.{part}"
        _add(writer, full, _converted(tensor, full, config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _tell_tokens(writer: gguf.GGUFWriter, folder: Path) -> None:
    """The tokenizer and the chat template of `checkpoints.write_tokenizer`."""
    source = json.loads((folder / "tokenizer.json").read_text())
    ids = {**source["model"]["vocab"], **{entry["content"]: entry["id"] for entry in source["added_tokens"]}}
    pieces = sorted(ids, key=lambda piece: ids[piece])
    controls = {entry["content"] for entry in source["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([piece.encode() for piece in pieces])
    writer.add_token_types([3 if piece in controls else 1 for piece in pieces])
    writer.add_token_merges([" ".join(merge) for merge in source["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(json.loads((folder / "tokenizer_config.json").read_text())["chat_template"])


def _converted(tensor: torch.Tensor, name: str, config: dict[str, object]) -> np.ndarray:
    family = str(config["model_type"])
    if family == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = int(str(config["num_attention_heads" if ".attn_q." in name else "num_key_value_heads"]))
        halves = tensor.view(heads, 2, -1, *tensor.shape[1:])
        tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
    if family.startswith("gemma") and name.endswith("norm.weight"):
        tensor = tensor + 1
    if family == "gpt2" and tensor.dim() == 2 and "embd" not in name:
        tensor = tensor.T
    return tensor.contiguous().numpy()


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType) -> None:
    if values.ndim < 2 or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


def _describe(writer: gguf.GGUFWriter, config: dict[str, object]) -> None:
    def number(*names: str) -> int:
        return int(str(next(config[name] for name in names if config.get(name))))

    heads, width = number("num_attention_heads", "n_head"), number("hidden_size", "n_embd")
    writer.add_context_length(number("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(width)
    writer.add_block_count(number("num_hidden_layers", "n_layer"))
    writer.add_head_count(heads)
    if config["model_type"] == "gpt2":
        writer.add_feed_forward_length(4 * width)
        writer.add_layer_norm_eps(float(str(config["layer_norm_epsilon"])))
        return
    writer.add_feed_forward_length(number("intermediate_size"))
    writer.add_head_count_kv(number("num_key_value_heads"))
    writer.add_layer_norm_rms_eps(float(str(config["rms_norm_eps"])))
    head_width = number("head_dim") if config.get("head_dim") else width // heads
    writer.add_key_length(head_width)
    writer.add_rope_dimension_count(head_width)
    rope = config["rope_parameters"]
    assert isinstance(rope, dict)
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if config.get("sliding_window"):
        writer.add_sliding_window(number("sliding_window"))
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(float(str(config["attn_logit_softcapping"])))
        writer.add_final_logit_softcapping(float(str(config["final_logit_softcapping"])))
