"""Adapters against what PyTorch computes (recipes/encoder_reference.py), what scores mean, and the files that ship."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loam.core.errors import EncoderError
from loam.grounding.checks.answered import WEIGHTS as READING_WEIGHTS
from loam.grounding.checks.support import WEIGHTS
from loam.grounding.encoder import adapter
from loam.grounding.encoder.heads import Calibration, PairHeads, best_span, share
from loam.grounding.encoder.opening import HEADS
from loam.grounding.encoder.passes import Passes, Source, Worker
from loam.grounding.encoder.port import Reading
from loam.grounding.encoder.settings import Backend
from loam.grounding.encoder.weights import PINNED, TENSORS, Weights, read_folder
from loam.grounding.encoder.wordpiece import WordPiece
from tests.grounding.encoder import made

pytestmark = pytest.mark.anyio

HIDDEN, INNER = 32, 64
MOST_BYTES = 6_000_000


def tiny_arrays(*heads: str, seed: int = 5) -> dict[str, Any]:
    """Low-rank changes of both layers of the tiny encoder, and heads."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for layer in (0, 1):
        for module, width, height in (("attention.self.query", HIDDEN, HIDDEN), ("output.dense", INNER, HIDDEN)):
            arrays[f"lora.{layer}.{module}.A"] = (rng.standard_normal((2, width)) * 0.3).astype(np.float16)
            arrays[f"lora.{layer}.{module}.B"] = (rng.standard_normal((height, 2)) * 0.3).astype(np.float16)
    for head in heads:
        size = {"span": 2, "rank": 1, "verify": 3}[head]
        arrays[f"{head}.weight"] = (rng.standard_normal((size, HIDDEN)) * 0.5).astype(np.float16)
        arrays[f"{head}.bias"] = rng.standard_normal(size).astype(np.float16)
    return arrays


def tiny_heads(tiny: Path, cache: Path, worker: Worker, *files: Path, backend: Backend = "fp32") -> PairHeads:
    weights = read_folder(tiny)
    adapters = [adapter.read(file, weights) for file in files]
    return PairHeads(Source(weights=weights, cache=cache, backend=backend), adapters, worker)


def tiny_file(tiny: Path, name: str, *heads: str, card: dict[str, Any] | None = None, seed: int = 5) -> Path:
    arrays = tiny_arrays(*heads, seed=seed)
    return made.write(tiny / f"{name}.safetensors", arrays, base=read_folder(tiny).sha256, card=card)


@pytest.mark.parametrize(("backend", "near"), [("fp32", 2e-4), ("numpy", 2e-4), ("nb8", 0.15)])
async def test_an_adapters_scores_are_those_of_pytorch(
    minilm: Weights, graphs: Path, worker: Worker, tmp_path: Path, backend: Backend, near: float
) -> None:
    file = made.write(tmp_path / "random.safetensors", made.random_adapter(), base=minilm.sha256)
    source = Source(weights=minilm, cache=graphs, backend=backend).with_adapter(adapter.read(file, minilm))
    words = WordPiece.read(minilm.folder / "vocab.txt", lower=True)
    pairs = [words.pair(words.cut(made.QUESTION), words.cut(text), most=384, most_first=96) for text in made.PASSAGES]
    with np.load(Path(__file__).parent / "vectors.npz") as reference:
        for batch in await Passes(source, worker).run(pairs, "span", "rank", "verify"):
            for row, place in enumerate(batch.places):
                size = len(pairs[place].ids)
                np.testing.assert_allclose(batch.outputs[0][row, :size], reference[f"span{place}"], atol=near)
                np.testing.assert_allclose(batch.outputs[1][row], reference[f"rank{place}"][0], atol=near)
                np.testing.assert_allclose(batch.outputs[2][row], reference[f"verify{place}"], atol=near)


