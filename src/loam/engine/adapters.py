"""LoRA adapters (Hu et al. 2021), answered with by name, many in one step.

Reads PEFT's folders. Invariant: an adapter is added as B(A(x)) beside the layer, never merged into its weights, so the
base model's rows in the same step are untouched.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from loam.core.errors import EngineError
from loam.engine.architecture import Architecture
from loam.engine.layouts import How, Piece, pieces
from loam.engine.rows import Rows


class Decoder(Protocol):
    """What a model must show to be adapted."""

    embed_tokens: nn.Embedding

    @property
    def architecture(self) -> Architecture: ...

    def get_submodule(self, target: str) -> nn.Module: ...


class LowRank(nn.Module):
    """x (rows, in) to what is added to the layer's output (rows, out): `up` (out, r) after `down` (r, in)."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.get_buffer("down")
        up: Tensor = self.get_buffer("up")
        return F.linear(F.linear(x, down), up)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What one adapter adds, by the layer it is added to; the scale is in `up` already."""

    name: str
    layers: Mapping[nn.Module, LowRank]


def added_by(
    adapters: Mapping[str, Adapter], rows: Rows, device: torch.device
) -> dict[nn.Module, list[tuple[Tensor, nn.Module]]]:
    """For each layer that an adapter of this step changes: which rows, and what is added to them."""
    places: dict[str, list[int]] = defaultdict(list)
    first = 0
    for span in rows.spans:
        if span.adapter:
            places[span.adapter] += range(first, first + span.count)
        first += span.count
    added: dict[nn.Module, list[tuple[Tensor, nn.Module]]] = defaultdict(list)
    for name, own in places.items():
        if name not in adapters:
            raise EngineError(f"no adapter is loaded under the name {name!r}; load it first")
        index = torch.tensor(own, device=device)
        for layer, low_rank in adapters[name].layers.items():
            added[layer].append((index, low_rank))
    return added


def read_adapter(name: str, folder: Path, model: Decoder) -> Adapter:
    """A PEFT folder's LoRA for this model. Raises `EngineError` where it does not fit or is of another kind."""
    architecture = model.architecture
    config = _config(folder)
    tensors = _tensors(folder)
    layers: dict[nn.Module, LowRank] = {}
    by_name = {piece.theirs: piece for piece in pieces(architecture)}
    for theirs in sorted({key.rsplit(".lora_", 1)[0] for key in tensors}):
        piece = by_name.get(theirs.removeprefix("base_model.model."))
        if piece is None or "layers" not in piece.ours[0] or "norm" in piece.ours[0]:
            raise EngineError(
                f"{folder}: it adapts {theirs}, which is no linear layer of a {architecture.family} block"
            )
        down, up = tensors.pop(f"{theirs}.lora_A.weight", None), tensors.pop(f"{theirs}.lora_B.weight", None)
        if down is None or up is None:
            raise EngineError(f"{folder}: lora_A or lora_B of {theirs} is missing; save the adapter again")
        layers |= _fitted(folder, piece, down, up * _scale(folder, config, piece.theirs, down.shape[0]), model)
    if tensors:
        raise EngineError(f"{folder} holds tensors that are not LoRA's: {', '.join(sorted(tensors)[:3])}")
    return Adapter(name, layers)


def _fitted(folder: Path, piece: Piece, down: Tensor, up: Tensor, model: Decoder) -> dict[nn.Module, LowRank]:
    """One adapted module of the checkpoint, as pairs for the layers of ours that it holds."""
    layers = [model.get_submodule(name) for name in piece.ours]
    outs = sum(_sizes(layer)[0] for layer in layers)
    ins = _sizes(layers[0])[1]
    rank = down.shape[0]
    if down.shape != (rank, ins) or up.shape != (outs, rank):
        got = f"{tuple(down.shape)} and {tuple(up.shape)}"
        raise EngineError(f"{folder}: {piece.theirs} has shapes {got}; the model asks for (r, {ins}) and ({outs}, r)")
    like = model.embed_tokens.weight
    # PEFT's second matrix is (out, r) for every kind of layer, also where the weight itself is stored turned
    upright = _UPRIGHT.get(piece.how, piece.how)
    ups = Piece(piece.theirs, piece.ours, upright).split(up, model.architecture)
    return {
        layer: LowRank(down.to(like.device, like.dtype), part.contiguous().to(like.device, like.dtype))
        for layer, part in zip(layers, ups, strict=True)
    }


_UPRIGHT: dict[How, How] = {"turned": "same", "turned_rows": "rows"}


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear layer, plain or quantised."""
    outs: Any = getattr(layer, "out_features", 0)
    ins: Any = getattr(layer, "in_features", 0)
    return int(outs), int(ins)


_OTHER_KINDS = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    try:
        config: Any = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise EngineError(f"{file} is missing; an adapter is a folder that PEFT's save_pretrained wrote") from missing
    except (ValueError, OSError) as broken:
        raise EngineError(f"{file} cannot be read as JSON ({broken}); save the adapter again") from broken
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":  # pyright: ignore[reportUnknownMemberType]
        raise EngineError(f"{file}: peft_type is not LORA; Loam runs LoRA adapters")
    for key in _OTHER_KINDS:
        if config.get(key):  # pyright: ignore[reportUnknownMemberType]
            raise EngineError(
                f"{file}: {key} is set, which Loam does not run; train a plain LoRA, or merge it into the weights"
            )
    if config.get("bias", "none") != "none":  # pyright: ignore[reportUnknownMemberType]
        raise EngineError(f"{file}: bias is trained too, which Loam does not run; merge the adapter into the weights")
    return config  # pyright: ignore[reportUnknownVariableType]


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / "adapter_model.safetensors"
    if not file.exists():
        also = (
            " (adapter_model.bin is a pickle, which can run code: convert it)"
            if (folder / "adapter_model.bin").exists()
            else ""
        )
        raise EngineError(f"{file} is missing{also}; save the adapter with PEFT's save_pretrained")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as broken:
        raise EngineError(f"{file} is not a whole safetensors file ({broken}); save the adapter again") from broken


def _scale(folder: Path, config: Mapping[str, Any], theirs: str, rank: int) -> float:
    """Alpha / r, or alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023); a pattern may set alpha for some layers."""
    alpha: float = config.get("lora_alpha", 8)
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    for pattern, own in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", theirs):
            alpha = own
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise EngineError(f"{folder}: lora_alpha is {alpha!r}; it must be a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
