"""Each family against transformers' own model of it, on tiny random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.load import Loaded, load
from loam.engine.rows import Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import PER_FAMILY, make

FAMILIES = sorted(PER_FAMILY)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def both(folder: Path) -> tuple[Loaded, Any]:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return load(folder), theirs.eval()


def texts(seed: int = 0, batch: int = 2, time: int = 90) -> torch.Tensor:
    return torch.randint(0, 512, (batch, time), generator=torch.Generator().manual_seed(seed))


def in_chunks(model: Transformer, tokens: torch.Tensor, edges: list[int]) -> torch.Tensor:
    """Logits (batch, time, vocabulary) of the cached form, each text read in chunks between `edges`."""
    batch, time = tokens.shape
    each = -(-time // PAGE)
    cache = PagedCache(model.architecture, batch * each)
    order = torch.randperm(batch * each, generator=torch.Generator().manual_seed(1)).view(batch, each).tolist()
    said: list[torch.Tensor] = []
    for low, high in zip([0, *edges], [*edges, time], strict=True):
        spans = tuple(Span(tuple(order[i]), low, high - low) for i in range(batch))
        rows = Rows(tuple(tokens[:, low:high].flatten().tolist()), spans, tuple(range(batch * (high - low))))
        said.append(model.step(rows, cache).view(batch, high - low, -1))
    return torch.cat(said, dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_transformers(family: str, shelf: Path) -> None:
    ours, theirs = both(make(shelf / family, family))
    tokens = texts()
    with torch.no_grad():
        expected, whole = theirs(tokens).logits, ours.model(tokens)
    cached = in_chunks(ours.model, tokens, [1, 40, 41])
    assert expected.std() > 0.3  # a model that says something
    assert (whole - expected).abs().max() <= 1e-4
    assert (cached - expected).abs().max() <= 1e-4


def greedy(model: Transformer, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """The likeliest token, `count` times, over the cache; and its logprob."""
    each = -(-(len(prompt) + count) // PAGE)
    cache, pages = PagedCache(model.architecture, each), tuple(range(each))
    rows = Rows(tuple(prompt), (Span(pages, 0, len(prompt)),), (len(prompt) - 1,))
    tokens: list[int] = []
    logprobs: list[float] = []
    for place in range(len(prompt), len(prompt) + count):
        said = model.step(rows, cache)[0].log_softmax(-1)
        tokens.append(int(said.argmax()))
        logprobs.append(float(said.max()))
        rows = Rows((tokens[-1],), (Span(pages, place, 1),), (0,))
    return tokens, logprobs


QUICK = ("gemma3_text", "gpt2", "llama")


@pytest.mark.parametrize(
    "family", [family if family in QUICK else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]
)
def test_256_greedy_tokens_and_their_logprobs_are_transformers(family: str, shelf: Path) -> None:
    # Untied: a random model whose head is its embedding says the same word again and again.
    ours, theirs = both(make(shelf / f"{family}-untied", family, tied=False))
    prompt = texts(seed=3, batch=1, time=23)
    theirs.generation_config.eos_token_id = None
    settings = transformers.GenerationConfig(
        max_new_tokens=256,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        said = theirs.generate(prompt, settings)
    tokens, logprobs = greedy(ours.model, prompt[0].tolist(), 256)
    assert tokens == said.sequences[0, 23:].tolist()
    assert len(set(tokens)) > 4  # it does not only repeat itself
    expected = [float(logits[0].log_softmax(-1).max()) for logits in said.logits]
    assert max(abs(a - b) for a, b in zip(logprobs, expected, strict=True)) <= 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_form_without_a_cache_is_the_cached_one_in_any_chunks(family: str, shelf: Path) -> None:
    model = load(make(shelf / family, family)).model
    tokens = texts(seed=7, batch=3, time=130)
    whole = model(tokens)
    for edges in ([], [1], [31, 32, 33], [64, 128], list(range(100, 130))):
        assert (in_chunks(model, tokens, edges) - whole).abs().max() <= 1e-4


def test_sequences_of_many_lengths_share_a_step(shelf: Path) -> None:
    """Decoding, a prompt's first chunk and a prompt's second one, in one step: each as if alone."""
    model = load(make(shelf / "mistral", "mistral")).model
    tokens = texts(seed=9, batch=5, time=100)
    whole = model(tokens)
    cache, pages = PagedCache(model.architecture, 20), [tuple(range(i, 20, 5)) for i in range(5)]
    starts, counts = [0, 1, 33, 60, 99], [40, 1, 30, 1, 1]

    def read(at: list[int], many: list[int]) -> torch.Tensor:
        spans = tuple(Span(pages[i], at[i], many[i]) for i in range(5) if many[i])
        flat = [t for i in range(5) for t in tokens[i, at[i] : at[i] + many[i]].tolist()]
        return model.step(Rows(tuple(flat), spans, tuple(range(len(flat)))), cache)

    read([0] * 5, starts)
    said = read(starts, counts)
    expected = torch.cat([whole[i, starts[i] : starts[i] + counts[i]] for i in range(5)])
    assert (said - expected).abs().max() <= 1e-4


def test_only_wanted_rows_are_answered(shelf: Path) -> None:
    model = load(make(shelf / "llama")).model
    tokens = tuple(texts(time=40)[0].tolist())
    span = Span((0, 1), 0, 40)
    every = model.step(Rows(tokens, (span,), tuple(range(40))), PagedCache(model.architecture, 2))
    some = model.step(Rows(tokens, (span,), (39, 3)), PagedCache(model.architecture, 2))
    assert (some - every[[39, 3]]).abs().max() <= 1e-5
    none = model.step(Rows(tokens, (span,), ()), PagedCache(model.architecture, 2))
    assert none.shape == (0, 512)
