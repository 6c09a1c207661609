"""The shape of a decoder: everything that tells one family of models from another, as data.

Knows no tensors. Invariant: whatever `transformer.py` does differently for two families is a field here.
"""

from typing import Any, Literal

from msgspec import Struct

Norm = Literal["rms", "rms_plus_one", "layer"]
"""rms: Llama's. rms_plus_one: Gemma's, whose stored weight is the gain less one. layer: with mean and bias (GPT-2)."""

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu_squared"]


QKNorm = Literal["none", "head", "width"]
"""head: each head of queries and keys is normed by itself (Qwen3). width: all heads at once (OLMo 2)."""


Turning = Literal["none", "rope", "local_rope"]


class Rope(Struct, frozen=True):
    """Rotary positions; `scaling` is the checkpoint's own `rope_scaling` or `rope_parameters` object."""

    theta: float
    width: int
    """How many of a head's numbers turn; fewer than the head's width where only a part does."""
    scaling: dict[str, Any] | None = None


class Architecture(Struct, frozen=True, kw_only=True):
    """One decoder. Widths are in numbers, the context in tokens."""

    family: str
    """The checkpoint's `model_type`."""
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    context: int
    norm: Norm = "rms"
    norm_eps: float = 1e-6
    activation: Activation = "silu"
    gated: bool = True
    rope: Rope | None = None
    local_rope: Rope | None = None
    """What layers with a window turn by, where it differs (Gemma 3)."""
    unrotated: frozenset[int] = frozenset()
    """Layers without rotary positions (SmolLM3)."""
    learned_positions: int | None = None
    windows: tuple[int | None, ...] = ()
    """Each layer's sliding window, in tokens; empty: every layer sees everything."""
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qk_norm: QKNorm = "none"
    pre_norm: bool = True
    post_norm: bool = False
    """A norm after attention and after the MLP, before the sum (Gemma 2 and 3, OLMo 2)."""
    parallel: bool = False
    """Attention and MLP read the same input and are summed (GPT-NeoX, Phi)."""
    shared_norm: bool = False
    """Where parallel: the MLP reads what attention reads, so a block has one norm (Phi)."""
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """What is added to the residual stream is multiplied by it (Granite)."""
    logit_scale: float = 1.0
    """Logits are multiplied by it, before the softcap."""
    attention_scale: float | None = None
    """What scores are multiplied by; the head's width to the power of -1/2 where it is not said."""
    attention_softcap: float | None = None
    logit_softcap: float | None = None

    @property
    def group(self) -> int:
        """Query heads that share one key head."""
        return self.heads // self.kv_heads

    def window(self, layer: int) -> int | None:
        """How many positions a token of this layer sees, itself included; None: all."""
        return self.windows[layer] if self.windows else None

    def turning(self, layer: int) -> Turning:
        """By which of its rotary positions a layer turns queries and keys."""
        if self.rope is None or layer in self.unrotated:
            return "none"
        return "local_rope" if self.local_rope and self.window(layer) else "rope"

    @property
    def score_scale(self) -> float:
        """What query times key is multiplied by."""
        return self.head_width**-0.5 if self.attention_scale is None else self.attention_scale
