"""The glass box shows the engine's own numbers: its logits, its draw, its attention; and transformers sees the same."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import convert, json, msgpack, structs
from transformers import AutoModelForCausalLM

from loam.core.calls import Principal
from loam.core.errors import ModelFailure
from loam.core.operations import Asked
from loam.engine.adapters import Adapter, LowRank
from loam.engine.asks import Ask, Draw, Said
from loam.engine.engine import Engine
from loam.engine.exact import Exact
from loam.engine.inspection import Inspection, Wish, operations
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.load import Loaded, load
from loam.engine.memory import Weights
from loam.engine.opening import open_model
from loam.engine.protocol import Order
from loam.engine.rows import Rows, Span
from loam.engine.tokenizer import Tokenizer
from loam.engine.trace import Subject, inspect
from loam.engine.trace_layers import Seen, look
from loam.engine.trace_opened import inspect_opened, question
from tests.engine.checkpoints import make

PROMPT = "the cat sat on the"


def subject_of(folder: Path, **changed: Any) -> Subject:
    loaded = load(folder)
    told = {
        "forward": loaded.model,
        "model": loaded.model,
        "words": Tokenizer.open(folder),
        "cache_type": torch.float32,
    }
    return Subject(**told | changed)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("llama"), "llama")


def reference(folder: Path, tokens: list[int]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([tokens]), output_attentions=True, output_hidden_states=True, use_cache=False)


def seen_of(loaded: Loaded, tokens: list[int]) -> tuple[torch.Tensor, list[Seen]]:
    """What the layers show of a text of which the last token is written, the others read."""
    cache = PagedCache(loaded.architecture, -(-len(tokens) // PAGE))
    pages = tuple(range(cache.pages))
    before = len(tokens) - 1
    first = Rows(tuple(tokens[:-1]), (Span(pages, 0, before, prompt=True),), (before - 1,))
    loaded.model.step(first, cache)
    return look(loaded.model, Rows((tokens[-1],), (Span(pages, before, 1),), (0,)), cache)


FAMILIES = ("llama", "mistral", "qwen3", "gemma2", "gpt2", "gpt_neox", "granite")


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_that_transformers_sees(family: str, tmp_path: Path) -> None:
    folder = make(tmp_path, family)
    loaded = load(folder)
    tokens = [int(token) for token in torch.randint(5, 500, (45,), generator=torch.manual_seed(3))]
    logits, seen = seen_of(loaded, tokens)
    expected = reference(folder, tokens)
    assert torch.allclose(logits, expected.logits[0, -1], atol=1e-4)
    for number, (one, attention) in enumerate(zip(seen, expected.attentions, strict=True)):
        assert torch.allclose(one.weights.sum(-1), torch.ones(4), atol=1e-6)
        assert torch.allclose(one.weights, attention[0, :, -1], atol=1e-5), number
        assert torch.allclose(one.entering, expected.hidden_states[number][0, -1], atol=1e-3)
    for one, after in zip(seen[:-1], expected.hidden_states[1:-1], strict=True):
        assert torch.allclose(one.leaving, after[0, -1], atol=1e-3)
    assert torch.equal(seen[-1].logits, logits)  # the last layer's lens is the model itself


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite", "gemma2", "gpt_neox"])
def test_what_the_heads_write_is_what_attention_adds(family: str, tmp_path: Path) -> None:
    loaded = load(make(tmp_path, family))
    added: list[torch.Tensor] = []
    for block in loaded.model.layers:  # an honest listener: what the block itself adds to the stream
        block.attn_post_norm.register_forward_hook(lambda _module, _args, out: added.append(out[-1]))
    tokens = list(range(10, 30))
    _, seen = seen_of(loaded, tokens)
    del added[: len(seen)]  # of the prompt's step
    scale = loaded.architecture.residual_scale
    assert len(added) == 2 * len(seen)  # the block's own, then the one that `look` works out anew
    for one, block, own in zip(seen, loaded.model.layers, added[::2], strict=True):
        assert torch.allclose(one.attended, own * scale, atol=1e-5)
        if not loaded.architecture.post_norm:
            bias = block.self_attn.o_proj.bias
            whole = one.written.sum(0) + (0 if bias is None else bias * scale)
            assert torch.allclose(whole, own * scale, atol=1e-4)


def test_traced_logits_are_those_of_the_forward_bit_by_bit(llama: Path) -> None:
    loaded, tokens = load(llama), [7, 8, 9, 10, 11, 12]
    logits, _ = seen_of(loaded, tokens)
    cache = PagedCache(loaded.architecture, 1)
    loaded.model.step(Rows((*tokens[:-1],), (Span((0,), 0, 5, prompt=True),), (4,)), cache)
    assert torch.equal(logits, loaded.model.step(Rows((12,), (Span((0,), 5, 1),), (0,)), cache)[0])
    twin = loaded.model(torch.tensor([tokens]))[0, -1]
    assert torch.allclose(logits, twin, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 0.9, "seed": 4},
        {"temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "seed": 11},
        {"temperature": 1.0, "repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.2, "seed": 5},
    ],
    ids=",".join,
)
@pytest.mark.parametrize("layers", [False, True])
def test_the_tokens_are_those_that_the_engine_writes(llama: Path, settings: dict[str, Any], layers: bool) -> None:
    subject = subject_of(llama)
    wish = Wish(prompt=PROMPT, steps=12, layers=layers, **settings)
    found = inspect(subject, wish)
    assert any(step.moved for step in found.steps) == ("repetition_penalty" in settings)
    prompt = tuple(piece.id for piece in found.prompt)
    ask = Ask(id="a", prompt=prompt, max_tokens=12, draw=wish.draw, logprobs=3)
    alone = said_of(subject, ask)
    assert [one.token for one in alone] == [step.drawn.token.id for step in found.steps]
    assert [one.logprob for one in alone] == [step.drawn.logprob for step in found.steps]  # bit by bit
    for one, step in zip(alone, found.steps, strict=True):
        plain = {candidate.token.id: candidate.probability for candidate in step.candidates}
        for likely in one.top:
            if likely.token in plain:
                assert math.log(plain[likely.token]) == pytest.approx(likely.logprob, abs=1e-9)
    others = (Ask(id=name, prompt=prompt[:2], max_tokens=9, draw=Draw(seed=9)) for name in "bc")
    in_company = said_of(subject, ask, *others)
    assert [one.token for one in in_company] == [one.token for one in alone]


def test_with_the_exact_forward_the_same_bits_are_shown_in_any_company(llama: Path) -> None:
    subject = subject_of(llama)
    subject.model.exact = Exact()
    wish = Wish(prompt=PROMPT, steps=6, layers=True, seed=3)
    found = inspect(subject, wish)
    prompt = tuple(piece.id for piece in found.prompt)
    others = (Ask(id=name, prompt=prompt[:3], max_tokens=9, draw=Draw(seed=9)) for name in "bc")
    said = said_of(subject, Ask(id="a", prompt=prompt, max_tokens=6, draw=wish.draw, logprobs=0), *others)
    assert [one.logprob for one in said] == [step.drawn.logprob for step in found.steps]
    for step in found.steps:
        assert math.log(step.layers[-1].drawn_probability) == pytest.approx(step.drawn.logprob, abs=1e-12)


def test_an_adapter_is_looked_into_as_if_it_were_merged(llama: Path) -> None:
    subject, merged = subject_of(llama), subject_of(llama)
    torch.manual_seed(2)
    low_ranks: dict[torch.nn.Module, LowRank] = {}
    for ours, theirs in zip(subject.model.layers, merged.model.layers, strict=True):
        for name in ("q_proj", "o_proj"):
            layer = getattr(ours.self_attn, name)
            low_ranks[layer] = LowRank(torch.randn(4, 64) / 4, torch.randn(64, 4) / 4)
            getattr(theirs.self_attn, name).weight.data += low_ranks[layer].up @ low_ranks[layer].down
    subject.model.adapters["mine"] = Adapter("mine", low_ranks)
    wish = Wish(prompt=PROMPT, steps=3, layers=True, looks=2, adapter="mine")
    found = inspect(subject, wish)
    plain = inspect(subject, structs.replace(wish, adapter=""))
    expected = inspect(merged, structs.replace(wish, adapter=""))
    assert found.text == expected.text != plain.text
    for one, other in zip(found.steps, expected.steps, strict=True):
        for ours, theirs in zip(one.layers, other.layers, strict=True):
            assert ours.attention == pytest.approx(theirs.attention, rel=1e-3)
            for mine, its in zip(ours.heads, theirs.heads, strict=True):
                assert mine.norm == pytest.approx(its.norm, rel=1e-3)
                assert mine.looks[0].weight == pytest.approx(its.looks[0].weight, abs=1e-4)
    with pytest.raises(ModelFailure, match="there are: mine"):
        inspect(subject, structs.replace(wish, adapter="other"))


def said_of(subject: Subject, *asks: Ask) -> list[Said]:
    """What the engine says to the first of the asks, all of which it answers together."""
    engine = Engine(Shifted(subject.forward, 0.0), PagedCache(subject.forward.architecture, pages=64))
    for ask in asks:
        engine.add(ask)
    said: list[Said] = []
    while not engine.idle:
        said += [one for one in engine.step() if one.ask == asks[0].id]
    return said


def test_layers_in_words(llama: Path) -> None:
    found = inspect(subject_of(llama), Wish(prompt=PROMPT, steps=3, layers=True, looks=2, lens=4, candidates=50))
    context = [piece.id for piece in found.prompt]
    for step in found.steps:
        assert len(step.layers) == 3
        assert step.position == len(context)
        for layer in step.layers:
            for head in layer.heads:
                assert math.fsum((*(look.weight for look in head.looks), head.rest)) == pytest.approx(1, abs=1e-6)
                assert all(context[look.position] == look.token.id for look in head.looks)
                assert 0 <= head.entropy <= math.log2(len(context)) + 1e-9
        last = step.layers[-1]
        assert last.drawn_rank == step.drawn.rank
        assert math.log(last.drawn_probability) == pytest.approx(step.drawn.logprob, abs=1e-9)
        by_id = {candidate.token.id: candidate.probability for candidate in step.candidates}
        for guess in last.lens:
            assert guess.probability == pytest.approx(by_id[guess.token.id], abs=1e-9)
        for before, after in zip(step.layers, step.layers[1:], strict=False):
            assert before.leaving == after.entering
        context.append(step.drawn.token.id)


class Shifted:
    """A forward of the same weights that is a little off, as a compiled one is."""

    uniform = False

    def __init__(self, inner: Any, by: float) -> None:
        self.inner, self.by, self.architecture = inner, by, inner.architecture

    def step(self, rows: Rows, cache: PagedCache) -> torch.Tensor:
        return self.inner.step(rows, cache) + self.by


def test_how_far_the_plain_decoder_is_from_the_forward_is_said(llama: Path) -> None:
    subject = subject_of(llama)
    apart = subject_of(llama, forward=Shifted(subject.model, 0.25), model=subject.model)
    plain = inspect(subject, Wish(prompt=PROMPT, steps=2, layers=True))
    found = inspect(apart, Wish(prompt=PROMPT, steps=2, layers=True))
    assert not plain.notes
    assert "at most 0.25 from" in found.notes[0]
    assert found.steps[0].candidates[0].logit == pytest.approx(plain.steps[0].candidates[0].logit + 0.25)
    assert found.steps[0].layers == plain.steps[0].layers


def test_wishes_that_cannot_be_met(llama: Path) -> None:
    subject = subject_of(llama)
    with pytest.raises(ModelFailure, match="context") as caught:
        inspect(subject, Wish(prompt="word " * 600))
    assert caught.value.failure.kind == "context_window"
    with pytest.raises(ModelFailure, match="temperature"):
        inspect(subject, Wish(prompt=PROMPT, temperature=-1.0))
    with pytest.raises(ModelFailure, match="no token"):
        inspect(subject, Wish(prompt=""))
    with pytest.raises(ModelFailure, match="no token 9999"):
        inspect(subject, Wish(prompt=PROMPT, logit_bias={9999: 1.0}))


@pytest.mark.parametrize("weights", ["bf16", "int8", "int8_dynamic", "int4"])
def test_weights_of_every_kind_are_looked_into(llama: Path, weights: Weights) -> None:
    loaded = load(llama, weights=weights)
    logits, seen = seen_of(loaded, list(range(20, 50)))
    assert torch.equal(seen[-1].logits, logits)
    for one in seen:
        assert torch.allclose(one.weights.sum(-1), torch.ones(4), atol=1e-5)
        assert torch.allclose(one.written.sum(0), one.attended, atol=0.05, rtol=0.05)


def test_logits_that_are_not_numbers_are_said_plainly(llama: Path) -> None:
    subject = subject_of(llama)
    broken = subject_of(llama, forward=Shifted(subject.model, math.nan), model=subject.model)
    with pytest.raises(ModelFailure, match="not numbers") as caught:
        inspect(broken, Wish(prompt=PROMPT))
    assert caught.value.failure.kind == "internal"


def test_a_stop_token_and_a_full_context_end_it(llama: Path) -> None:
    subject = subject_of(llama)
    first = inspect(subject, Wish(prompt=PROMPT, steps=1, temperature=0.0)).steps[0].drawn.token
    found = inspect(subject_of(llama, stop_tokens=frozenset({first.id})), Wish(prompt=PROMPT, temperature=0.0))
    assert (len(found.steps), found.ending, found.text) == (1, "stop", "")
    tokens = subject.words.encode("x", special=True)
    room = subject.model.architecture.context - len(tokens)
    prompt = "x" * 1
    while len(subject.words.encode(prompt + " x", special=True)) <= subject.model.architecture.context - 2:
        prompt += " x"
    room = subject.model.architecture.context - len(subject.words.encode(prompt, special=True))
    found = inspect(subject, Wish(prompt=prompt, steps=room + 3))
    assert len(found.steps) == room
    assert f"full after {room}" in found.notes[0]


def test_an_inspection_goes_through_json(llama: Path) -> None:
    found = inspect(subject_of(llama), Wish(prompt=PROMPT, steps=2, layers=True, logit_bias={5: -100.0}))
    assert json.decode(json.encode(found), type=Inspection) == found


def test_the_question_of_the_engines_process(llama: Path) -> None:
    opened = open_model(Order(name="tiny", path=str(llama), batch=1))
    try:
        wish = Wish(prompt=PROMPT, steps=2, layers=True, logit_bias={5: 2.0})
        body = json.decode(json.encode(wish))  # as plain data, its keys text
        found = convert(question(opened, body), Inspection)
        assert found == inspect_opened(opened, wish)
        assert (found.model, found.steps[0].position) == ("tiny", len(found.prompt))
        assert opened.engine.idle
    finally:
        opened.voice.tokenizer.close()


def test_the_operation_asks_the_models_process(llama: Path) -> None:
    subject = subject_of(llama)
    asked: list[tuple[str, str, Principal]] = []

    async def ask(model: str, question: str, body: Any, principal: Principal) -> Any:
        asked.append((model, question, principal))
        sent = msgpack.decode(msgpack.encode(body))  # as it travels to the process and back
        return msgpack.decode(msgpack.encode(inspect(subject, convert(sent, Wish))))

    [operation] = operations(ask)
    wish, who = Wish(prompt=PROMPT, model="tiny", steps=1, logit_bias={7: 1.0}), Principal(user="ann")
    found = asyncio.run(operation.run(Asked(who, {}, wish)))
    assert found == inspect(subject, wish)
    assert asked == [("tiny", "inspect", who)]
    assert (operation.access, operation.path) == ("admin", "/loam/v1/inspect")
