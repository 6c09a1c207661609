"""Linear layers with fewer bits a weight: int8 by row, int8 with int8 activations, int4 by groups.

Each is nn.Linear's twin in what it takes and gives; activations stay bf16. Invariant: `weight()` is the matrix that the
layer computes with, so each fast product can be held against F.linear of it.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from torch import Tensor, nn

from loam.engine.memory import Weights

GROUP = 32
"""Inputs that share a scale in int4."""
_AT_ONCE = 1 << 20
"""Weights that are quantised together."""
FEW = 16
"""Up to so many rows the packed product is faster than one over weights that are unpacked first."""


class Int8Linear(nn.Module):
    """Weights (out, in) in int8 with a scale for each row; activations as they come."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scale = torch.empty(self.out_features, device=weight.device)
        packed = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        step = max(1, _AT_ONCE // max(1, self.in_features))
        for first in range(0, self.out_features, step):  # so that little of the matrix is in fp32 at a time
            rows = slice(first, first + step)
            wide = weight[rows].float()
            scale[rows] = (wide.abs().amax(dim=1) / 127).clamp_min(1e-30)
            packed[rows] = (wide / scale[rows, None]).round_().clamp_(-127, 127).to(torch.int8)
        self.packed: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16))

    def weight(self) -> Tensor:
        """(out, in), bf16 scales on whole numbers, in fp32."""
        return self.packed.float() * self.scale.float()[:, None]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(torch.bfloat16).flatten(0, -2)
        if rows.shape[0] <= FEW and rows.device.type == "cpu":
            y = torch.ops.aten._weight_int8pack_mm(rows.contiguous(), self.packed, self.scale)
        else:
            y = F.linear(rows, self.packed.to(torch.bfloat16)) * self.scale  # the scale is the output column's
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], -1).to(x.dtype)


class Int8DynamicLinear(Int8Linear):
    """Activations in int8 too, with a scale for each row: the product is one of whole numbers, and exact."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().flatten(0, -2)
        by = (rows.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-30)
        whole = (rows / by).round_().clamp_(-127, 127).to(torch.int8)
        if rows.device.type == "cuda" and rows.shape[0] <= FEW:  # its kernel wants more than 16 rows
            whole = F.pad(whole, (0, 0, 0, FEW + 1))
        y = torch.ops.aten._int_mm(whole, self.packed.t())[: rows.shape[0]].float() * by * self.scale.float()
        y = y if self.bias is None else y + self.bias.float()
        return y.view(*x.shape[:-1], -1).to(x.dtype)


class Int4Linear(nn.Module):
    """Weights in 4 bits; each GROUP inputs of a row share a scale and a zero."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        groups = weight.float().view(self.out_features, -1, GROUP)
        low, high = groups.amin(dim=2), groups.amax(dim=2)
        scale = ((high - low) / 15).clamp_min(1e-8).to(torch.bfloat16).float()
        zero = (low + 8 * scale).to(torch.bfloat16).float()  # what the nibble 8 stands for
        nibbles = ((groups - zero[..., None]) / scale[..., None] + 8).round_().clamp_(0, 15)
        nibbles = nibbles.view(self.out_features, -1).to(torch.int32)
        self.packed: Tensor
        self.pairs: Tensor
        self.bias: Tensor | None
        self._blocked = weight.device.type == "cpu"  # torch's CPU product wants its own order of the nibbles
        if self._blocked:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles, 1)
        else:
            packed = (nibbles[:, ::2] | (nibbles[:, 1::2] << 4)).to(torch.uint8)
        self.register_buffer("packed", packed)
        # (in / GROUP, out, 2): scale and zero, as torch's product wants them
        self.register_buffer("pairs", torch.stack((scale, zero), dim=2).transpose(0, 1).contiguous().to(torch.bfloat16))
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16))

    @staticmethod
    def fits(outs: int, ins: int) -> bool:
        """Whether a layer's sizes can be grouped and packed."""
        return ins % GROUP == 0 and outs % 16 == 0

    def weight(self) -> Tensor:
        """(out, in), fp32. Where torch keeps the order of the nibbles to itself, by asking for the product with one."""
        if self._blocked:
            return self._product(torch.eye(self.in_features, dtype=torch.bfloat16)).float().T
        nibbles = torch.stack((self.packed & 15, self.packed >> 4), dim=2).view(self.out_features, -1, GROUP)
        scale, zero = self.pairs[..., 0].T.float(), self.pairs[..., 1].T.float()
        return ((nibbles.float() - 8) * scale[..., None] + zero[..., None]).view(self.out_features, -1)

    def _product(self, rows: Tensor) -> Tensor:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(rows.contiguous(), self.packed, GROUP, self.pairs)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(torch.bfloat16).flatten(0, -2)
        y = self._product(rows) if self._blocked else F.linear(rows, self.weight().to(torch.bfloat16))
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], -1).to(x.dtype)


def quantised(weight: Tensor, bias: Tensor | None, weights: Weights) -> nn.Module:
    """The twin of nn.Linear with this weight (out, in). In int4, a layer whose sizes do not fit is int8."""
    if weights == "int4" and Int4Linear.fits(*weight.shape):
        return Int4Linear(weight, bias)
    return Int8DynamicLinear(weight, bias) if weights == "int8_dynamic" else Int8Linear(weight, bias)
