"""The kernel's structures as Python sees them: kernel.h, field by field.

Knows memory layout and types, no checkpoint. Invariant: a structure here has the fields of its twin in kernel.h, in
the same order; `open_library` compares their sizes.
"""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import ClassVar, Literal

from loam.engine.kernel.build import Unbuilt, load

FP32, BF16, FP16, INT8 = range(4)
Kind = Literal["int8", "bf16", "fp32"]
KINDS: dict[Kind, int] = {"int8": INT8, "bf16": BF16, "fp32": FP32}
BLOCK, ROPES = 32, 2
PLACES = 4
"""A layer's matrices: queries, keys and values; out; gates and ups; down."""


class Matrix(Structure):
    """A packed matrix; see kernel.h."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("packed", "scales", "bias")),
        *((name, c_int32) for name in ("type", "outputs", "inputs", "gated")),
    ]


class Layer(Structure):
    """One block of the decoder."""

    _fields_: ClassVar = [
        *(
            (name, c_void_p)
            for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm", "attention_after", "mlp_after")
        ),
        *((name, Matrix) for name in ("qkv", "out", "up", "down")),
        *((name, c_int32) for name in ("window", "rope")),
    ]


class Model(Structure):
    """The decoder."""

    _fields_: ClassVar = [
        *(
            (name, c_int32)
            for name in ("layers", "width", "heads", "kv_heads", "head_width", "hidden", "vocabulary", "activation")
        ),
        ("embedding_type", c_int32),
        ("wide_norm", c_int32),
        ("rope_width", c_int32 * ROPES),
        *(
            (name, c_float)
            for name in ("norm_eps", "embedding_scale", "residual_scale", "logit_scale", "logit_softcap")
        ),
        *((name, c_float) for name in ("attention_scale", "attention_softcap")),
        ("cosines", c_void_p * ROPES),
        ("sines", c_void_p * ROPES),
        *((name, c_void_p) for name in ("embedding", "final_norm")),
        ("head", Matrix),
        ("layer", POINTER(Layer)),
    ]


class LowRank(Structure):
    """What an adapter adds to one matrix."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("down", "up", "halves")),
        *((name, c_int32) for name in ("type", "ranks")),
    ]


class Step(Structure):
    """What one step computes."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("rows", "spans", "wanted", "cache_type")),
        *((name, c_void_p) for name in ("tokens", "starts", "counts", "first_page", "pages", "wanted_rows")),
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("layer_stride", "page_stride")),
        *((name, c_void_p) for name in ("logits", "adapters", "lows")),
        ("ranks", c_int64),
    ]


def open_library(path: Path) -> ctypes.CDLL:
    """The library with its functions' types said. Raises `Unbuilt` where it does not fit this file."""
    library = load(path)
    try:
        _typed(library)
    except AttributeError as missing:
        raise Unbuilt(f"{path} is not this kernel ({missing}); remove it and it is built anew") from missing
    sizes = (c_int32 * 5)()
    library.loam_sizes(sizes)
    ours = [ctypes.sizeof(each) for each in (Matrix, Layer, Model, Step, LowRank)]
    if list(sizes) != ours:
        raise Unbuilt(f"{path} lays its structures out otherwise ({list(sizes)}, not {ours})")
    return library


def _typed(library: ctypes.CDLL) -> None:
    library.loam_new.argtypes, library.loam_new.restype = [c_int32], c_void_p
    library.loam_free.argtypes, library.loam_free.restype = [c_void_p], None
    library.loam_sizes.argtypes, library.loam_sizes.restype = [POINTER(c_int32)], None
    library.loam_step.argtypes = [c_void_p, POINTER(Model), POINTER(Step)]
    library.loam_pack.argtypes = [c_void_p, POINTER(Matrix), c_int32, c_int32, c_int32, c_void_p, c_void_p]
    library.loam_pack.restype = None
