"""How many bytes a model and its cache need, told from its shape, before a byte is read.

Invariant: it counts what torch will hold, so that a model which does not fit is refused before it pushes others out.
What the compiled kernel packs beside it is weighed before it packs (`kernel.compiled`), and torch serves where that is
too much; weights that lie in a mapped file leave memory meanwhile.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from loam.core.errors import EngineError
from loam.engine.architecture import Architecture
from loam.engine.kvcache import PAGE

Weights = Literal["auto", "fp32", "bf16", "int8", "int8_dynamic", "int4"]
"""auto: as the file has them (fp16 becomes bf16). int8: weights alone; int8_dynamic: activations too, row by row."""

Limit = int | Callable[[int, int], int | None] | None
"""Most bytes of weights, None: what is free; or who is asked that, told the bytes that are needed and those free."""

_BITS = {"fp32": 32.0, "bf16": 16.0, "int8": 8.0, "int8_dynamic": 8.0, "int4": 5.0}
"""A weight of a linear layer; int4 has a scale and a zero in bf16 for each 32."""


def linear_weights(a: Architecture) -> int:
    """Weights in linear layers, the head among them unless it is the embedding itself."""
    attention = a.width * a.head_width * (2 * a.heads + 2 * a.kv_heads)
    mlp = a.width * a.hidden * (3 if a.gated else 2)
    return a.layers * (attention + mlp) + (0 if a.tied else a.width * a.vocabulary)


def other_weights(a: Architecture) -> int:
    """Embeddings, norms and biases."""
    heads = {"none": 0, "head": 2, "width": a.heads + a.kv_heads}[a.qk_norm] * a.head_width
    blocks = a.width * (a.pre_norm * (1 if a.shared_norm else 2) + 2 * a.post_norm)
    norms = (a.layers * (blocks + heads) + a.width) * (2 if a.norm == "layer" else 1)
    return a.width * (a.vocabulary + (a.learned_positions or 0)) + norms + _biases(a)


def _biases(a: Architecture) -> int:
    attention = a.qkv_bias * (a.heads + 2 * a.kv_heads) * a.head_width + a.out_bias * a.width
    mlp = a.mlp_bias * (a.hidden * (2 if a.gated else 1) + a.width)
    return a.layers * (attention + mlp) + a.head_bias * a.vocabulary


def weight_bytes(a: Architecture, weights: Weights, kind: torch.dtype = torch.bfloat16) -> int:
    """Bytes of a model in memory; `kind` is its file's type, which `auto` keeps. A tied head is quantised apart."""
    if weights == "auto":
        weights = "fp32" if kind in (torch.float32, torch.float64) else "bf16"
    quantised = weights not in ("fp32", "bf16")
    rest = 16.0 if quantised else _BITS[weights]
    head = a.width * a.vocabulary if a.tied and quantised else 0
    return int(((linear_weights(a) + head) * _BITS[weights] + other_weights(a) * rest) / 8)


def cache_bytes(a: Architecture, pages: int, kind: torch.dtype = torch.bfloat16) -> int:
    """Bytes of a `PagedCache` of so many pages."""
    return 2 * a.layers * pages * PAGE * a.kv_heads * a.head_width * kind.itemsize


def available(device: str = "cpu") -> int:
    """Bytes that may be taken now: the device's, or the machine's within this process's cgroup."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    free = _field(Path("/proc/meminfo"), "MemAvailable:", 1024)
    room = [free] if free is not None else []
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        most, taken = _number(Path("/sys/fs/cgroup") / limit), _number(Path("/sys/fs/cgroup") / used)
        if most is not None and taken is not None:
            files = _field(Path("/sys/fs/cgroup") / stat, "inactive_file", 1) or 0  # given back when it is needed
            room.append(max(0, most - taken + files))
    return min(room, default=1 << 62)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _field(file: Path, name: str, unit: int) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * unit for line in lines if line.startswith(name)), None)


def fit(what: Path, need: int, device: str, limit: Limit) -> None:
    """Refuse what does not fit, before it is loaded. Raises `EngineError`."""
    if callable(limit):
        limit = limit(need, available(device))
    room = available(device)
    if limit is not None and limit < room:
        room, whose = limit, "the memory limit leaves"
    else:
        whose = f"{device} has"
    if need > room:
        raise EngineError(
            f"{what} needs {_said(need)} for its weights, but {whose} {_said(room)}; "
            "take smaller weights (bf16, int8, int4), a smaller model, or unload another"
        )


def _said(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
