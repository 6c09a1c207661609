"""What a checkpoint is, told from its files alone: shape, size, and the memory that each kind of weights would take.

Knows configurations and memory estimates; reads no weight. Invariant: the figures are those by which loading refuses.
"""

from pathlib import Path
from typing import Any

import torch

from loam.engine.families import read_architecture
from loam.engine.gguf_files import open_gguf
from loam.engine.kvcache import PAGE
from loam.engine.memory import cache_bytes, linear_weights, other_weights, weight_bytes
from loam.engine.tokenizer import Tokenizer, read_object
from loam.engine.tool_calls import form_of

_KINDS = ("fp32", "bf16", "int8", "int4")


def described(path: Path) -> dict[str, Any]:
    """A checkpoint in a few words and numbers. Raises EngineError."""
    config = open_gguf(path)[0] if path.is_file() else read_object(path / "config.json")
    shape = read_architecture(config)
    tokenizer = Tokenizer.open(path)
    template = tokenizer.template()
    pages = -(-shape.context // PAGE)
    return {
        "name": path.stem if path.is_file() else path.name,
        "path": str(path),
        "family": shape.family,
        "parameters": linear_weights(shape) + other_weights(shape),
        "layers": shape.layers,
        "width": shape.width,
        "heads": f"{shape.heads} heads, {shape.kv_heads} for keys and values, of {shape.head_width}",
        "context": shape.context,
        "vocabulary": shape.vocabulary,
        "memory": {kind: weight_bytes(shape, kind) for kind in _KINDS},
        "cache_of_a_full_context": cache_bytes(shape, pages, torch.float16),
        "template": template,
        "tools": form_of(template),
        "stops": [tokenizer.piece(token) for token in sorted(tokenizer.stop_tokens)],
    }
