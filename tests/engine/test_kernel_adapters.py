"""Low-rank adapters in the compiled kernel: against plain torch, which adds them layer by layer, and against itself."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from loam.core.errors import EngineError
from loam.engine import kernel
from loam.engine.adapters import Adapter, LowRank, read_adapter
from loam.engine.kernel import binding, build
from loam.engine.kernel.binding import Kind
from loam.engine.kernel.run import Compiled
from loam.engine.kernel.weights import weights_of
from loam.engine.kvcache import PagedCache
from loam.engine.load import load
from loam.engine.memory import Weights
from loam.engine.opening import open_model
from loam.engine.protocol import Order
from loam.engine.rows import Forward, Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import make
from tests.engine.test_adapters import TARGETS, write_adapter
from tests.engine.test_kernel import COVERED, text, usable

EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks for it
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp().parent / "loam-kernels"  # one run's library serves the next


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def opened(made: Path, family: str = "llama", weights: Weights = "fp32") -> Transformer:
    return load(make(made / family, family), weights=weights).model


def compiled(model: Transformer, built: Path, *, threads: int = 1, kind: Kind = "fp32") -> Compiled:
    made = kernel.compiled(model, threads=threads, weights=kind, cache=built)
    assert made is not None
    return made


def give(model: Transformer, name: str, rank: int, targets: tuple[str, ...] = EVERY, strength: float = 0.5) -> None:
    """An adapter on every layer whose name ends so."""
    draw, like = torch.Generator().manual_seed(rank + len(name)), model.embed_tokens.weight
    layers: dict[nn.Module, LowRank] = {}
    for path, layer in model.named_modules():
        if path.startswith("layers.") and path.rpartition(".")[2] in targets:
            outs, ins = cast(int, layer.out_features), cast(int, layer.in_features)
            down = torch.randn(rank, ins, generator=draw) / ins**0.5
            up = torch.randn(outs, rank, generator=draw) * strength / rank**0.5
            layers[layer] = LowRank(down.to(like.dtype), up.to(like.dtype))
    model.adapters[name] = Adapter(name, layers)


def said(forward: Forward, tokens: tuple[int, ...], adapters: tuple[str, ...], cuts: tuple[int, ...]) -> list[Tensor]:
    """Logits of every position (time, vocabulary) for each adapter, all in each step, the text in pieces of `cuts`."""
    cache, at, parts = PagedCache(forward.architecture, 4 * len(adapters)), 0, list[Tensor]()
    for count in cuts:
        spans = tuple(Span(tuple(range(4 * i, 4 * i + 4)), at, count, name) for i, name in enumerate(adapters))
        rows = Rows(tokens[at : at + count] * len(adapters), spans, tuple(range(count * len(adapters))))
        parts.append(forward.step(rows, cache).view(len(adapters), count, -1))
        at += count
    return list(torch.cat(parts, dim=1))


@pytest.mark.parametrize("family", COVERED)
def test_each_family_says_with_an_adapter_what_torch_says(family: str, made: Path, built: Path) -> None:
    model, tokens = opened(made, family), text(60)
    give(model, "one", 5)
    want = said(model, tokens, ("one", ""), (60,))
    got = said(compiled(model, built, threads=2), tokens, ("one", ""), (40, 1, 2, 17))
    for ours, theirs in zip(got, want, strict=True):
        assert (ours - theirs).abs().max() < 1e-4
    assert (got[0] - got[1]).abs().max() > 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"], "r": 4},
        {"target_modules": ["v_proj", "up_proj"], "r": 3},
        {"target_modules": list(EVERY), "r": 64, "lora_alpha": 16, "use_rslora": True},
        {"target_modules": ["gate_proj"], "r": 1, "layers_to_transform": [1]},
        {
            "target_modules": list(EVERY),
            "r": 2,
            "rank_pattern": {"k_proj": 17, "layers.0.mlp.up_proj": 5},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 32, "down_proj": 3},
        },
    ],
    ids=["queries", "two parts", "rank 64, root", "one layer's gate", "patterns"],
)
def test_pefts_settings_are_torchs(settings: dict[str, Any], made: Path, built: Path, tmp_path: Path) -> None:
    base = make(made / "llama", "llama")
    settings = dict(settings)
    with torch.inference_mode(False):
        write_adapter(base, tmp_path / "one", settings.pop("target_modules"), 1, **settings)
    model, tokens = load(base, weights="fp32").model, text(50)
    model.adapters["one"] = read_adapter("one", tmp_path / "one", model)
    want = said(model, tokens, ("one",), (50,))[0]
    got, plain = said(compiled(model, built), tokens, ("one", ""), (49, 1))
    assert (got - want).abs().max() < 1e-4
    assert (got - plain).abs().max() > 0.01


def test_packed_projections_are_torchs(made: Path, built: Path, tmp_path: Path) -> None:
    base = make(made / "phi3", "phi3")
    with torch.inference_mode(False):
        write_adapter(base, tmp_path / "one", TARGETS["phi3"], 1, r=4)
    model, tokens = load(base, weights="fp32").model, text(50)
    model.adapters["one"] = read_adapter("one", tmp_path / "one", model)
    want = said(model, tokens, ("one",), (50,))[0]
    assert (said(compiled(model, built), tokens, ("one",), (50,))[0] - want).abs().max() < 1e-4


@pytest.mark.parametrize(("kind", "weights"), [("fp32", "fp32"), ("int8", "auto"), ("int8", "int8"), ("bf16", "bf16")])
def test_no_bit_depends_on_who_shares_the_step(kind: Kind, weights: Weights, made: Path, built: Path) -> None:
    model = opened(made, "gemma2", weights)
    bare = [said(compiled(model, built, kind=kind), text(60, seed), ("",), (60,))[0] for seed in range(2)]
    give(model, "small", 2, ("q_proj", "v_proj"))
    give(model, "wide", 40)
    names = ("", "small", "wide", "", "wide", "small")
    texts = [text(60, seed % 2) for seed in range(len(names))]
    alone = [
        said(compiled(model, built, kind=kind), one, (name,), (60,))[0] for one, name in zip(texts, names, strict=True)
    ]
    assert torch.equal(alone[0], bare[0])
    assert torch.equal(alone[3], bare[1])
    for threads in (1, 2, 6):  # six share what two compute twice
        forward, draw = compiled(model, built, threads=threads, kind=kind), random.Random(threads)
        for ours, want in zip(mixed(forward, texts, names, draw), alone, strict=True):
            assert torch.equal(ours, want)


def mixed(
    forward: Forward, texts: list[tuple[int, ...]], names: tuple[str, ...], draw: random.Random
) -> Iterator[Tensor]:
    """Logits of every position of every text, in random company and pieces."""
    cache, done, out = (
        PagedCache(forward.architecture, 2 * len(texts)),
        [0] * len(texts),
        [list[Tensor]() for _ in texts],
    )
    while going := [i for i, one in enumerate(texts) if done[i] < len(one)]:
        going = draw.sample(going, draw.randint(1, len(going)))
        counts = [min(draw.choice((1, 1, 3, 20)), len(texts[i]) - done[i]) for i in going]
        tokens = tuple(t for i, n in zip(going, counts, strict=True) for t in texts[i][done[i] : done[i] + n])
        spans = tuple(Span((2 * i, 2 * i + 1), done[i], n, names[i]) for i, n in zip(going, counts, strict=True))
        logits = forward.step(Rows(tokens, spans, tuple(range(len(tokens)))), cache)
        for i, part in zip(going, logits.split(counts), strict=True):
            out[i].append(part)
            done[i] += len(part)
    return (torch.cat(parts) for parts in out)


@pytest.mark.slow  # three more builds
@pytest.mark.parametrize("level", usable(), ids=lambda level: level.name)
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_each_level_of_cpu_gives_the_same(level: build.Level, kind: Kind, made: Path, built: Path) -> None:
    model, tokens = opened(made, "llama", kind), text(60)
    give(model, "one", 20)
    library = binding.open_library(build.build(cache=built, level=level))
    other = Compiled(library, model, weights_of(model), threads=1, kind=kind)
    best = said(compiled(model, built, kind=kind), tokens, ("one", "", "one"), (60,))
    for ours, theirs in zip(said(other, tokens, ("one", "", "one"), (59, 1)), best, strict=True):
        assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("weights", ["auto", "int8"])
def test_int8_weights_carry_adapters(weights: Weights, made: Path, built: Path) -> None:
    model, tokens = opened(made, "llama", weights), text(60)
    give(model, "one", 8)
    ours, plain = said(compiled(model, built, kind="int8"), tokens, ("one", ""), (60,))
    theirs = said(model, tokens, ("one",), (60,))[0]
    off, changed = (ours - theirs).pow(2).mean().sqrt(), (ours - plain).pow(2).mean().sqrt()
    assert off < 0.1 * changed  # int8's rounding is small beside what the adapter changes


def test_an_adapter_is_the_one_that_is_loaded_now(made: Path, built: Path) -> None:
    model, tokens = opened(made), text(30)
    forward = compiled(model, built)
    with pytest.raises(EngineError, match="no adapter is loaded under the name 'one'"):
        said(forward, tokens, ("one",), (30,))
    give(model, "one", 4, ("q_proj",))
    first = said(forward, tokens, ("one",), (30,))[0]
    give(model, "one", 4)
    second = said(forward, tokens, ("one",), (30,))[0]
    assert (second - said(model, tokens, ("one",), (30,))[0]).abs().max() < 1e-4
    assert (first - second).abs().max() > 0.05
    del model.adapters["one"]
    with pytest.raises(EngineError, match="no adapter"):
        said(forward, tokens, ("one",), (30,))


def test_an_adapter_on_the_head_is_torchs_and_told(made: Path, built: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, tokens = opened(made), text(30)
    give(model, "covered", 4)
    model.adapters["head"] = Adapter("head", {model.lm_head: LowRank(torch.randn(2, 64), torch.randn(512, 2))})
    forward = compiled(model, built)
    alone = said(forward, tokens, ("covered", ""), (30,))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        together = said(forward, tokens, ("covered", "head", ""), (30,))
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[2], alone[1])
    assert (together[1] - said(model, tokens, ("head",), (30,))[0]).abs().max() < 1e-4
    assert "it adapts 1 layers that are no matrix of a block" in caplog.text


def test_the_served_engine_keeps_the_kernel_with_adapters(made: Path, tmp_path: Path) -> None:
    base = make(made / "llama", "llama")
    with torch.inference_mode(False):
        write_adapter(base, tmp_path / "one", ["q_proj"], 1, r=4)
    opened = open_model(Order(name="tiny", path=str(base), batch=1, threads=1, adapters={"one": str(tmp_path / "one")}))
    opened.voice.tokenizer.close()
    assert isinstance(opened.forward, Compiled)
    assert opened.about.kernel.startswith("compiled kernel, int8")
    assert opened.voice.adapters == ("one",)
