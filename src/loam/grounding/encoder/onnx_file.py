"""Writes ONNX files, which are Protocol Buffers, without a library.

Knows the few messages of `onnx.proto` that a graph needs, by their field numbers; knows nothing of models.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10}
_IR = 8
_OPSETS = (("", 17), (MICROSOFT, 1))

Attribute = int | float
Shape = Sequence[int | str]
"""A dimension is a number, or the name of one that is known only when the graph runs."""


class Graph:
    """A graph in the making; nodes run in the order they were added."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._names = 0

    def tensor(self, array: NDArray[Any]) -> str:
        """Adds a constant and gives its name."""
        name = self._name("t")
        dims = b"".join(_number(1, size) for size in array.shape)
        raw = np.ascontiguousarray(array).tobytes()
        self._tensors.append(dims + _number(2, _TYPES[array.dtype.name]) + _text(8, name) + _bytes(9, raw))
        return name

    def node(
        self,
        operator: str,
        *inputs: str,
        domain: str = "",
        output: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> str:
        """Adds a node and gives its output's name; an empty input is one that is left out."""
        output = output or self._name("n")
        parts = [_text(1, name) for name in inputs]
        parts += [_text(2, output), _text(4, operator), _text(7, domain)]
        parts += [_bytes(5, _attribute(name, value)) for name, value in (attributes or {}).items()]
        self._nodes.append(b"".join(parts))
        return output

    def file(self, inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, tuple[str, Shape]]) -> bytes:
        """The whole file; inputs and outputs are given by name as (type, shape)."""
        graph = [_bytes(1, node) for node in self._nodes]
        graph.append(_text(2, "loam"))
        graph += [_bytes(5, tensor) for tensor in self._tensors]
        graph += [_bytes(11, _value(name, *value)) for name, value in inputs.items()]
        graph += [_bytes(12, _value(name, *value)) for name, value in outputs.items()]
        opsets = [_text(1, domain) + _number(2, version) for domain, version in _OPSETS]
        head = [_number(1, _IR), _text(2, "loam"), _bytes(7, b"".join(graph))]
        return b"".join(head + [_bytes(8, opset) for opset in opsets])

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers travel as their two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        held = _number(3, value) + _number(20, 2)
    else:
        held = _varint(2 << 3 | 5) + np.float32(value).tobytes() + _number(20, 1)
    return _text(1, name) + held


def _value(name: str, kind: str, shape: Iterable[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, _TYPES[kind]) + _bytes(2, dims)))
