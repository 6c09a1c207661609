"""The pocket recipe: nothing held out is read, a resumed run is the same run, and what ships is what its card says."""

import csv
import gzip
import hashlib
import json
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.pocket import text
from recipes.pocket.export import card, export, thinned
from recipes.pocket.train import Bytes, Training, begun, prepared, rate
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from loam.engine.pocket import FOLDER

PLAY = "ROMEO:\nO, speak again, bright angel! for thou art\nAs glorious to this night.\n\n" * 60
NOVEL = "The old man looked at the sea, and said nothing. She went home. Größe! " * 90


def settings_of(**training: Any) -> dict[str, Any]:
    return {
        "seed": 3,
        "text": {"shakespeare": 0.5, "held_out": 0.1, "vocabulary": 300},
        "model": {
            "width": 32, "layers": 2, "heads": 2, "kv_heads": 1, "hidden": 48, "context": 32,
            "theta": 10000.0, "norm_eps": 1e-5,
        },
        "training": {
            "steps": 6, "windows": 4, "matrix_rate": 0.02, "embedding_rate": 4e-3, "norm_rate": 4e-3, "warmup": 2,
            "decay": 0.5, "clip": 1.0, "check_every": 3, "checkpoint_seconds": 1000,
        } | training,
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "small").mkdir()
    (folder / "pretrain-extra").mkdir()
    with gzip.open(folder / "small" / "tinyshakespeare.txt.gz", "wt", encoding="utf-8") as file:
        file.write(PLAY)
    with lzma.open(folder / "pretrain-extra" / "novels-pd.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": one}) + "\n" for one in (NOVEL, NOVEL[20:]))
    return folder


def test_tokens_are_the_texts_and_the_held_out_ends_stay_apart(data: Path, tmp_path: Path) -> None:
    read = prepared(data, tmp_path, settings_of()["text"])
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 300
    assert tokenizer.id_to_token(0) == text.END
    first, last = text.split(PLAY, 0.1)
    assert first + last == PLAY
    assert 0.08 < len(last) / len(PLAY) <= 0.1
    assert tokenizer.decode(read["shakespeare-train"].tolist()) == first
    assert tokenizer.decode(read["shakespeare-held"].tolist()) == last
    assert (read["novels-train"] == 0).sum() == (read["novels-held"] == 0).sum() == 2
    sizes = Bytes(tokenizer)._sizes
    assert sizes[torch.from_numpy(read["novels-held"].astype(np.int64))].sum() == len(
        tokenizer.decode(read["novels-held"].tolist()).encode()
    )
    assert dict(prepared(tmp_path / "not read again", tmp_path, {})).keys() == read.keys()


class Even(torch.nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*tokens.shape, 300)


def test_bits_per_byte_of_a_model_that_knows_nothing(data: Path, tmp_path: Path) -> None:
    read = prepared(data, tmp_path, settings_of()["text"])
    held = read["novels-held"]
    counted = Bytes(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    count = min(48, (len(held) - 1) // 32) * 32
    size = int(counted._sizes[torch.from_numpy(held[1 : count + 1].astype(np.int64))].sum())
    assert counted.bits(Even(), held, 32) == pytest.approx(count * math.log2(300) / size, rel=1e-4)


def test_the_rate_goes_up_stays_and_comes_down_to_nothing() -> None:
    rates = [rate(step, {"steps": 100, "warmup": 10, "decay": 0.4}) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:60] == [1.0] * 50
    assert rates[80] == pytest.approx(0.5)
    assert rates[100] == 0.0


def test_a_run_learns_and_a_resumed_one_is_the_same(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for made in (whole, parts):
        made.mkdir()
        read = prepared(data, made, settings_of()["text"])
    torch.manual_seed(3)
    Training(read, settings_of(), whole).run()
    torch.manual_seed(3)
    broken = Training(read, settings_of(), parts)
    for _ in range(3):
        broken._one()
    broken._save()
    torch.manual_seed(99)  # what it would begin with is not what it goes on with
    Training(read, settings_of(), parts).run()
    ended = [torch.load(made / "run.pt")["weights"] for made in (whole, parts)]
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])
    rows = list(csv.reader((whole / "curve.csv").open()))
    assert [row[0] for row in rows] == [str(step) for step in range(1, 7)]
    assert [row[0] for row in rows if row[2]] == ["3", "6"]
    assert float(rows[-1][1]) < float(rows[0][1])
    thinned(rows, tmp_path / "curves" / "c.csv")
    kept = list(csv.DictReader((tmp_path / "curves" / "c.csv").open()))
    assert kept[-1]["step"] == "6"
    assert kept[-1]["novels_bits_per_byte"] == rows[-1][3]


def test_what_is_exported_is_what_was_trained(data: Path, tmp_path: Path) -> None:
    settings = settings_of()
    prepared(data, tmp_path, settings["text"])
    torch.manual_seed(1)
    model = begun(settings)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    export(model.state_dict(), settings, tmp_path / "tokenizer.json", tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = torch.tensor([tokenizer.encode("The old man")])
    ours = model.bfloat16()
    with torch.inference_mode():
        assert torch.allclose(theirs(tokens).logits.float(), ours(tokens).float(), atol=0.2)
        theirs, ours = theirs.float(), ours.float()
        assert torch.allclose(theirs(tokens).logits, ours(tokens), atol=1e-4)
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Who goes there?"}], tokenize=False, add_generation_prompt=True
    )
    assert said == "USER:\nWho goes there?\n\nASSISTANT:\n"
    page = card(settings, [["6", "1.0", "2.0", "1.5", "0.1"]], tmp_path / "out")
    assert "768 tokens read" in page
    assert "plays 2.0, novels 1.5" in page


def test_what_ships_is_small_and_is_what_its_card_says() -> None:
    files = {file.name: file for file in FOLDER.iterdir() if file.is_file()}
    assert sum(file.stat().st_size for file in files.values()) <= 4_000_000
    page = files["CARD.md"].read_text("utf-8")
    assert hashlib.sha256(files["model.safetensors"].read_bytes()).hexdigest() in page
    assert "public domain" in page
    assert "Jane Eyre" in page


def test_what_ships_writes_words() -> None:
    """A model that learned nothing would not know these; the text itself is judged by eye."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    held = "She looked at him for a moment, and then she said that she would not go home until the morning."
    tokens = torch.tensor([tokenizer.encode(held)])
    with torch.inference_mode():
        logits = model(tokens).logits[0, :-1].float()
    bits = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").item() / math.log(2)
    assert bits / len(held.encode()) < 2.0
