"""GGUF files: the model that was converted, again."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers

from loam.core.errors import EngineError
from loam.engine.load import load
from tests.engine.checkpoints import make
from tests.engine.gguf_checkpoints import write_gguf

KINDS = gguf.GGMLQuantizationType
TOKENS = torch.randint(0, 512, (2, 60), generator=torch.Generator().manual_seed(0))
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window_pattern": 6, "layers": 6},
    "phi3": {},
    "gpt2": {},
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("family", sorted(OWN))
def test_the_model_is_the_one_that_was_converted(family: str, shelf: Path) -> None:
    folder = make(shelf / family, family, **OWN[family])
    loaded = load(write_gguf(folder, shelf / f"{family}.gguf"))
    assert (loaded.model(TOKENS) - load(folder).model(TOKENS)).abs().max() <= 1e-4


def test_transformers_reads_the_same_from_it(shelf: Path) -> None:
    """That the writer of these tests writes what others read."""
    file = write_gguf(make(shelf / "llama"), shelf / "llama.gguf")
    config = transformers.AutoConfig.from_pretrained(shelf / "llama")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(shelf, gguf_file=file.name, config=config)
    with torch.no_grad():
        assert (theirs(TOKENS).logits - load(file).model(TOKENS)).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("kind", "error"), [(KINDS.F16, 1e-3), (KINDS.BF16, 1e-2), (KINDS.Q8_0, 2e-2), (KINDS.Q4_0, 0.3)]
)
def test_quantised_files_are_read(kind: KINDS, error: float, shelf: Path) -> None:
    folder = make(shelf / "llama")
    plain = load(folder).model(TOKENS)
    said = load(write_gguf(folder, shelf / f"llama-{kind.name}.gguf", kind), weights="fp32").model(TOKENS)
    distance = float((said - plain).norm() / plain.norm())
    assert error / 30 < distance < error


def test_llama3_stretching_is_read_from_its_tensor(shelf: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    folder = make(shelf / "llama31", rope_parameters=rope | {"original_max_position_embeddings": 64})
    plain = load(folder).model
    frequencies = 1.0 / 1e4 ** (torch.arange(0, 16, 2).float() / 16)
    angles = plain.tables["rope"].at(torch.tensor([1]), 2)
    stretched = torch.atan2(angles[1], angles[0]).flatten()
    file = write_gguf(folder, shelf / "llama31.gguf")
    again = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(str(shelf / "factors.gguf"), "llama")
    for name, field in again.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in again.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.add_tensor("rope_freqs.weight", (frequencies / stretched).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (load(shelf / "factors.gguf").model(TOKENS) - plain(TOKENS)).abs().max() <= 1e-3
    assert (load(file).model(TOKENS) - plain(TOKENS)).abs().max() > 0.1


def test_broken_files_are_refused_by_name(shelf: Path, tmp_path: Path) -> None:
    good = write_gguf(make(shelf / "llama"), shelf / "llama.gguf").read_bytes()
    for name, data in (
        ("cut", good[: len(good) // 2]),
        ("short", good[:100]),
        ("other", b"PK" + good[2:]),
        ("none", b""),
    ):
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(data)
        with pytest.raises(EngineError, match=rf"{name}\.gguf .*download it again"):
            load(file)
    with pytest.raises(EngineError, match="does not exist"):
        load(tmp_path / "absent.gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "mamba.gguf"), "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EngineError, match=r"mamba\.gguf is of architecture 'mamba'"):
        load(tmp_path / "mamba.gguf")
