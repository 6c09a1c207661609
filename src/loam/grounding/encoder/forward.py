"""BERT's forward pass in numpy: the slow and obvious twin of the ONNX graph.

It runs where ONNX Runtime is not installed, and the tests hold the graph against it. Shapes in comments: n texts, p
pieces, h hidden, a attention heads, d numbers a head.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loam.grounding.encoder.weights import Shape

Array = NDArray[np.float32]
Inputs = Mapping[str, NDArray[Any]]
"""`ids` and `types`, and `mask` with 1 for a piece and 0 for padding; all [n, p]."""


class NumpyForward:
    """Runs batches, exactly as trained; about a third of ONNX Runtime's speed."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], shape: Shape) -> None:
        self._tensors = tensors
        self._shape = shape

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> list[Array]:
        """Of `states` [n, p, h], `pooled` [n, h], `span` [n, p, 2], `rank` [n] and `verify` [n, 3], those asked for."""
        states = self._states(inputs)
        return [self._output(name, states, inputs["mask"]) for name in outputs]

    def _output(self, name: str, states: Array, mask: NDArray[Any]) -> Array:
        if name == "states":
            return states
        if name == "pooled":
            return _unit(states[:, 0] if self._shape.pooling == "cls" else _mean(states, mask))
        scores = self._linear(states if name == "span" else states[:, 0], name)
        return scores[:, 0] if name == "rank" else scores

    def _states(self, inputs: Inputs) -> Array:
        rows = self._tensors
        states = rows["embeddings.word_embeddings.weight"][inputs["ids"]].astype(np.float32)
        states += rows["embeddings.token_type_embeddings.weight"][inputs["types"]]
        states += rows["embeddings.position_embeddings.weight"][: states.shape[1]]
        states = self._norm(states, "embeddings.LayerNorm")
        hidden = np.where(inputs["mask"] > 0, np.float32(0), np.float32(-1e9))[:, None, None, :]  # [n, 1, 1, p]
        for layer in range(self._shape.layers):
            states = self._layer(states, hidden, f"encoder.layer.{layer}")
        return states

    def _layer(self, states: Array, hidden: Array, name: str) -> Array:
        attention = f"{name}.attention"
        query, key, value = (self._split(states, f"{attention}.self.{part}") for part in ("query", "key", "value"))
        scores = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(query.shape[3])) + hidden  # [n, a, p, p]
        seen = (_softmax(scores) @ value).swapaxes(1, 2).reshape(states.shape)
        states = self._norm(states + self._linear(seen, f"{attention}.output.dense"), f"{attention}.output.LayerNorm")
        inner = _gelu(self._linear(states, f"{name}.intermediate.dense"))
        return self._norm(states + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _split(self, states: Array, name: str) -> Array:
        texts, pieces, hidden = states.shape
        heads = self._shape.heads
        return self._linear(states, name).reshape(texts, pieces, heads, hidden // heads).swapaxes(1, 2)  # [n, a, p, d]

    def _linear(self, states: Array, name: str) -> Array:
        return states @ self._tensors[f"{name}.weight"].T.astype(np.float32) + self._tensors[f"{name}.bias"]

    def _norm(self, states: Array, name: str) -> Array:
        centred = states - states.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._shape.epsilon))
        return centred / scale * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]


def _mean(states: Array, mask: NDArray[Any]) -> Array:
    weights = mask[:, :, None].astype(np.float32)
    return (states * weights).sum(axis=1) / weights.sum(axis=1)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _gelu(x: Array) -> Array:
    """Gelu, x Φ(x): the error function as a polynomial, off by 1.5e-7 at most (Abramowitz and Stegun 7.1.26)."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429))))
    )
    return np.asarray(np.float32(0.5) * x * (1 + np.sign(x) * (1 - series * np.exp(-z * z))), np.float32)