async def test_onnx_judges_as_the_numpy_twin(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    file = tiny_file(tiny, "all", "span", "rank", "verify")
    fast, slow = (tiny_heads(tiny, tmp_path, worker, file, backend=backend) for backend in ("fp32", "numpy"))
    passages = ["the cat sat on a mat.", "a dog.", "", "where is the mat? it is on the dog."]
    read = await fast.read("where is the cat?", passages)
    _assert_near(read, await slow.read("where is the cat?", passages))
    assert (read[2].start, read[2].end, read[2].answerable) == (0, 0, 0.0)
    for one, twin in zip(
        await fast.verify([("the cat sat.", passage) for passage in passages]),
        await slow.verify([("the cat sat.", passage) for passage in passages]),
        strict=True,
    ):
        assert one.supported == pytest.approx(twin.supported, abs=1e-5)
        assert one.supported + one.contradicted + one.unsaid == pytest.approx(1)


def _assert_near(read: Sequence[Reading], twins: Sequence[Reading]) -> None:
    for one, twin in zip(read, twins, strict=True):
        assert (one.start, one.end) == (twin.start, twin.end)
        assert one.relevance == pytest.approx(twin.relevance, abs=1e-5)
        assert one.answerable == pytest.approx(twin.answerable, abs=1e-5)


async def test_each_head_comes_from_the_file_that_has_it(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    reading = tiny_file(tiny, "read-1", "span", "rank")
    judging = tiny_file(tiny, "verify-1", "verify", seed=6)
    both = tiny_heads(tiny, tmp_path, worker, reading, judging)
    alone = tiny_heads(tiny, tmp_path, worker, tiny_file(tiny, "one", "span", "rank", "verify", seed=6))
    pair = ("the cat sat.", "a dog sat on the mat.")
    assert both.id.startswith("read-1/")
    assert "+verify-1/" in both.id
    assert (await both.verify([pair])) != (await alone.verify([pair]))
    assert len(await both.read("where is it?", ["the mat."])) == 1


async def test_a_card_makes_scores_probabilities(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    card = {"calibration": {"rank": {"temperature": 2.0, "shift": 1.0}}}
    plain = tiny_heads(tiny, tmp_path, worker, tiny_file(tiny, "plain", "span", "rank", "verify"))
    tuned = tiny_heads(tiny, tmp_path, worker, tiny_file(tiny, "tuned", "span", "rank", "verify", card=card))
    (raw,), (made_so,) = await plain.read("is it?", ["it is."]), await tuned.read("is it?", ["it is."])
    score = np.log(raw.relevance / (1 - raw.relevance))
    assert made_so.relevance == pytest.approx(Calibration(2.0, 1.0).probability(score), abs=1e-4)
    assert made_so.answerable == raw.answerable


def test_heads_for_another_encoder_are_refused(tiny: Path, tmp_path: Path) -> None:
    file = made.write(tmp_path / "other.safetensors", tiny_arrays("verify"), base="0" * 64)
    with pytest.raises(EncoderError, match="trained on another encoder than tiny-encoder"):
        adapter.read(file, read_folder(tiny))


def test_another_format_is_refused(tiny: Path) -> None:
    with pytest.raises(EncoderError, match="no file of heads in the format loam-heads-1"):
        adapter.read(_renamed(tiny_file(tiny, "old", "verify"), b"loam-heads-1", b"loam-heads-0"), read_folder(tiny))


def _renamed(file: Path, old: bytes, new: bytes) -> Path:
    file.write_bytes(file.read_bytes().replace(old, new))
    return file


def test_a_missing_head_is_named(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    with pytest.raises(EncoderError, match="no file of heads has verify"):
        tiny_heads(tiny, tmp_path, worker, tiny_file(tiny, "read-1", "span", "rank"))


def test_the_best_span_is_never_longer_than_allowed_nor_turned_round() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 7, 60):
        scores = rng.standard_normal((size, 2)).astype(np.float32)
        found = best_span(scores, longest=5)
        assert found is not None
        assert 0 <= found.last - found.first < 5
        slow = max(scores[i, 0] + scores[j, 1] for i in range(size) for j in range(i, min(size, i + 5)))
        assert found.score == pytest.approx(float(slow))
    assert best_span(np.zeros((0, 2), np.float32)) is None


def test_the_share_of_no_answer_is_that_of_both_ends() -> None:
    even = np.zeros((3, 2), np.float32)
    assert share(np.zeros(2, np.float32), even) == pytest.approx(1 / 16)  # one of four at either end
    assert share(np.full(2, 300, np.float32), even) == pytest.approx(1)
    assert share(np.full(2, -300, np.float32), even) == pytest.approx(0)


def test_the_shipped_files_are_small_and_say_where_they_come_from() -> None:
    files = sorted(HEADS.glob("*.safetensors"))
    assert files
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    for file in files:
        card = _card(file)
        assert card["licence"] == "CC BY-SA 4.0"
        assert {"encoder", "data", "settings", "calibration", "held_out"} <= set(card)
    runs = {_card(file)["run"] for file in files}
    assert {WEIGHTS.head, READING_WEIGHTS.head} <= runs  # weights belong to the heads that ship
    assert all(file.name in (HEADS / "CARD.md").read_text("utf-8") for file in files)


def _card(file: Path) -> dict[str, Any]:
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    assert header["base"] == PINNED[TENSORS]
    return json.loads(header["card"])


async def test_the_shipped_heads_read_and_judge(minilm: Weights, graphs: Path, worker: Worker) -> None:
    adapters = [adapter.read(file, minilm) for file in sorted(HEADS.glob("*.safetensors"))]
    heads = PairHeads(Source(weights=minilm, cache=graphs), adapters, worker)
    passage = "The Old Mill was built in 1842 by Karl Lang near Oslo. It ground rye for the town."
    answered, foreign = await heads.read(
        "Who built the Old Mill?", [passage, "Tides follow the moon, which passes twice a day."]
    )
    assert "Karl Lang" in passage[answered.start : answered.end]
    assert answered.relevance > foreign.relevance
    assert answered.answerable > foreign.answerable
    said, unsaid = await heads.verify(
        [
            ("The Old Mill was built by Karl Lang.", passage),
            ("The Old Mill was built by Karl Lang.", "Tides follow the moon, which passes twice a day."),
        ]
    )
    assert said.supported > unsaid.supported
