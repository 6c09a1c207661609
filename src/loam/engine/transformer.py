"""The decoder: tokens in, logits out. One class for all families; what differs stands in `Architecture`.

    tokens -> embed -> block, block, ... -> norm -> head -> logits
    block: x + attention(norm(x)), then x + mlp(norm(x))

Names are those of Llama's checkpoints, so that weights, LoRA adapters and papers meet. A block does not know whether it
works on whole texts or on one step of thirty answers: its `Pass` does (see `passes.py`).
Invariant: `model(tokens)` and `model.step(rows, cache)` are the same function of a sequence.

To look inside, walk it by hand; every piece is a method:

    way = model.whole(tokens)                       # tokens (batch, time)
    x = model.embed(tokens, way)                    # (batch, time, width)
    for block in model.layers:
        q, k, v = block.self_attn.project(block.attn_norm(x), way)
        x = block(x, way)                           # the residual stream after this block
    logits = model.head(x, way)                     # of any x: the logit lens
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as all of torch's world names it
from torch import Tensor, nn

from loam.engine.adapters import Adapter, added_by
from loam.engine.architecture import Architecture, Norm
from loam.engine.exact import Exact, ExactPaged
from loam.engine.kvcache import PagedCache
from loam.engine.passes import Paged, Pass, Tables, Whole
from loam.engine.rope import RotaryTable
from loam.engine.rows import Rows


class Normed(nn.Module):
    """Divide by the size of the vector (Zhang and Sennrich 2019), or by its deviation (Ba et al. 2016), and scale.

    Computed in fp32 whatever the weights are, (..., width) to the same.
    """

    def __init__(self, width: int, kind: Norm, eps: float) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if kind == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        h = x.float()
        if self.bias is not None:
            return F.layer_norm(h, h.shape[-1:], self.weight.float(), self.bias.float(), self.eps).to(x.dtype)
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)
        gain = self.weight.float()
        return (h * (1.0 + gain if self.kind == "rms_plus_one" else gain)).to(x.dtype)


class Attention(nn.Module):
    """Every row asks, and reads a mixture of the values that its sequence holds (Vaswani et al. 2017)."""

    def __init__(self, a: Architecture, layer: int) -> None:
        super().__init__()
        self.architecture, self.layer = a, layer
        self.q_proj = nn.Linear(a.width, a.heads * a.head_width, bias=a.qkv_bias)
        self.k_proj = nn.Linear(a.width, a.kv_heads * a.head_width, bias=a.qkv_bias)
        self.v_proj = nn.Linear(a.width, a.kv_heads * a.head_width, bias=a.qkv_bias)
        self.o_proj = nn.Linear(a.heads * a.head_width, a.width, bias=a.out_bias)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if a.qk_norm != "none":
            whole = a.qk_norm == "width"
            self.q_norm = Normed(a.head_width * (a.heads if whole else 1), a.norm, a.norm_eps)
            self.k_norm = Normed(a.head_width * (a.kv_heads if whole else 1), a.norm, a.norm_eps)

    def project(self, x: Tensor, way: Pass) -> tuple[Tensor, Tensor, Tensor]:
        """Normed x (..., width) to queries (..., heads, head_width) and keys and values (..., kv_heads, head_width).

        Queries and keys are normed where the family does that, and turned to their positions.
        """
        a = self.architecture
        q, k, v = way.linear(self.q_proj, x), way.linear(self.k_proj, x), way.linear(self.v_proj, x)
        if a.qk_norm == "width":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(*q.shape[:-1], a.heads, a.head_width)
        k = k.view(*k.shape[:-1], a.kv_heads, a.head_width)
        v = v.view(*v.shape[:-1], a.kv_heads, a.head_width)
        if a.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        return way.turn(self.layer, q), way.turn(self.layer, k), v

    def forward(self, x: Tensor, way: Pass) -> Tensor:
        q, k, v = self.project(x, way)
        return way.linear(self.o_proj, way.attend(self.layer, q, k, v).flatten(-2))


class MLP(nn.Module):
    """down(activate(gate(x)) * up(x)) (Shazeer 2020), or down(activate(up(x))) where the family has no gate."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(a.width, a.hidden, bias=a.mlp_bias) if a.gated else None
        self.up_proj = nn.Linear(a.width, a.hidden, bias=a.mlp_bias)
        self.down_proj = nn.Linear(a.hidden, a.width, bias=a.mlp_bias)

    def forward(self, x: Tensor, way: Pass) -> Tensor:
        if self.gate_proj is None:
            return way.linear(self.down_proj, way.activate(way.linear(self.up_proj, x)))
        gate = way.activate(way.linear(self.gate_proj, x))
        return way.linear(self.down_proj, gate * way.linear(self.up_proj, x))


