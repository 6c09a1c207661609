"""A BERT as an ONNX graph, in one of three precisions, written once and kept.

Knows how BERT computes and which of ONNX Runtime's operators do it fast; opens no session.
Invariant: a file is there whole or not at all, and its name holds the hash of everything that went into it.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loam.core.errors import EncoderError
from loam.grounding.encoder.onnx_file import MICROSOFT, Graph
from loam.grounding.encoder.weights import Shape

Precision = Literal["fp32", "nb8", "int8"]
"""fp32: as trained. nb8: weights of 8 bits, a scale for each 32. int8: a scale for each row, twice the speed."""

Arrays = Mapping[str, NDArray[Any]]

_REVISION = "2"
"""Raised when this module writes another graph for the same weights."""
_BLOCK = 32
_TO_FLOAT = {"to": 1}  # ONNX's number for float32
_DROP = {"keepdims": 0}
_NEARLY = 4  # the accuracy level at which what is multiplied is rounded to bytes too, block by block
_HEADS = ("span", "rank", "verify")


def kept(folder: Path, name: str, precision: Precision, *sources: str) -> Path:
    """The file for a graph of weights whose hashes are `sources`."""
    digest = hashlib.sha256("\n".join((_REVISION, precision, *sources)).encode()).hexdigest()
    return folder / f"{name}-{precision}-{digest[:12]}.onnx"


def write(file: Path, tensors: Arrays, shape: Shape, precision: Precision) -> None:
    """Writes the graph; two processes that do so at once do not disturb each other. Raises EncoderError.

    Tensors called `span.weight`, `rank.weight`, `verify.weight` give it outputs of these names too.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        data = _Bert(tensors, shape, precision).file()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(file)
    except KeyError as error:
        raise EncoderError(f"the weights for {file.name} have no tensor {error}") from error
    except OSError as error:
        raise EncoderError(f"cannot write {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


class _Bert:
    """Shapes in comments: n texts, p pieces, h hidden."""

    def __init__(self, tensors: Arrays, shape: Shape, precision: Precision) -> None:
        self._tensors = tensors
        self._shape = shape
        self._precision: Precision = precision
        self._graph = Graph()

    def file(self) -> bytes:
        graph, shape = self._graph, self._shape
        states = self._embedded()
        for layer in range(shape.layers):
            states = self._layer(states, f"encoder.layer.{layer}")
        graph.node("Identity", states, output="states")
        self._pool(states)
        outputs = {"states": ("float32", ("n", "p", shape.hidden)), "pooled": ("float32", ("n", shape.hidden))}
        outputs |= {head: self._head(head, states) for head in _HEADS if f"{head}.weight" in self._tensors}
        inputs = {"ids": ("int64", ("n", "p")), "types": ("int64", ("n", "p")), "mask": ("int32", ("n", "p"))}
        return graph.file(inputs, outputs)

    def _embedded(self) -> str:
        graph = self._graph
        length = graph.node("Gather", graph.node("Shape", "ids"), self._numbers(1, scalar=True))
        zero, one = self._numbers(0, scalar=True), self._numbers(1, scalar=True)
        words = self._rows("embeddings.word_embeddings.weight", "ids")
        types = self._rows("embeddings.token_type_embeddings.weight", "types")
        places = self._rows("embeddings.position_embeddings.weight", graph.node("Range", zero, length, one))
        return self._norm(graph.node("Add", graph.node("Add", words, types), places), "embeddings.LayerNorm")

    def _layer(self, states: str, name: str) -> str:
        graph, attention = self._graph, f"{name}.attention"
        query, key, value = (self._linear(states, f"{attention}.self.{part}") for part in ("query", "key", "value"))
        seen = graph.node(
            "MultiHeadAttention",
            query,
            key,
            value,
            "",
            "mask",
            domain=MICROSOFT,
            attributes={"num_heads": self._shape.heads},
        )
        seen = self._linear(seen, f"{attention}.output.dense")
        states = self._norm(graph.node("Add", states, seen), f"{attention}.output.LayerNorm")
        inner = graph.node("Gelu", self._linear(states, f"{name}.intermediate.dense"), domain=MICROSOFT)
        return self._norm(
            graph.node("Add", states, self._linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )

    def _pool(self, states: str) -> None:
        graph = self._graph
        if self._shape.pooling == "cls":
            pooled = self._first(states)
        else:
            mask = graph.node(
                "Cast", graph.node("Unsqueeze", "mask", self._numbers(2)), attributes=_TO_FLOAT
            )  # [n, p, 1]
            total = graph.node(
                "ReduceSum", graph.node("Mul", states, mask), self._numbers(1), attributes=_DROP
            )  # [n, h]
            pooled = graph.node("Div", total, graph.node("ReduceSum", mask, self._numbers(1), attributes=_DROP))
        graph.node("LpNormalization", pooled, output="pooled", attributes={"axis": -1, "p": 2})

    def _head(self, name: str, states: str) -> tuple[str, tuple[int | str, ...]]:
        """A linear head, always in full precision: on every piece for spans, on the first one else."""
        graph = self._graph
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        source = states if name == "span" else self._first(states)
        product = graph.node("MatMul", source, graph.tensor(_float(weight).T))
        if name == "rank":
            scores = graph.node("Add", product, graph.tensor(_float(bias)))
            graph.node("Squeeze", scores, self._numbers(1), output=name)
            return "float32", ("n",)
        graph.node("Add", product, graph.tensor(_float(bias)), output=name)
        return "float32", (("n", "p", 2) if name == "span" else ("n", len(bias)))

    def _first(self, states: str) -> str:
        return self._graph.node("Gather", states, self._numbers(0, scalar=True), attributes={"axis": 1})

    def _norm(self, states: str, name: str) -> str:
        weight, bias = (self._graph.tensor(_float(self._tensors[f"{name}.{part}"])) for part in ("weight", "bias"))
        return self._graph.node(
            "LayerNormalization", states, weight, bias, attributes={"axis": -1, "epsilon": self._shape.epsilon}
        )

    def _rows(self, name: str, places: str) -> str:
        """Rows of an embedding; of 16 bits, unless everything is to be exact: they make up half of the file."""
        table = self._tensors[name]
        if self._precision == "fp32":
            return self._graph.node("Gather", self._graph.tensor(_float(table)), places)
        rows = self._graph.node("Gather", self._graph.tensor(table.astype(np.float16)), places)
        return self._graph.node("Cast", rows, attributes=_TO_FLOAT)

    def _linear(self, states: str, name: str) -> str:
        graph = self._graph
        weight, bias = _float(self._tensors[f"{name}.weight"]), graph.tensor(_float(self._tensors[f"{name}.bias"]))
        rows, columns = weight.shape
        # values stay exact: a twelfth of the work, half of the error
        packs = columns % _BLOCK == 0 and not name.endswith("value")
        if self._precision == "nb8" and packs:
            packed, scales = _quantised(weight.reshape(rows, -1, _BLOCK))
            holds = graph.tensor((packed + 128).astype(np.uint8)), graph.tensor(scales[:, :, 0]), "", "", bias
            size = {"K": columns, "N": rows}
            how = {"bits": 8, "block_size": _BLOCK, "accuracy_level": _NEARLY}
            return graph.node("MatMulNBits", states, *holds, domain=MICROSOFT, attributes=size | how)
        if self._precision == "int8":
            packed, scales = _quantised(weight)
            holds = _int8(packed).T, scales[:, 0], np.zeros(rows, np.int8)  # [in, out], [out], [out]
            return graph.node("DynamicQuantizeMatMul", states, *map(graph.tensor, holds), bias, domain=MICROSOFT)
        return graph.node("Add", graph.node("MatMul", states, graph.tensor(weight.T)), bias)

    def _numbers(self, value: int, *, scalar: bool = False) -> str:
        return self._graph.tensor(np.array(value if scalar else [value], np.int64))


def _quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Whole numbers from -127 to 127, and what one of them is worth along the last axis, [..., 1]."""
    scales = np.maximum(np.abs(weight).max(axis=-1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    return np.asarray(np.round(weight / scales), np.float32), scales


def _int8(array: NDArray[np.float32]) -> NDArray[np.int8]:
    return array.astype(np.int8)


def _float(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
