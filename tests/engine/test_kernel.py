"""The compiled kernel against plain torch, on every level of CPU that this machine can run, and against itself."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loam.engine import kernel
from loam.engine.kernel import binding, build, weights
from loam.engine.kernel.binding import Kind
from loam.engine.kernel.run import Compiled
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.load import load
from loam.engine.memory import Weights
from loam.engine.quantize import Int8Linear
from loam.engine.rows import Forward, Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import make

COVERED = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "granite",
)
REFUSED = {"gpt2": "mean", "phi": "mean", "gpt_neox": "mean", "stablelm": "mean", "starcoder2": "mean"}
PAGES = 16


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


def usable() -> list[build.Level]:
    has = build.features()
    return [level for level in build.LEVELS if level.needs <= has]


def of_family(made: Path, family: str, **sizes: int) -> Transformer:
    name = family + "".join(f"-{key}{value}" for key, value in sizes.items())
    return load(make(made / name, family, **sizes), weights="fp32").model


def compiled(model: Transformer, built: Path, *, threads: int = 1, kind: Kind = "fp32") -> Compiled:
    made = kernel.compiled(model, threads=threads, weights=kind, cache=built)
    assert made is not None
    return made


def text(length: int, seed: int = 0, vocabulary: int = 512) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(vocabulary) for _ in range(length))


def read(
    forward: Forward, tokens: tuple[int, ...], cuts: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Logits of every position (time, vocabulary), the text handed over in pieces of `cuts` tokens."""
    cache, at, parts = PagedCache(forward.architecture, PAGES, dtype=dtype), 0, list[Tensor]()
    pages = (7, 2, 11, 0, 5)
    for count in cuts:
        rows = Rows(tokens[at : at + count], (Span(pages, at, count),), tuple(range(count)))
        parts.append(forward.step(rows, cache))
        at += count
    return torch.cat(parts)


@pytest.mark.parametrize("family", COVERED)
def test_each_family_gives_torchs_logits(family: str, made: Path, built: Path) -> None:
    model = of_family(made, family)
    tokens = text(90)
    want = model(torch.tensor(tokens)[None])[0]
    got = read(compiled(model, built, threads=2), tokens, (50, 1, 9, 30))
    assert (got - want).abs().max() < 1e-4


@pytest.mark.parametrize("family", REFUSED)
def test_other_families_are_refused_with_the_reason(family: str, made: Path, built: Path) -> None:
    told = list[str]()
    assert kernel.compiled(of_family(made, family), threads=1, cache=built, tell=told.append) is None
    assert REFUSED[family] in told[0]


@pytest.mark.slow  # three more builds
@pytest.mark.parametrize("level", usable(), ids=lambda level: level.name)
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_each_level_of_cpu_gives_the_same(level: build.Level, kind: Kind, made: Path, built: Path) -> None:
    model = of_family(made, "llama")
    best = compiled(model, built, kind=kind)
    library = binding.open_library(build.build(cache=built, level=level))
    other = Compiled(library, model, weights.weights_of(model), threads=1, kind=kind)
    tokens = text(70)
    close = {"fp32": 1e-4, "bf16": 1e-4, "int8": 0.1}[kind]  # a rounding at its edge moves an int8 activation by one
    assert (read(best, tokens, (70,)) - read(other, tokens, (70,))).abs().max() < close


