"""The heads as a file: adapter, tuned weights and heads in float16 safetensors, the card in its header.

Knows the format that `loam.grounding.encoder` reads, nothing of training.
Invariant: `loam.grounding.encoder.adapter.merged` of a written file computes what the trained model computed, to the
precision of float16.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

FORMAT = "loam-heads-1"
_LORA = re.compile(r"encoder\.base_model\.model\.encoder\.layer\.(\d+)\.(.+)\.lora_(A|B)\.default\.weight")
_TUNED = re.compile(r"encoder\.base_model\.model\.(.+)")


def tensors(weights: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """A checkpoint's weights under the format's names; the adapter's scale goes into B."""
    found: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        adapter, tuned = _LORA.fullmatch(name), _TUNED.fullmatch(name)
        if adapter:
            layer, module, side = adapter.groups()
            found[f"lora.{layer}.{module}.{side}"] = weight * scale if side == "B" else weight
        elif tuned:
            found[f"tuned.{tuned.group(1)}"] = weight
        else:
            found[name.removeprefix("heads.")] = weight
    return {name: weight.detach().to(torch.float16).contiguous() for name, weight in found.items()}


def write(path: Path, found: dict[str, torch.Tensor], encoder: Path, card: dict[str, Any]) -> None:
    """Writes the file with its header."""
    base = hashlib.sha256((encoder / "model.safetensors").read_bytes()).hexdigest()
    save_file(found, path, metadata={"format": FORMAT, "base": base, "card": json.dumps(card, ensure_ascii=False)})
