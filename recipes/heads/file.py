"""The heads as a file: adapter, tuned weights and heads in float16 safetensors, the card in its header.

Knows the format that `loam.grounding.encoder` reads, nothing of training.
Invariant: `merged` of a written file computes what the trained model computed, to the precision of float16.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BertModel

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


def card(path: Path) -> dict[str, Any]:
    """The card of a written file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["card"])


class Merged(torch.nn.Module):
    """The encoder with a file's adapter merged into its weights, and the three heads."""

    def __init__(self, path: Path, encoder: Path, precision: torch.dtype) -> None:
        super().__init__()
        found = {name: weight.float() for name, weight in load_file(path).items()}
        self.encoder = BertModel.from_pretrained(encoder, attn_implementation="eager", add_pooling_layer=False)
        state = self.encoder.state_dict()
        for name in [name for name in found if name.startswith("lora.") and name.endswith(".A")]:
            _, layer, module = name.removesuffix(".A").split(".", 2)
            down, up = found[name], found[name.removesuffix("A") + "B"]
            state[f"encoder.layer.{layer}.{module}.weight"] += up @ down
        for name, weight in found.items():
            if name.startswith("tuned."):
                state[name.removeprefix("tuned.")].copy_(weight)
        self.encoder.to(precision).eval()
        self.heads = {name: (found[f"{name}.weight"], found[f"{name}.bias"]) for name in ("span", "rank", "verify")}

    def forward(self, pieces: torch.Tensor, types: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """As HeadedEncoder's."""
        states = self.encoder(input_ids=pieces, token_type_ids=types, attention_mask=mask).last_hidden_state.float()
        scores = {name: torch.nn.functional.linear(states, *head) for name, head in self.heads.items()}
        return {"span": scores["span"], "rank": scores["rank"][:, 0, 0], "verify": scores["verify"][:, 0]}
