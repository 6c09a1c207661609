"""What a checkpoint's config.json means: from the words of each family to one `Architecture`.

Knows no tensors and opens no file. Invariant: a setting that would change the result and is not understood is refused,
never passed over.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from loam.core.errors import EngineError
from loam.engine.architecture import Activation, Architecture, Rope

Config = Mapping[str, Any]
Fields = dict[str, Any]

_NAMES: dict[str, tuple[str, ...]] = {
    "width": ("hidden_size", "n_embd"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
    "context": ("max_position_embeddings", "n_positions"),
}
_MOST = {"width": 1 << 17, "layers": 1 << 10, "heads": 1 << 12, "vocabulary": 1 << 22, "context": 1 << 28}
"""Beyond these a number is a mistake, not a model; the largest open models are a tenth of it."""

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu_squared",
}

_REFUSED: tuple[tuple[str, str], ...] = (
    ("quantization_config", "its weights are quantised in a format of another engine; take the unquantised checkpoint"),
    ("add_cross_attention", "it has cross-attention; Loam runs decoders"),
    ("scale_attn_by_inverse_layer_idx", "its attention is scaled by the layer's number"),
    ("use_bidirectional_attention", "its attention looks ahead; Loam runs decoders"),
    ("qk_layernorm", "its queries and keys have layer norms of their own"),
)
"""Settings under which the result would be another one, and why Loam does not go on."""

ROPE_SCALINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
    "longrope": ("original_max_position_embeddings",),
    "factors": (),
}
"""What each needs to be told. `factors` is GGUF's: one for each frequency."""


def read_architecture(config: Config) -> Architecture:
    """The shape that a config.json describes. Raises `EngineError`, which names the setting and what to do."""
    family = config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise EngineError(f"model_type {family!r} is not a family that Loam's engine runs; it runs {known}")
    for key, why in _REFUSED:
        if config.get(key):
            raise EngineError(f"{key} is set: {why}")
    fields = _common(config)
    fields["family"] = family
    fields |= FAMILIES[family](config, fields)
    architecture = Architecture(**fields)
    _check(architecture)
    return architecture


def _number(config: Config, name: str, keys: tuple[str, ...], default: int | None = None) -> int:
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST.get(name, 1 << 24):
            raise EngineError(f"{key} is {value!r}; it must be a whole number from 1 to {_MOST.get(name, 1 << 24)}")
        return value
    if default is None:
        raise EngineError(f"{keys[0]} is missing; without it the model's shape is unknown")
    return default