class Block(nn.Module):
    """One layer: what attention and then the MLP add to the residual stream x (..., width)."""

    def __init__(self, a: Architecture, layer: int) -> None:
        super().__init__()

        def norm(there: bool) -> nn.Module:
            return Normed(a.width, a.norm, a.norm_eps) if there else nn.Identity()

        self.architecture = a
        self.attn_norm = norm(a.pre_norm)
        self.self_attn = Attention(a, layer)
        self.attn_post_norm = norm(a.post_norm)
        self.mlp_norm = norm(a.pre_norm and not a.shared_norm)
        self.mlp = MLP(a)
        self.mlp_post_norm = norm(a.post_norm)

    def forward(self, x: Tensor, way: Pass) -> Tensor:
        scale = self.architecture.residual_scale
        normed = self.attn_norm(x)
        attended = self.attn_post_norm(self.self_attn(normed, way))
        if self.architecture.parallel:
            return x + attended + self.mlp(normed if self.architecture.shared_norm else self.mlp_norm(x), way)
        x = x + (attended if scale == 1.0 else attended * scale)
        thought = self.mlp_post_norm(self.mlp(self.mlp_norm(x), way))
        return x + (thought if scale == 1.0 else thought * scale)


def _table(rows: int, width: int) -> nn.Embedding:
    """nn.Embedding as it is; but for drawing no numbers on the meta device torch would import 800 modules, 110 MB."""
    weight = torch.empty(rows, width)
    return nn.Embedding(rows, width, _weight=weight if weight.is_meta else nn.init.normal_(weight))


class Transformer(nn.Module):
    """The decoder; a `Forward` (`step`) and a module to train (`model(tokens)`)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self._architecture = architecture
        self.embed_tokens = _table(a.vocabulary, a.width)
        self.embed_positions = _table(a.learned_positions, a.width) if a.learned_positions else None
        self.layers = nn.ModuleList(Block(a, layer) for layer in range(a.layers))
        self.norm = Normed(a.width, a.norm, a.norm_eps)
        self.lm_head = nn.Linear(a.width, a.vocabulary, bias=a.head_bias)
        if a.tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.tables: Tables = {}
        if a.rope:
            self.tables["rope"] = RotaryTable(a.rope, a.context)
        if a.local_rope:
            self.tables["local_rope"] = RotaryTable(a.local_rope, a.context)
        self.adapters: dict[str, Adapter] = {}
        """By the name that a `Span` says."""
        self.exact: Exact | None = None
        """Set it to `Exact()`, and `step` gives a row the same bits in every batch, chunking and number of threads."""

    @property
    def architecture(self) -> Architecture:
        return self._architecture

    @property
    def uniform(self) -> bool:
        """Prompts and answers go through the same arithmetic; with `exact` they give the same bits."""
        return True

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, time, vocabulary) of whole texts (batch, time), without a cache; differentiable."""
        way = self.whole(tokens)
        x = self.embed(tokens, way)
        for block in self.layers:
            x = block(x, way)
        return self.head(x, way)

    @torch.inference_mode()
    def step(self, rows: Rows, cache: PagedCache) -> Tensor:
        """Logits (wanted, vocabulary) in fp32 of one step of many sequences; see `rows.Forward`."""
        way = self.paged(rows, cache)
        device = self.embed_tokens.weight.device
        x = self.embed(torch.tensor(rows.tokens, device=device), way)  # (rows, width)
        for block in self.layers:
            x = block(x, way)
        return self.head(x[torch.tensor(rows.wanted, dtype=torch.long, device=device)], way)

    def whole(self, tokens: Tensor) -> Whole:
        """The pass over whole texts."""
        return Whole(self.architecture, self.tables, tokens)

    def paged(self, rows: Rows, cache: PagedCache) -> Paged:
        """The pass of one step over the cache."""
        added = added_by(self.adapters, rows, cache.keys.device)
        if self.exact is not None:
            return ExactPaged(self.architecture, self.tables, rows, cache, added, self.exact)
        return Paged(self.architecture, self.tables, rows, cache, added)

    def embed(self, tokens: Tensor, way: Pass) -> Tensor:
        """Tokens (...) to the residual stream's beginning (..., width)."""
        x = self.embed_tokens(tokens)
        if self.embed_positions is not None:
            x = x + self.embed_positions(way.positions)
        scale = self.architecture.embedding_scale
        return x if scale == 1.0 else x * torch.tensor(scale, dtype=x.dtype)  # Gemma rounds it to the weights' type

    def head(self, x: Tensor, way: Pass) -> Tensor:
        """The residual stream (..., width), after any block, to logits (..., vocabulary) in fp32."""
        a = self.architecture
        logits = way.linear(self.lm_head, self.norm(x)).float()
        if a.logit_scale != 1.0:
            logits = logits * a.logit_scale
        return logits if a.logit_softcap is None else a.logit_softcap * torch.tanh(logits / a.logit_softcap)
