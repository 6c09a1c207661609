"""Vectors against sentence-transformers' (recipes/encoder_reference.py), and how a call runs."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loam.core.errors import ModelFailure
from loam.grounding.encoder import onnx_graph, passes
from loam.grounding.encoder.encoder import LocalEncoder
from loam.grounding.encoder.passes import Source, batches
from loam.grounding.encoder.settings import Backend
from loam.grounding.encoder.weights import PINNED, TENSORS, Weights, read_folder
from loam.grounding.encoder.worker import Worker

pytestmark = pytest.mark.anyio

Reference = dict[str, Any]


@pytest.fixture(scope="session")
def reference() -> Reference:
    with np.load(Path(__file__).parent / "vectors.npz") as arrays:
        return dict(arrays)


def local(weights: Weights, graphs: Path, worker: Worker, backend: Backend = "nb8") -> LocalEncoder:
    return LocalEncoder(Source(weights=weights, cache=graphs, backend=backend), worker)


@pytest.mark.parametrize("backend", ["fp32", "numpy"])
async def test_exact_vectors_are_the_references(
    minilm: Weights, graphs: Path, worker: Worker, reference: Reference, backend: Backend
) -> None:
    texts = list(reference["texts"]) if backend == "fp32" else list(reference["texts"][:16])
    vectors = await local(minilm, graphs, worker, backend).embed(texts)
    np.testing.assert_allclose(vectors, reference["vectors"][: len(texts)], atol=2e-6)


@pytest.mark.parametrize(("backend", "mean", "least"), [("nb8", 0.9995, 0.9985), ("int8", 0.98, 0.95)])
async def test_packed_vectors_stay_near_the_references(
    minilm: Weights, graphs: Path, worker: Worker, reference: Reference, backend: Backend, mean: float, least: float
) -> None:
    vectors = await local(minilm, graphs, worker, backend).embed(list(reference["texts"]))
    cosines = (vectors * reference["vectors"]).sum(axis=1)
    assert cosines.mean() >= mean
    assert cosines.min() >= least


async def test_states_show_where_each_piece_stands(minilm: Weights, graphs: Path, worker: Worker) -> None:
    text = "Ünited states — “quoted”"
    short, empty, long = await local(minilm, graphs, worker).states([text, "", "word " * 400])
    assert [text[start:end] for start, end in short.spans] == ["Ünited", "states", "—", "“", "quoted", "”"]
    assert short.vectors.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(short.vectors, axis=1), 1, atol=1e-5)
    assert (empty.spans, len(empty.vectors)) == ((), 0)
    assert len(long.spans) == len(long.vectors) == 254


async def test_the_id_names_weights_and_back_end(minilm: Weights, tmp_path: Path, worker: Worker) -> None:
    encoder = local(minilm, tmp_path, worker, "int8")
    assert encoder.id == f"all-MiniLM-L6-v2/int8/{PINNED[TENSORS][:12]}"
    assert encoder.size == 384
    assert not list(tmp_path.iterdir())  # nothing is opened or written before it is asked


async def test_wrong_weights_are_not_run(minilm: Weights, tiny: Path, tmp_path: Path, worker: Worker) -> None:
    changed = Weights(minilm.name, tiny, minilm.sha256)
    with pytest.raises(ModelFailure, match="is not the one of all-MiniLM-L6-v2") as caught:
        await local(changed, tmp_path, worker).embed(["a"])
    assert caught.value.failure.kind == "unavailable"


@pytest.mark.parametrize("backend", ["fp32", "nb8", "int8"])
async def test_any_bert_folder_runs_as_its_numpy_twin(
    tiny: Path, tmp_path: Path, worker: Worker, backend: Backend
) -> None:
    texts = ["where is the cat?", "the dogs sat on a mat.", "", "it is a cat. " * 20]
    weights = read_folder(tiny)
    vectors = await local(weights, tmp_path, worker, backend).embed(texts)
    twin = await local(weights, tmp_path, worker, "numpy").embed(texts)
    assert (vectors * twin).sum(axis=1).min() > {"fp32": 0.999999, "nb8": 0.999, "int8": 0.98}[backend]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
async def test_both_ways_of_pooling_differ_and_agree_with_the_twin(
    tiny: Path, tmp_path: Path, worker: Worker, pooling: str
) -> None:
    file = tiny / "1_Pooling" / "config.json"
    file.write_text(
        json.dumps({"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"})
    )
    weights = read_folder(tiny)
    texts = ["the cat sat.", "the cat sat on the mat on the mat"]
    states = await local(weights, tmp_path, worker, "fp32").states(texts)
    vectors = await local(weights, tmp_path, worker, "fp32").embed(texts)
    twin = await local(weights, tmp_path, worker, "numpy").embed(texts)
    np.testing.assert_allclose(vectors, twin, atol=2e-6)
    assert [len(one.spans) for one in states] == [4, 9]


async def test_a_text_has_the_same_vector_alone_and_among_others(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    encoder = local(read_folder(tiny), tmp_path, worker, "fp32")
    texts = [" ".join(["cat"] * (place % 11) + ["mat"]) for place in range(300)]
    together = await encoder.embed(texts)
    for place in (0, 7, 255, 256, 299):
        np.testing.assert_allclose(together[place], (await encoder.embed([texts[place]]))[0], atol=2e-6)


async def test_no_texts_are_no_rows(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    encoder = local(read_folder(tiny), tmp_path, worker)
    assert (await encoder.embed([])).shape == (0, 32)
    assert await encoder.states([]) == []


async def test_a_query_does_not_wait_for_a_long_call(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    encoder = local(read_folder(tiny), tmp_path, worker)
    await encoder.embed(["cat"])
    long = asyncio.ensure_future(encoder.embed(["the cat sat on the mat where it is. " * 3] * 5000))
    await asyncio.sleep(0)
    await encoder.embed(["cat"])
    assert not long.done()
    assert (await long).shape == (5000, 32)


async def test_a_damaged_graph_is_told_by_its_name(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    weights = read_folder(tiny)
    file = onnx_graph.kept(tmp_path, weights.name, "nb8", weights.sha256)
    file.write_bytes(b"no graph")
    with pytest.raises(ModelFailure, match=file.name):
        await local(weights, tmp_path, worker).embed(["cat"])
    file.unlink()
    assert (await local(weights, tmp_path, worker).embed(["cat"])).shape == (1, 32)


async def test_a_missing_tensor_is_named(tiny: Path, tmp_path: Path, worker: Worker) -> None:
    raw = (tiny / "model.safetensors").read_bytes().replace(b"bert.encoder.layer.1.output.dense.weight", b"x" * 40)
    (tiny / "model.safetensors").write_bytes(raw)
    with pytest.raises(ModelFailure, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        await local(read_folder(tiny), tmp_path, worker).embed(["cat"])
    assert not list(tmp_path.glob("*.partial"))


def test_a_batch_holds_like_lengths_and_no_more_than_it_may() -> None:
    lengths = [3, 300, 5, 100, 4, 100, 2]
    found = list(batches(lengths, most=250))
    assert found == [[6, 0, 4, 2], [3, 5], [1]]
    assert passes.BATCH >= 256
