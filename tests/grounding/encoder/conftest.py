"""The shipped weights, and a tiny encoder of random ones that needs none."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loam.core.errors import EncoderError
from loam.grounding.encoder.weights import Weights, find_minilm
from loam.grounding.encoder.worker import Worker
from tests.grounding.encoder import made

WORDS = ("the", "a", "cat", "##s", "dog", "sat", "on", "mat", "where", "is", "it", "?", ".")
HIDDEN, INNER, LAYERS, HEADS = 32, 64, 2, 4


@pytest.fixture
def minilm(tmp_path: Path) -> Weights:
    try:
        return find_minilm(tmp_path)
    except EncoderError as error:
        pytest.skip(f"{error}; `make setup` installs them")


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the graphs of one run of the tests are kept, so that each is written once."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny-encoder")


def write_tiny(folder: Path) -> Path:
    """A sentence-transformers folder: two layers, 32 numbers, pooled by [CLS], at most 16 pieces."""
    (folder / "1_Pooling").mkdir(parents=True)
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    config = {"model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS}
    config |= {"num_attention_heads": HEADS, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    kinds = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(kinds))
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    made.write(folder / "model.safetensors", tensors(len(vocabulary)), base="")
    return folder


def tensors(words: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (words, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.position_embeddings.weight": (64, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes[f"{name}.{part}.weight"] = (HIDDEN, HIDDEN)
        sizes[f"{name}.intermediate.dense.weight"] = (INNER, HIDDEN)
        sizes[f"{name}.output.dense.weight"] = (HIDDEN, INNER)
        sizes[f"{name}.attention.output.LayerNorm.weight"] = sizes[f"{name}.output.LayerNorm.weight"] = (HIDDEN,)
    arrays = {name: rng.standard_normal(size).astype(np.float32) * 0.3 for name, size in sizes.items()}
    for name, array in list(arrays.items()):
        if "dense" in name or "self" in name or "LayerNorm" in name:
            arrays[name.replace("weight", "bias")] = rng.standard_normal(len(array)).astype(np.float32) * 0.3
    return {f"bert.{name}": array for name, array in arrays.items()}
