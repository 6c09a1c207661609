"""Checkpoints as they come, as they go, and as they should not be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from loam.core.errors import EngineError
from loam.engine.families import read_architecture
from loam.engine.hub import resolve
from loam.engine.load import _named, load, save
from loam.engine.memory import available, cache_bytes, linear_weights, other_weights, weight_bytes
from loam.engine.transformer import Transformer
from tests.engine.checkpoints import PER_FAMILY, make

TOKENS = torch.randint(0, 512, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def llama(shelf: Path, tmp_path: Path) -> Path:
    """A folder of its own, to be broken."""
    return Path(shutil.copytree(make(shelf / "llama"), tmp_path / "model"))


@pytest.mark.parametrize("family", sorted(PER_FAMILY))
def test_transformers_loads_what_is_saved(family: str, shelf: Path, tmp_path: Path) -> None:
    loaded = load(make(shelf / family, family))
    save(loaded.model, tmp_path / "saved", loaded.config)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    with torch.no_grad():
        assert (theirs(TOKENS).logits - loaded.model(TOKENS)).abs().max() <= 1e-4
    before, after = load_file(shelf / family / "model.safetensors"), load_file(tmp_path / "saved" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_shards_are_read_and_written(shelf: Path, tmp_path: Path) -> None:
    whole = load(make(shelf / "llama"))
    pieces = load(make(shelf / "shards", shard="100KB"))
    assert len(list((shelf / "shards").glob("*.safetensors"))) > 2
    assert torch.equal(pieces.model(TOKENS), whole.model(TOKENS))
    save(whole.model, tmp_path / "saved", whole.config, shard=100_000)
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 2
    assert torch.equal(load(tmp_path / "saved").model(TOKENS), whole.model(TOKENS))


def test_weights_of_the_file_are_not_copied(shelf: Path) -> None:
    model = load(make(shelf / "llama")).model
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "llama/model.safetensors" in line]
    ranges = [tuple(int(edge, 16) for edge in line.split()[0].split("-")) for line in maps]
    for name, weight in model.named_parameters():
        assert any(low <= weight.data_ptr() < high for low, high in ranges), name


@pytest.mark.parametrize(
    ("stored", "weights", "kind"),
    [
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float16, "auto", torch.bfloat16),
        (torch.bfloat16, "fp32", torch.float32),
        (torch.float32, "bf16", torch.bfloat16),
    ],
)
def test_weights_come_in_the_type_asked_for(stored: torch.dtype, weights: Any, kind: torch.dtype, shelf: Path) -> None:
    loaded = load(make(shelf / f"llama-{stored}", dtype=stored), weights=weights)
    assert {weight.dtype for weight in loaded.model.parameters()} == {kind}
    assert loaded.model(TOKENS).dtype == torch.float32


def test_stop_tokens_are_those_of_both_files(llama: Path) -> None:
    (llama / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert load(llama).stop_tokens == {1, 7, 9}


def test_a_hub_id_is_looked_up_in_the_cache(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--house--tiny" / "snapshots" / ("a" * 40)
    shutil.copytree(make(shelf / "llama"), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert resolve("house/tiny") == snapshot
    assert resolve(snapshot) == snapshot
    with pytest.raises(EngineError, match="house/other is not on this machine; `loam models pull house/other`"):
        resolve("house/other")
    with pytest.raises(EngineError, match="does not exist"):
        resolve("no/such/folder")


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def beheaded(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors")

    return breaks


def configured(**settings: Any) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))

    return breaks


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def outside(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../secret.safetensors"}}')


def unsharded(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-1.safetensors"}}')


def garbled(folder: Path) -> None:
    (folder / "config.json").write_text("{not json")


def listed(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


DOWN = "model.layers.1.mlp.down_proj.weight"
BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (truncated, r"model\.safetensors is not a whole safetensors file .*download it again"),
    (beheaded, r"model\.safetensors is not a whole safetensors file"),
    (changed(lambda t: t.pop(DOWN)), rf"lacks the tensor {DOWN}; download"),
    (changed(lambda t: t.update({DOWN: torch.zeros(3, 3)})), rf"{DOWN} has shape \(3, 3\), .* asks for \(64, 96\)"),
    (changed(lambda t: t.update(stray=torch.zeros(2))), "does not account for: stray"),
    (changed(lambda t: t.update({k: v.to(torch.float8_e4m3fn) for k, v in t.items()})), "weights of type F8_E4M3"),
    (pickled, "pytorch_model.bin, a pickle, which can run code"),
    (emptied, "holds no model.safetensors"),
    (outside, "outside its folder"),
    (unsharded, "model-1.safetensors is missing"),
    (garbled, r"config\.json cannot be read as JSON"),
    (listed, r"config\.json does not hold a JSON object"),
    (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
    (configured(model_type="mamba"), r"config\.json: model_type 'mamba' is not a family .* llama"),
    (configured(model_type=["llama"]), "is not a family"),
    (configured(hidden_size=-64), r"config\.json: hidden_size is -64; it must be a whole number from 1 to"),
    (configured(hidden_size=10**12), "hidden_size is 1000000000000"),
    (configured(hidden_size="wide"), "hidden_size is 'wide'"),
    (configured(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    (configured(num_hidden_layers=900, hidden_size=131072, intermediate_size=1 << 20), "needs .* GB for its weights"),
    (configured(num_hidden_layers=True), "num_hidden_layers is True"),
    (configured(vocab_size="gone"), "vocab_size is missing"),
    (configured(num_key_value_heads=3), "not a multiple of num_key_value_heads 3"),
    (configured(head_dim=13), "must be even"),
    (configured(hidden_act="snake"), "hidden_act 'snake' is not known"),
    (configured(rms_norm_eps=-1), "rms_norm_eps is -1"),
    (configured(rope_parameters={"rope_type": "spiral"}), "rope_type 'spiral' is not known"),
    (configured(rope_parameters={"rope_type": "yarn"}), "rope_type 'yarn' needs 'factor'"),
    (configured(rope_parameters=7), "must be an object"),
    (configured(layer_types=["full_attention"]), "layer_types"),
    (configured(quantization_config={"quant_method": "gptq"}), "take the unquantised checkpoint"),
]


@pytest.mark.parametrize(("breaks", "says"), BROKEN, ids=[says[:40] for _, says in BROKEN])
def test_a_broken_checkpoint_is_refused_by_name(breaks: Callable[[Path], object], says: str, llama: Path) -> None:
    breaks(llama)
    with pytest.raises(EngineError, match=says) as refused:
        load(llama)
    assert str(llama) in str(refused.value)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_config_is_read_or_refused(shelf: Path, data: st.DataObject) -> None:
    """Whatever stands there: an architecture or an `EngineError`, nothing else."""
    family = data.draw(st.sampled_from(sorted(PER_FAMILY)))
    config = json.loads((make(shelf / family, family) / "config.json").read_text())
    odd = st.sampled_from(
        [None, True, 0, -3, 1e30, "x", [], [1], {}, {"a": 1}, float("nan"), 2**70, ["full_attention"]]
    )
    config |= data.draw(st.dictionaries(st.sampled_from(sorted(config)), odd, max_size=3))
    try:
        assert _named(shelf, config).width > 0
    except EngineError as refused:
        assert str(shelf) in str(refused)  # noqa: PT017 - refusing is one of two good ends


def test_an_unknown_device_is_refused(llama: Path) -> None:
    with pytest.raises(EngineError, match="device 'warp' cannot be used"):
        load(llama, device="warp")


def test_what_does_not_fit_is_refused_before_it_is_read(llama: Path) -> None:
    truth = sum(weight.nbytes for weight in load(llama).model.parameters())
    with pytest.raises(EngineError, match=r"needs .* MB for its weights, but the memory limit leaves .*int8"):
        load(llama, memory_limit=truth // 2)
    load(llama, memory_limit=truth * 2)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_the_estimate_is_what_is_held(weights: Any, family: str, shelf: Path) -> None:
    loaded = load(make(shelf / family, family), weights=weights)
    held = {t.data_ptr(): t.nbytes for t in [*loaded.model.parameters(), *loaded.model.buffers()]}
    assert weight_bytes(loaded.architecture, weights) == pytest.approx(sum(held.values()), rel=0.06)


@pytest.mark.parametrize("family", sorted(PER_FAMILY))
def test_parameters_are_counted_from_the_shape(family: str, shelf: Path) -> None:
    loaded = load(make(shelf / family, family))
    counted = linear_weights(loaded.architecture) + other_weights(loaded.architecture)
    assert counted == sum(weight.numel() for weight in loaded.model.parameters())


def test_memory_is_told() -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    a = read_architecture(config | {"vocab_size": 10, "max_position_embeddings": 64, "num_key_value_heads": 2})
    assert cache_bytes(a, pages=3) == 2 * 2 * 3 * 32 * 2 * 16 * 2
    assert 1 << 20 < available() < 1 << 50


def test_saving_refuses_what_would_lie(shelf: Path, tmp_path: Path) -> None:
    packed = load(make(shelf / "llama"), weights="int8")
    with pytest.raises(EngineError, match="quantised weights are not saved"):
        save(packed.model, tmp_path, packed.config)
    plain = load(make(shelf / "llama"))
    with pytest.raises(EngineError, match="another architecture"):
        save(plain.model, tmp_path, plain.config | {"rms_norm_eps": 0.5})


def test_a_model_from_nothing_learns(shelf: Path) -> None:
    """The form without a cache is differentiable: what training uses."""
    torch.manual_seed(0)
    model = Transformer(load(make(shelf / "llama")).architecture)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(12):
        logits = model(TOKENS[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad is not None for weight in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
