"""Random-weight Llamas of three sizes in every engine's format, and texts that show whether an engine computes right.

Knows file formats; nothing of engines. The weights are random, but the head answers the embeddings: after token t comes
`successor[t]`, whatever came before, because the layers' sums are kept small beside the embedding. So every engine must
write the same known text, which is checked, and a prompt can hold a passage that the answer will copy. What a step
costs depends on shapes alone.
"""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

HOME = Path(__file__).parent.parent / ".bench" / "engine" / "models"
KEPT = 3  # ids that never appear: unknown, begin, end
SMALL = 0.02  # what a layer adds, beside an embedding of size 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes; head width is width / heads."""

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int

    @property
    def parameters(self) -> int:
        """All weights, embedding and head counted separately."""
        return self.layers * self.layer_weights + 2 * self.vocabulary * self.width

    @property
    def layer_weights(self) -> int:
        keys = self.kv_heads * (self.width // self.heads)
        return 2 * self.width * self.width + 2 * self.width * keys + 3 * self.width * self.hidden

    @property
    def read_weights(self) -> int:
        """What one token reads: all but the embedding table."""
        return self.parameters - self.vocabulary * self.width


SHAPES = {
    "30M": Shape("30M", 16384, 512, 6, 8, 8, 1408),
    "135M": Shape("135M", 49152, 576, 30, 9, 3, 1536),
    "1.1B": Shape("1.1B", 32000, 2048, 22, 32, 4, 5632),
}


def successors(shape: Shape) -> list[int]:
    """The token that follows each; one long circle of all but the kept ones."""
    circle = list(range(KEPT, shape.vocabulary))
    random.Random(shape.name).shuffle(circle)
    after = list(range(shape.vocabulary))
    for one, two in zip(circle, circle[1:] + circle[:1], strict=True):
        after[one] = two
    return after


def continuation(shape: Shape, token: int, count: int) -> list[int]:
    """What a model of this shape writes after `token`."""
    after, written = successors(shape), list[int]()
    for _ in range(count):
        token = after[token]
        written.append(token)
    return written


def prompt(shape: Shape, length: int, seed: int) -> list[int]:
    """Random tokens."""
    draw = random.Random(f"{shape.name} {seed}")
    return [draw.randrange(KEPT, shape.vocabulary) for _ in range(length)]


def grounded_prompt(shape: Shape, length: int, answer: int, seed: int, *, quote: int = 24, own: int = 8) -> list[int]:
    """A prompt that holds most of its answer: quotes of `quote` tokens, between them `own` that stand nowhere."""
    tokens = prompt(shape, length, seed)
    text = continuation(shape, tokens[-1], answer)
    draw = random.Random(seed)
    quotes = [text[at : at + quote] for at in range(0, answer, quote + own)]
    room = (length - 1) // len(quotes)
    order = draw.sample(range(len(quotes)), len(quotes))
    for place, which in enumerate(order):
        at = place * room + draw.randrange(room - quote)
        tokens[at : at + len(quotes[which])] = quotes[which]
    return tokens


def folder(shape: Shape) -> Path:
    """Where a model lies, in all formats."""
    return HOME / shape.name


def tensors(shape: Shape) -> dict[str, torch.Tensor]:
    """The checkpoint, bf16, by its names in Hugging Face's files."""
    generator = torch.Generator().manual_seed(1)
    keys = shape.kv_heads * (shape.width // shape.heads)

    def drawn(outputs: int, inputs: int, size: float = 1.0) -> torch.Tensor:
        return (torch.randn(outputs, inputs, generator=generator) * size * inputs**-0.5).bfloat16()

    embedding = torch.randn(shape.vocabulary, shape.width, generator=generator).bfloat16()
    head = torch.empty_like(embedding)
    head[torch.tensor(successors(shape))] = embedding * shape.width**-0.5
    found = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    ones = torch.ones(shape.width, dtype=torch.bfloat16)
    for i in range(shape.layers):
        at = f"model.layers.{i}"
        found |= {
            f"{at}.input_layernorm.weight": ones.clone(),
            f"{at}.self_attn.q_proj.weight": drawn(shape.width, shape.width),
            f"{at}.self_attn.k_proj.weight": drawn(keys, shape.width),
            f"{at}.self_attn.v_proj.weight": drawn(keys, shape.width),
            f"{at}.self_attn.o_proj.weight": drawn(shape.width, shape.width, SMALL),
            f"{at}.post_attention_layernorm.weight": ones.clone(),
            f"{at}.mlp.gate_proj.weight": drawn(shape.hidden, shape.width),
            f"{at}.mlp.up_proj.weight": drawn(shape.hidden, shape.width),
            f"{at}.mlp.down_proj.weight": drawn(shape.width, shape.hidden, SMALL),
        }
    return found | {"model.norm.weight": ones}


def make(shape: Shape) -> None:
    """All formats of one model; what is there is left."""
    hf = folder(shape) / "hf"
    if not (hf / "model.safetensors").exists():
        hf.mkdir(parents=True, exist_ok=True)
        (hf / "config.json").write_text(json.dumps(_config(shape), indent=1))
        _write_tokenizer(shape, hf)
        save_file(tensors(shape), hf / "model.safetensors", metadata={"format": "pt"})
    for kind in ("q8_0", "f16"):
        target = folder(shape) / f"{kind}.gguf"
        if not target.exists():
            _write_gguf(shape, hf, target, kind)
    if not (folder(shape) / "ct2").exists():
        _write_ctranslate2(hf, folder(shape) / "ct2")


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.width // shape.heads,
        "intermediate_size": shape.hidden,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def _words(shape: Shape) -> list[str]:
    return ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(KEPT, shape.vocabulary))]


def _write_tokenizer(shape: Shape, to: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(_words(shape))}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
    (to / "tokenizer.json").write_text(json.dumps(tokenizer))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    (to / "tokenizer_config.json").write_text(json.dumps(said))


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    outer = {"model.embed_tokens.weight": "token_embd", "lm_head.weight": "output", "model.norm.weight": "output_norm"}
    if name in outer:
        return f"{outer[name]}.weight"
    _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"


def _turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring numbers, Hugging Face's files number i with i + width / 2."""
    outputs, inputs = weight.shape
    return weight.reshape(heads, 2, outputs // heads // 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def _write_gguf(shape: Shape, hf: Path, target: Path, kind: str) -> None:
    import gguf  # noqa: PLC0415 - only in the peers' environment

    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_words(shape))
    writer.add_token_scores([0.0] * shape.vocabulary)
    writer.add_token_types([2, 3, 3] + [1] * (shape.vocabulary - KEPT))
    with safe_open(hf / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            data = file.get_tensor(name).float().numpy()
            for part, heads in (("q_proj", shape.heads), ("k_proj", shape.kv_heads)):
                data = _turned(data, heads) if part in name else data
            if data.ndim == 1:
                writer.add_tensor(_gguf_name(name), data)
                continue
            to = types.Q8_0 if kind == "q8_0" else types.F16
            writer.add_tensor(_gguf_name(name), gguf.quants.quantize(data, to), raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_ctranslate2(hf: Path, target: Path) -> None:
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415 - only in the peers' environment

    TransformersConverter(str(hf)).convert(str(target), quantization="int8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or SHAPES:
        make(SHAPES[chosen])