def quantized_twin(model: Transformer) -> Transformer:
    """The same model computed as the kernel means int8: weights by output, activations by row, to whole numbers."""

    def whole(x: Tensor) -> Tensor:
        scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
        return (x / scale).round() * scale

    def linear(layer: torch.nn.Linear, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (whole(inputs[0]),)

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight = torch.nn.Parameter(whole(layer.weight))
            layer.register_forward_pre_hook(linear)
    return model


def test_int8_is_what_its_twin_computes(made: Path, built: Path) -> None:
    model = of_family(made, "llama", layers=1, width=128, hidden=256)
    tokens = text(80)
    got = read(compiled(model, built, kind="int8"), tokens, (80,))
    exact = model(torch.tensor(tokens)[None])[0]
    twin = quantized_twin(model)(torch.tensor(tokens)[None])[0]
    # Where no number stood on the border of two whole ones the rows are the same; where one did, it moved by one.
    off = (got - twin).abs().amax(-1)
    assert (off < 1e-4).sum() >= 20
    assert off.max() < 0.1
    assert ((got - exact).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_the_cache_may_be_of_half_precision(dtype: torch.dtype, close: float, made: Path, built: Path) -> None:
    model = of_family(made, "llama")
    tokens = text(75)
    want = model(torch.tensor(tokens)[None])[0]
    got = read(compiled(model, built), tokens, (75,), dtype)
    assert (got - want).abs().max() < close
    cache = PagedCache(model.architecture, PAGES, dtype=dtype)
    rows = Rows(tokens[:40], (Span((3, 9), 0, 40),), (39,))
    compiled(model, built).step(rows, cache)
    exact = PagedCache(model.architecture, PAGES)
    compiled(model, built).step(rows, exact)
    # the first layer's; later ones have read rounded numbers
    assert torch.equal(cache.keys[0], exact.keys[0].to(dtype))
    assert torch.equal(cache.values[0], exact.values[0].to(dtype))


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_no_bit_depends_on_batch_cuts_or_threads(kind: Kind, family: str, made: Path, built: Path) -> None:
    model = of_family(made, family)
    draw = random.Random(7)
    lengths = [draw.randrange(20, 100) for _ in range(6)]
    texts = [text(length, seed) for seed, length in enumerate(lengths)]
    alone = [read(compiled(model, built, kind=kind), one, (len(one),), torch.float16) for one in texts]
    for threads in (1, 2):
        forward = compiled(model, built, threads=threads, kind=kind)
        for one, want in zip(in_batches(forward, texts, draw), alone, strict=True):
            assert torch.equal(one, want)


def in_batches(forward: Forward, texts: list[tuple[int, ...]], draw: random.Random) -> list[Tensor]:
    """Logits of every position of every text, read in random pieces, all texts in each step."""
    cache = PagedCache(forward.architecture, 4 * len(texts), dtype=torch.float16)
    free = draw.sample(range(4 * len(texts)), 4 * len(texts))
    pages = [tuple(free[4 * i : 4 * i + 4]) for i in range(len(texts))]
    done, out = [0] * len(texts), [list[Tensor]() for _ in texts]
    while any(at < len(one) for at, one in zip(done, texts, strict=True)):
        going = [i for i, one in enumerate(texts) if done[i] < len(one)]
        draw.shuffle(going)
        counts = [min(draw.choice((1, 1, 2, 5, 40)), len(texts[i]) - done[i]) for i in going]
        tokens = tuple(t for i, n in zip(going, counts, strict=True) for t in texts[i][done[i] : done[i] + n])
        spans = tuple(Span(pages[i], done[i], n) for i, n in zip(going, counts, strict=True))
        logits = forward.step(Rows(tokens, spans, tuple(range(len(tokens)))), cache)
        for i, part in zip(going, logits.split(counts), strict=True):
            out[i].append(part)
            done[i] += len(part)
    return [torch.cat(parts) for parts in out]


def test_greedy_text_is_torchs(made: Path, built: Path) -> None:
    model = of_family(made, "llama")

    def written(forward: Forward) -> list[int]:
        cache, pages = PagedCache(model.architecture, PAGES), tuple(range(10))
        tokens, at, out = text(20), 0, list[int]()
        for _ in range(10 * PAGE - 20):
            rows = Rows(tokens, (Span(pages, at, len(tokens)),), (len(tokens) - 1,))
            at += len(tokens)
            out.append(int(forward.step(rows, cache)[0].argmax()))
            tokens = (out[-1],)
        return out

    assert written(compiled(model, built, threads=2)) == written(model)


@pytest.mark.parametrize("stored", ["int8", "int8_dynamic"])
def test_int8_layers_are_taken_as_they_are(stored: Weights, made: Path, built: Path) -> None:
    folder = make(made / "llama", "llama")
    model, tokens = load(folder, weights=stored).model, text(60)
    layer = model.layers[0].mlp.down_proj
    assert isinstance(layer, Int8Linear)
    plain = load(folder, weights="fp32").model  # the same numbers in fp32, for a twin without bf16's rounding
    for name, one in model.named_modules():
        if isinstance(one, Int8Linear):
            plain.get_submodule(name).weight = torch.nn.Parameter(one.weight())
        elif isinstance(getattr(one, "weight", None), Tensor):
            plain.get_submodule(name).weight = torch.nn.Parameter(one.weight.float())
    assert torch.equal(
        read(compiled(model, built, kind="int8"), tokens, (60,)).argmax(-1),
        read(compiled(plain, built, kind="int8"), tokens, (60,)).argmax(-1),
    )
    exact = plain(torch.tensor(tokens)[None])[0]
    assert (read(compiled(model, built, kind="fp32"), tokens, (60,)) - exact).abs().max() < 1e-4


def test_int4_stays_with_torch(made: Path, built: Path) -> None:
    told = list[str]()
    model = load(make(made / "llama", "llama"), weights="int4").model
    assert kernel.compiled(model, threads=1, cache=built, tell=told.append) is None
    assert "int4" in told[0]


def test_only_wanted_rows_come_back(made: Path, built: Path) -> None:
    model = of_family(made, "llama")
    forward, tokens = compiled(model, built), text(40)
    everything = read(forward, tokens, (40,))
    cache = PagedCache(model.architecture, PAGES)
    some = forward.step(Rows(tokens, (Span((1, 2), 0, 40),), (39, 3)), cache)
    assert torch.equal(some, everything[[39, 3]])
    none = forward.step(Rows(tokens, (Span((1, 2), 0, 40),), ()), cache)
    assert none.shape == (0, 512)
    assert forward.step(Rows((), (), ()), cache).shape == (0, 512)


def test_what_lies_outside_is_refused(made: Path, built: Path) -> None:
    model = of_family(made, "llama")
    forward, cache = compiled(model, built), PagedCache(model.architecture, 2)
    for tokens, pages in (((512,), (0,)), ((-1,), (0,)), ((1,), (2,)), ((1,), (-1,))):
        with pytest.raises(ValueError, match="outside"):
            forward.step(Rows(tokens, (Span(pages, 0, 1),), (0,)), cache)
    with pytest.raises(ValueError, match="pages"):
        forward.step(Rows((1,), (Span((0,), PAGE, 1),), (0,)), cache)
