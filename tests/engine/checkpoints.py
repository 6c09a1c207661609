"""Tiny random checkpoints, made by transformers' own classes, so that what reads them is judged by who wrote them.

Weights are drawn wider than transformers draws them: a model that writes something else at every step shows a wrong
token early. Gains and biases are moved off one and zero, so that forgetting one is seen.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = (
    "The quick brown fox jumps over the lazy dog while the band plays on.",
    "A model of language is handed some words and asked which word comes next.",
    "She sells sea shells on the shore; the shells she sells are surely hers.",
    'They said: "the price is 1,234.56 euros", and it was paid on 12 March 2024.',
    "def answer(question):\n    return {'text': question.strip(), 'score': 0.5}\n",
    "Größe, naïveté, ça va? Да, конечно. 你好，世界。",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIALS = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

PER_FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": 24}),
    "qwen2": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", {"attention_bias": False}),
    "smollm3": ("SmolLM3Config", {"no_rope_layer_interval": 2}),
    "gemma": ("GemmaConfig", {}),
    "gemma2": ("Gemma2Config", {"sliding_window": 24, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {"sliding_window": 24, "query_pre_attn_scalar": 24, "sliding_window_pattern": 2},
    ),
    "phi": ("PhiConfig", {}),
    "phi3": ("Phi3Config", {}),
    "gpt_neox": ("GPTNeoXConfig", {}),
    "olmo2": ("Olmo2Config", {}),
    "gpt2": ("GPT2Config", {}),
    "stablelm": ("StableLmConfig", {"use_qkv_bias": True}),
    "granite": (
        "GraniteConfig",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.3,
            "logits_scaling": 2.0,
        },
    ),
    "starcoder2": ("Starcoder2Config", {"sliding_window": 24}),
}
"""Each family's class in transformers, and what of its own a tiny model should show."""


def make(
    folder: Path,
    family: str = "llama",
    *,
    layers: int = 3,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    hidden: int = 96,
    vocabulary: int = 512,
    context: int = 512,
    tied: bool | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
    shard: str = "5GB",
    **config: Any,
) -> Path:
    """A folder with config.json, model.safetensors (of pieces up to `shard`), tokenizer.json and a chat template.

    `config` goes to the family's own configuration. A folder that holds a config.json already is left as it is, so
    tests may share one.
    """
    if (folder / "config.json").exists():
        return folder
    name, own = PER_FAMILY[family]
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": hidden,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    if family.startswith("gemma"):
        sizes["head_dim"] = width // heads
    if tied is not None:
        sizes["tie_word_embeddings"] = tied
    made = getattr(transformers, name)(**{**sizes, **own, **config})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager")
    scramble(model)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    write_tokenizer(folder, vocabulary, context)
    return folder


@torch.no_grad()
def scramble(model: torch.nn.Module) -> None:
    """Random weights under which every parameter matters and activations neither vanish nor burst."""
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            narrow = weight.shape[0] if "c_" in name else weight.shape[1]  # Conv1D stores (in, out)
            spread = 1.0 if "emb" in name or "wte" in name or "wpe" in name else narrow**-0.5
            weight.copy_(torch.randn_like(weight) * spread)
        else:
            middle = float(weight.mean())  # a gain starts at 1 (Gemma's at 0), a bias at 0
            weight.copy_(middle + 0.2 * torch.randn_like(weight))


def write_tokenizer(folder: Path, vocabulary: int, context: int) -> None:
    """A byte-level BPE of at most `vocabulary` tokens, learned from `SENTENCES`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[1],
        "pad_token": SPECIALS[1],
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
