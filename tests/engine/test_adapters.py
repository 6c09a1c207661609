"""LoRA by name, against PEFT's own forward."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from loam.core.errors import EngineError
from loam.engine.adapters import read_adapter
from loam.engine.exact import Exact
from loam.engine.kvcache import PagedCache
from loam.engine.load import load
from loam.engine.rows import Rows, Span
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import make

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks for it
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "phi3": ["qkv_proj", "gate_up_proj", "o_proj"],
    "gpt_neox": ["query_key_value", "dense"],
    "gemma2": ["q_proj", "down_proj"],
}
TEXT = torch.randint(0, 512, (1, 50), generator=torch.Generator().manual_seed(5))


def write_adapter(base: Path, folder: Path, targets: list[str], seed: int, **settings: Any) -> torch.Tensor:
    """Save an adapter whose second matrix is not zero; what PEFT's model says with it."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    conv = model.config.model_type == "gpt2"
    config = peft.LoraConfig(target_modules=targets, task_type="CAUSAL_LM", fan_in_fan_out=conv, **settings)
    tuned = peft.get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    tuned.save_pretrained(folder)
    with torch.no_grad():
        return tuned.eval()(TEXT).logits[0]


def said(model: Transformer, adapters: list[str]) -> list[torch.Tensor]:
    """The text with each adapter, all in one step, and half of it in a step before."""
    cache = PagedCache(model.architecture, 2 * len(adapters))
    halves: list[torch.Tensor] = []
    for low, high in ((0, 20), (20, 50)):
        spans = tuple(Span((2 * i, 2 * i + 1), low, high - low, name) for i, name in enumerate(adapters))
        tokens = tuple(TEXT[0, low:high].tolist()) * len(adapters)
        halves.append(
            model.step(Rows(tokens, spans, tuple(range(len(tokens)))), cache).view(len(adapters), high - low, -1)
        )
    return list(torch.cat(halves, dim=1))


@pytest.mark.parametrize("family", sorted(TARGETS))
def test_an_adapter_says_what_peft_says(family: str, tmp_path: Path) -> None:
    base = make(tmp_path / "base", family)
    expected = write_adapter(base, tmp_path / "one", TARGETS[family], 1, r=4, lora_alpha=16)
    model = load(base).model
    plain = model(TEXT)[0]
    model.adapters["one"] = read_adapter("one", tmp_path / "one", model)
    tuned, untuned = said(model, ["one", ""])
    assert (tuned - expected).abs().max() <= 1e-4
    assert (untuned - plain).abs().max() <= 1e-4  # the row beside it is the base model's
    assert (expected - plain).abs().max() > 0.1


def test_many_adapters_answer_in_one_step(tmp_path: Path) -> None:
    base = make(tmp_path / "base")
    model = load(base).model
    kinds: dict[str, dict[str, Any]] = {
        "wide": {"r": 8, "lora_alpha": 8},
        "root": {"r": 4, "lora_alpha": 4, "use_rslora": True},
        "odd": {"r": 2, "rank_pattern": {"k_proj": 5}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}},
    }
    expected = [model(TEXT)[0]]
    for seed, (name, settings) in enumerate(kinds.items()):
        expected.append(write_adapter(base, tmp_path / name, TARGETS["llama"], seed, **settings))
        model.adapters[name] = read_adapter(name, tmp_path / name, model)
    together = said(model, ["", *kinds])
    for ours, theirs in zip(together, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4
    model.exact = Exact()
    exactly = said(model, ["", *kinds])
    for name, ours in zip(["", *kinds], exactly, strict=True):
        assert torch.equal(said(model, [name])[0], ours)


def test_an_adapter_sits_on_quantised_weights(tmp_path: Path) -> None:
    base = make(tmp_path / "base")
    write_adapter(base, tmp_path / "one", ["q_proj", "down_proj"], 1, r=4, lora_alpha=16)
    model = load(base, weights="int8").model
    model.adapters["one"] = read_adapter("one", tmp_path / "one", model)
    tuned, untuned = said(model, ["one", ""])
    assert (tuned - untuned).abs().max() > 0.1


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return breaks


def configured(**settings: Any) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    return breaks


Q = "base_model.model.model.layers.0.self_attn.q_proj"
BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (changed(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 7)})), r"q_proj has shapes \(4, 7\) and"),
    (changed(lambda t: t.update({f"{Q}.lora_B.weight": torch.zeros(64, 3)})), r"asks for \(r, 64\) and \(64, r\)"),
    (changed(lambda t: t.pop(f"{Q}.lora_A.weight")), "lora_A or lora_B of .* is missing"),
    (changed(lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 2)})), "adapts .*lm_head"),
    (changed(lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.zeros(2)})), "not LoRA's"),
    (lambda f: (f / "adapter_model.safetensors").write_bytes(b"123"), "not a whole safetensors file"),
    (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "a pickle, which can run code"),
    (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    (configured(peft_type="LOHA"), "peft_type is not LORA"),
    (configured(use_dora=True), "use_dora is set"),
    (configured(bias="all"), "bias is trained too"),
    (configured(lora_alpha="much"), "lora_alpha is 'much'"),
]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    write_adapter(make(folder / "base"), folder / "one", TARGETS["llama"], 1, r=4)
    return folder


@pytest.mark.parametrize(("breaks", "says"), BROKEN, ids=[says[:30] for _, says in BROKEN])
def test_a_broken_adapter_is_refused_by_name(
    breaks: Callable[[Path], object], says: str, tuned: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tuned / "one", tmp_path / "one"))
    breaks(folder)
    with pytest.raises(EngineError, match=says) as refused:
        read_adapter("one", folder, load(tuned / "base").model)
    assert str(folder) in str(refused.value)


def test_an_unknown_adapter_is_refused(tuned: Path) -> None:
    with pytest.raises(EngineError, match="no adapter is loaded under the name 'ghost'"):
        said(load(tuned / "base").model, ["ghost"])