def _real(config: Config, key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise EngineError(f"{key} is {value!r}; it must be a positive number")
    return float(value)


def _common(config: Config) -> Fields:
    fields: Fields = {name: _number(config, name, keys) for name, keys in _NAMES.items()}
    width, heads = fields["width"], fields["heads"]
    head_width = _number(config, "head_width", ("head_dim",), 0 if width % heads else width // heads)
    if head_width == 0:
        raise EngineError(
            f"hidden_size {width} is not a multiple of the {heads} attention heads, and head_dim is missing"
        )
    fields |= {
        "head_width": head_width,
        "kv_heads": _number(config, "heads", ("num_key_value_heads",), heads),
        "hidden": _number(config, "hidden", ("intermediate_size", "n_inner"), 4 * width),
        "norm_eps": _real(config, "rms_norm_eps", 1e-6),
        "tied": bool(config.get("tie_word_embeddings", False)),
        "activation": _activation(config),
        "rope": _rope(config, config.get("rope_parameters") or config.get("rope_scaling"), head_width),
        "windows": _windows(config, fields["layers"]),
    }
    fields["context"] = _stretched(fields["context"], fields["rope"])
    return fields


def _activation(config: Config) -> Activation:
    for key in ("hidden_activation", "hidden_act", "activation_function"):
        name = config.get(key)
        if name is not None:
            if name not in _ACTIVATIONS:
                raise EngineError(f"{key} {name!r} is not known; Loam knows {', '.join(_ACTIVATIONS)}")
            return _ACTIVATIONS[name]
    return "silu"


def _rope(config: Config, said: Any, head_width: int, theta: float | None = None) -> Rope:
    """Both spellings: `rope_parameters` (transformers 5), and `rope_theta` beside `rope_scaling` (before)."""
    if said is not None and not isinstance(said, Mapping):
        raise EngineError(f"the rotary settings are {said!r}; they must be an object")
    scaling: dict[str, Any] = {str(key): value for key, value in (said or {}).items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    kind = "longrope" if kind == "su" else kind  # Phi-3's first name for it
    if kind not in ROPE_SCALINGS:
        raise EngineError(f"rope_type {kind!r} is not known; Loam knows {', '.join(ROPE_SCALINGS)}")
    default = theta or _real(config, "rope_theta", _real(config, "rotary_emb_base", 10_000.0))
    part = _real(
        scaling, "partial_rotary_factor", _real(config, "partial_rotary_factor", _real(config, "rotary_pct", 1.0))
    )
    width = int(head_width * part)
    scaling["rope_type"] = kind
    if config.get("original_max_position_embeddings"):  # Phi-3 says it outside
        scaling.setdefault("original_max_position_embeddings", config["original_max_position_embeddings"])
    scaling.setdefault("max_position_embeddings", config.get("max_position_embeddings"))
    _told(kind, scaling, width)
    return Rope(_real(scaling, "rope_theta", default), width, None if kind == "default" else scaling)


def _told(kind: str, scaling: dict[str, Any], width: int) -> None:
    if kind == "yarn" and scaling.get("original_max_position_embeddings") and scaling["max_position_embeddings"]:
        reach = _real(scaling, "max_position_embeddings", 1) / _real(scaling, "original_max_position_embeddings", 1)
        scaling.setdefault("factor", reach)
    for need in ROPE_SCALINGS[kind]:
        if scaling.get(need) is None:
            raise EngineError(f"rope_type {kind!r} needs {need!r} among the rotary settings")
        _real(scaling, need, 1.0)
    for each in {"longrope": ("long_factor", "short_factor"), "factors": ("factors",)}.get(kind, ()):
        factors: Any = scaling.get(each)
        if not isinstance(factors, list) or len(cast("list[Any]", factors)) != width // 2:
            raise EngineError(f"rope_type {kind!r} needs {each!r}, a list of {width // 2} numbers")


def _stretched(context: int, rope: Rope) -> int:
    """How far scaled positions reach: checkpoints state the trained length and the factor, or the product."""
    scaling = rope.scaling or {}
    if scaling.get("rope_type") not in ("linear", "dynamic", "yarn"):
        return context
    trained = scaling.get("original_max_position_embeddings") or context
    return max(context, int(trained * _real(scaling, "factor", 1.0)))


def _windows(config: Config, layers: int) -> tuple[int | None, ...]:
    """From `layer_types` where a checkpoint has them; else the family's function says."""
    kinds = config.get("layer_types")
    if not kinds:
        return ()
    if len(kinds) != layers or set(kinds) - {"full_attention", "sliding_attention"}:
        raise EngineError(
            f"layer_types {kinds!r} must say full_attention or sliding_attention for each of {layers} layers"
        )
    window = _number(config, "window", ("sliding_window",), 0)
    if "sliding_attention" not in kinds:
        return ()
    if not window:
        raise EngineError("layer_types has sliding_attention, but sliding_window is missing")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _every(config: Config, fields: Fields) -> tuple[int | None, ...]:
    """One window for all layers (Mistral)."""
    if fields["windows"] or not config.get("sliding_window"):
        return fields["windows"]
    return (_number(config, "window", ("sliding_window",)),) * fields["layers"]


def _pattern(config: Config, fields: Fields, period: int) -> tuple[int | None, ...]:
    """Each `period`-th layer sees everything, the others a window (Gemma)."""
    if fields["windows"] or not config.get("sliding_window"):
        return fields["windows"]
    window = _number(config, "window", ("sliding_window",))
    return tuple(window if (layer + 1) % period else None for layer in range(fields["layers"]))


def _llama(config: Config, fields: Fields) -> Fields:
    bias = bool(config.get("attention_bias", False))
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bool(config.get("mlp_bias", False))}


def _mistral(config: Config, fields: Fields) -> Fields:
    return {"windows": _every(config, fields)}


def _qwen2(config: Config, fields: Fields) -> Fields:
    windows: tuple[int | None, ...] = ()
    if config.get("use_sliding_window") and config.get("sliding_window"):
        first = config.get("max_window_layers") or 0
        window = _number(config, "window", ("sliding_window",))
        windows = fields["windows"] or tuple(None if i < first else window for i in range(fields["layers"]))
    return {"qkv_bias": True, "windows": windows}


def _qwen3(config: Config, fields: Fields) -> Fields:
    return _qwen2(config, fields) | _llama(config, fields) | {"mlp_bias": False, "qk_norm": "head"}


def _smollm3(config: Config, fields: Fields) -> Fields:
    rotated = config.get("no_rope_layers")  # 1: this layer turns; the name says the opposite
    if rotated is None:
        every = _number(config, "interval", ("no_rope_layer_interval",), 4)
        rotated = [int((layer + 1) % every != 0) for layer in range(fields["layers"])]
    if len(rotated) != fields["layers"]:
        raise EngineError(f"no_rope_layers has {len(rotated)} entries for {fields['layers']} layers")
    still = frozenset(layer for layer, turns in enumerate(rotated) if not turns)
    return _llama(config, fields) | {"unrotated": still, "tied": bool(config.get("tie_word_embeddings", True))}


def _gemma(config: Config, fields: Fields) -> Fields:
    tied = bool(config.get("tie_word_embeddings", True))
    bias = bool(config.get("attention_bias", False))
    # The first Gemma files say "gelu" and were trained with its tanh form.
    own: Fields = {"activation": "gelu_tanh", "embedding_scale": fields["width"] ** 0.5, "norm": "rms_plus_one"}
    return own | {"tied": tied, "qkv_bias": bias, "out_bias": bias}


def _gemma2(config: Config, fields: Fields) -> Fields:
    softcaps = {
        "attention_softcap": _softcap(config, "attn_logit_softcapping"),
        "logit_softcap": _softcap(config, "final_logit_softcapping"),
    }
    scale = _real(config, "query_pre_attn_scalar", fields["head_width"]) ** -0.5
    windows = _pattern(config, fields, 2)
    return _gemma(config, fields) | softcaps | {"attention_scale": scale, "post_norm": True, "windows": windows}


def _softcap(config: Config, key: str) -> float | None:
    return _real(config, key, 1.0) if config.get(key) is not None else None


def _gemma3(config: Config, fields: Fields) -> Fields:
    period = _number(config, "period", ("sliding_window_pattern", "_sliding_window_pattern"), 6)
    head_width = fields["head_width"]
    both: Any = config.get("rope_parameters") or {}
    far = both.get("full_attention", config.get("rope_scaling"))
    far_theta, near_theta = _real(config, "rope_theta", 1e6), _real(config, "rope_local_base_freq", 1e4)
    own: Fields = {
        "qk_norm": "head",
        "windows": _pattern(config, fields, period),
        "rope": _rope(config, far, head_width, far_theta),
        "local_rope": _rope(config, both.get("sliding_attention"), head_width, near_theta),
    }
    return _gemma2(config, fields) | own


def _phi(config: Config, fields: Fields) -> Fields:
    part = {} if config.get("rope_parameters") else {"rope": _partial(config, fields, 0.5)}
    own: Fields = {"norm": "layer", "parallel": True, "shared_norm": True, "gated": False}
    biases: Fields = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": True}
    return own | biases | part | {"norm_eps": _real(config, "layer_norm_eps", 1e-5)}


def _partial(config: Config, fields: Fields, part: float) -> Rope:
    """Rotary positions of a config that does not say which part turns, under the family's own default."""
    return _rope({"partial_rotary_factor": part, **config}, config.get("rope_scaling"), fields["head_width"])


def _gpt_neox(config: Config, fields: Fields) -> Fields:
    part = {} if config.get("rope_parameters") or "rotary_pct" in config else {"rope": _partial(config, fields, 0.25)}
    bias = bool(config.get("attention_bias", True))
    own: Fields = {"norm": "layer", "parallel": bool(config.get("use_parallel_residual", True)), "gated": False}
    own |= {"qkv_bias": bias, "out_bias": bias, "mlp_bias": True, "kv_heads": fields["heads"]}  # it has no grouped keys
    if config.get("hidden_act") is None:
        own["activation"] = "gelu"
    return own | part | {"norm_eps": _real(config, "layer_norm_eps", 1e-5)}


def _phi3(config: Config, fields: Fields) -> Fields:
    return {"windows": _every(config, fields)}


def _olmo2(config: Config, fields: Fields) -> Fields:
    return _llama(config, fields) | {"qk_norm": "width", "pre_norm": False, "post_norm": True}


def _gpt2(config: Config, fields: Fields) -> Fields:
    hidden = _number(config, "hidden", ("n_inner",), 4 * fields["width"])  # it does not know intermediate_size
    own: Fields = {"norm": "layer", "gated": False, "rope": None, "learned_positions": fields["context"]}
    own |= {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "kv_heads": fields["heads"], "hidden": hidden}
    if config.get("activation_function") is None:
        own["activation"] = "gelu_tanh"
    scale = None if config.get("scale_attn_weights", True) else 1.0
    tied = bool(config.get("tie_word_embeddings", True))
    return own | {"norm_eps": _real(config, "layer_norm_epsilon", 1e-5), "tied": tied, "attention_scale": scale}


def _stablelm(config: Config, fields: Fields) -> Fields:
    part = {} if config.get("rope_parameters") else {"rope": _partial(config, fields, 0.25)}
    parallel = bool(config.get("use_parallel_residual", False))
    own: Fields = {"norm": "layer", "parallel": parallel, "shared_norm": parallel}
    return (
        own | part | {"qkv_bias": bool(config.get("use_qkv_bias")), "norm_eps": _real(config, "layer_norm_eps", 1e-5)}
    )


def _granite(config: Config, fields: Fields) -> Fields:
    scales = {
        "embedding_scale": _real(config, "embedding_multiplier", 1.0),
        "residual_scale": _real(config, "residual_multiplier", 1.0),
        "attention_scale": _real(config, "attention_multiplier", 1.0),
        "logit_scale": 1.0 / _real(config, "logits_scaling", 1.0),
    }
    return _llama(config, fields) | scales


def _starcoder2(config: Config, fields: Fields) -> Fields:
    bias = bool(config.get("use_bias", True))
    own: Fields = {"norm": "layer", "gated": False, "windows": _every(config, fields)}
    own |= {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bias, "tied": bool(config.get("tie_word_embeddings", True))}
    return own | {"norm_eps": _real(config, "norm_epsilon", 1e-5)}


FAMILIES: dict[str, Callable[[Config, Fields], Fields]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "smollm3": _smollm3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi": _phi,
    "phi3": _phi3,
    "gpt_neox": _gpt_neox,
    "olmo2": _olmo2,
    "gpt2": _gpt2,
    "stablelm": _stablelm,
    "granite": _granite,
    "starcoder2": _starcoder2,
}
"""Each family by its `model_type`: what it sets beyond the common words."""


def _check(architecture: Architecture) -> None:
    a = architecture
    if a.heads % a.kv_heads:
        raise EngineError(f"num_attention_heads {a.heads} is not a multiple of num_key_value_heads {a.kv_heads}")
    for rope in (a.rope, a.local_rope):
        if rope and rope.theta <= 1:
            raise EngineError(f"rope_theta is {rope.theta}; it must be greater than 1")
        if rope and (rope.width % 2 or not 0 < rope.width <= a.head_width):
            raise EngineError(f"the rotary part of a head is {rope.width} of {a.head_width} numbers; it must be even")
    if a.hidden > _MOST["width"] * 8:
        raise EngineError(f"intermediate_size {a.hidden} is absurd for a width of {a.width}")
