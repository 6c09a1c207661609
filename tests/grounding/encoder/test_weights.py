import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from loam.core.errors import EncoderError
from loam.grounding.encoder.weights import (
    MINILM,
    PINNED,
    TENSORS,
    VOCABULARY,
    Shape,
    Weights,
    check,
    find_minilm,
    home,
    read_folder,
)


def test_the_data_folder_comes_before_the_package(minilm: Weights, tmp_path: Path) -> None:
    kept = home(tmp_path) / MINILM
    kept.mkdir(parents=True)
    assert find_minilm(tmp_path).folder == minilm.folder
    for name in (TENSORS, VOCABULARY):
        (kept / name).symlink_to(minilm.folder / name)
    assert find_minilm(tmp_path).folder == kept


def test_the_installed_weights_are_the_pinned_ones(minilm: Weights) -> None:
    check(minilm.folder, *PINNED)


def test_a_changed_file_is_refused_by_name(minilm: Weights, tmp_path: Path) -> None:
    text = (minilm.folder / VOCABULARY).read_text("utf-8")
    (tmp_path / VOCABULARY).write_text(text.replace("hello", "hallo", 1), "utf-8")
    with pytest.raises(EncoderError, match=r"vocab\.txt is not the one .*`loam setup encoder`"):
        check(tmp_path, VOCABULARY)


def test_a_folder_of_the_shipped_model_has_the_shipped_name(minilm: Weights, tmp_path: Path) -> None:
    copy = tmp_path / "a-copy"
    shutil.copytree(minilm.folder, copy, copy_function=lambda source, target: Path(target).symlink_to(source))
    assert read_folder(copy).name == MINILM
    assert read_folder(copy).shape == Shape()


def test_a_folder_says_its_shape(tiny: Path) -> None:
    weights = read_folder(tiny)
    assert weights.name == "tiny-encoder"
    assert weights.shape == Shape(hidden=32, layers=2, heads=4, pooling="cls", most=16)


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("config.json", {"model_type": "roberta"}, "roberta"),
        ("config.json", {"hidden_act": "relu"}, "relu"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": False}, "pools by"),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Pooling"}, {"type": "a.Dense"}], "Dense"),
    ],
)
def test_what_loam_does_not_run_is_refused_by_name(tiny: Path, file: str, change: Any, word: str) -> None:
    now = json.loads((tiny / file).read_text())
    (tiny / file).write_text(json.dumps({**now, **change} if isinstance(change, dict) else change))
    with pytest.raises(EncoderError, match=word):
        read_folder(tiny)


@pytest.mark.parametrize("file", ["config.json", "modules.json", "model.safetensors", "vocab.txt"])
def test_a_missing_file_is_named(tiny: Path, file: str) -> None:
    (tiny / file).unlink()
    with pytest.raises(EncoderError, match=file):
        read_folder(tiny)


def test_a_config_that_is_no_json_is_refused(tiny: Path) -> None:
    (tiny / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"cannot read .*config\.json"):
        read_folder(tiny)
    (tiny / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="hidden_size"):
        read_folder(tiny)
