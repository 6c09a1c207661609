"""What checkpoints of one family differ in: stretched rotary positions, biases, ties, older spellings of settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from loam.engine.families import read_architecture
from loam.engine.load import load
from tests.engine.checkpoints import make
from tests.engine.test_parity import greedy, in_chunks, texts

TRAINED = 64
BASE = {"rope_theta": 10_000.0}
ROPES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED},
    "yarn-dials": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": TRAINED,
        "beta_fast": 16,
        "beta_slow": 2,
        "mscale": 0.7,
        "mscale_all_dim": 0.5,
        "truncate": False,
    },
    "yarn-gain": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": TRAINED,
        "attention_factor": 1.5,
    },
}


def compare(folder: Path, time: int = 150) -> None:
    ours = load(folder).model
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = texts(time=time)
    with torch.no_grad():
        expected = theirs(tokens).logits
    assert (ours(tokens) - expected).abs().max() <= 1e-4
    assert (in_chunks(ours, tokens, [time // 2]) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", sorted(ROPES))
def test_stretched_positions_are_transformers(kind: str, tmp_path: Path) -> None:
    context = 4 * TRAINED
    compare(make(tmp_path / "model", "llama", layers=2, context=context, rope_parameters=BASE | ROPES[kind]))


def test_gemma3_stretches_its_far_layers_alone(tmp_path: Path) -> None:
    rope = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    compare(make(tmp_path / "model", "gemma3_text", layers=2, rope_parameters=rope))


@pytest.mark.parametrize(("context", "time"), [(64, 60), (256, 150)])
def test_longrope_takes_the_factors_of_its_context(context: int, time: int, tmp_path: Path) -> None:
    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        "original_max_position_embeddings": TRAINED,
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
    }
    settings = {"rope_parameters": rope, "original_max_position_embeddings": TRAINED}
    compare(make(tmp_path / "model", "phi3", layers=2, context=context, **settings), time)


def test_dynamic_positions_are_those_of_an_answer_that_grows(tmp_path: Path) -> None:
    """In transformers a token turns by the length of the text it came with; in an answer, that is its position."""
    rope = BASE | {"rope_type": "dynamic", "factor": 2.0}
    folder = make(tmp_path / "model", "llama", layers=2, context=TRAINED, rope_parameters=rope)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    prompt = texts(seed=4, batch=1, time=30)
    settings = transformers.GenerationConfig(max_new_tokens=90, do_sample=False, eos_token_id=None, pad_token_id=1)
    with torch.no_grad():
        expected = theirs.generate(prompt, settings)[0, 30:].tolist()
    loaded = load(folder)
    assert greedy(loaded.model, prompt[0].tolist(), 90)[0] == expected
    assert loaded.context == 2 * TRAINED


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": True, "mlp_bias": True, "tied": True, "head_dim": 24}),
    ("mistral", {"sliding_window": None, "head_dim": 8}),
    ("qwen2", {"use_sliding_window": False, "tied": True}),
    ("qwen3", {"attention_bias": True, "head_dim": 16}),
    ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": False}),
    ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    ("gpt2", {"scale_attn_weights": False, "tied": False, "n_inner": 100}),
    ("starcoder2", {"use_bias": False, "sliding_window": None}),
    ("llama", {"hidden_act": "relu2", "kv_heads": 1}),
    ("olmo2", {"attention_bias": True, "kv_heads": 4}),
]


@pytest.mark.parametrize(("family", "settings"), VARIANTS, ids=[f"{n}-{f}" for n, (f, _) in enumerate(VARIANTS)])
def test_variants_of_a_family_are_transformers(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    compare(make(tmp_path / "model", family, layers=2, **settings), time=70)


OLD: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "gemma3_text": {
        "rope_theta": 1e6,
        "rope_local_base_freq": 5e3,
        "rope_scaling": {"rope_type": "linear", "factor": 8},
    },
    "phi": {"rope_theta": 1e4, "partial_rotary_factor": 0.4},
    "gpt_neox": {"rotary_emb_base": 5000, "rotary_pct": 0.5},
    "stablelm": {"rope_theta": 1e4, "partial_rotary_factor": 0.25},
}


@pytest.mark.parametrize("family", sorted(OLD))
def test_older_spellings_mean_the_same(family: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", family, layers=2, width=64 if family == "stablelm" else 80)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(config | OLD[family]))
    compare(folder, time=70)


def test_a_family_without_its_settings_takes_transformers_defaults() -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 9}
    sizes |= {"max_position_embeddings": 64}
    assert (
        read_architecture(sizes | {"model_type": "gpt_neox"}).rope
        == read_architecture(sizes | {"model_type": "gpt_neox", "rotary_pct": 0.25}).rope
    )
    gemma = read_architecture(sizes | {"model_type": "gemma3_text", "sliding_window": 8, "num_hidden_layers": 12})
    assert [layer for layer in range(12) if gemma.window(layer) is None] == [5, 11]
    smollm = read_architecture(sizes | {"model_type": "smollm3", "num_hidden_layers": 8})
    assert smollm.unrotated == {3, 7}
