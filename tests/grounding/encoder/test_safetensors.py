import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.errors import EncoderError
from loam.grounding.encoder.safetensors import read
from tests.grounding.encoder import made


def test_arrays_and_notes_come_back(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(4, np.float16),
        "none": np.empty((0, 5), np.float32),
    }
    found = read(made.write(tmp_path / "x", arrays, base="abc", card={"f1": 1}))
    assert {name: array.tolist() for name, array in found.arrays.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert found.metadata["base"] == "abc"


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 400]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        7,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(EncoderError, match="damaged"):
        read(tmp_path / "x")


@given(st.binary(min_size=1, max_size=60))
def test_what_is_no_such_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "x"
    file.write_bytes(data)
    with pytest.raises(EncoderError):
        read(file)
