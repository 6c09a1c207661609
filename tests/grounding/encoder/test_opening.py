"""What there is to ground with, known when the gateway starts, made when it is first asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from loam.core.errors import SettingsError
from loam.grounding.encoder import opening
from loam.grounding.encoder.choice import open_encoder
from loam.grounding.encoder.settings import EncoderSettings
from loam.grounding.encoder.weights import Weights
from loam.providers.scripted import Scripted
from tests.grounding.encoder import made
from tests.grounding.encoder.conftest import HIDDEN

pytestmark = pytest.mark.anyio

HOUSE = """
import asyncio, sys
from loam.assemble import open_house
from loam.config import parse

async def main():
    async with open_house(parse({"data": sys.argv[1]})):
        print([name for name in ("numpy", "onnxruntime", "usearch", "pypdfium2", "selectolax") if name in sys.modules])

asyncio.run(main())
"""


def test_an_open_gateway_that_nobody_asks_about_documents_loads_no_library_for_them(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", HOUSE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


async def test_a_folder_is_an_encoder_and_has_the_name_of_its_weights(tiny: Path, tmp_path: Path) -> None:
    opened = open_encoder(EncoderSettings(name=str(tiny), backend="numpy"), tmp_path)
    assert opened.encoder is not None
    assert opened.encoder.id.startswith("tiny-encoder/numpy/")
    assert (await opened.encoder.embed(["the cat"])).shape == (1, HIDDEN)
    opened.close()


async def test_a_providers_model_is_an_encoder(tmp_path: Path) -> None:
    opened = open_encoder(EncoderSettings(name="fake/small"), tmp_path, ("fake",))
    assert opened.encoder is None
    encoder = opened.through(Scripted())
    assert encoder is not None
    assert (encoder.id, encoder.size) == ("fake/small", 0)
    vectors = await encoder.embed(["a", "b"])
    assert encoder.size == vectors.shape[1] > 0
    opened.close()


def test_a_name_that_stands_for_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neither minilm, none, a folder"):
        open_encoder(EncoderSettings(name="nothing"), tmp_path)


def test_without_an_encoder_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ask for no encoder" in open_encoder(EncoderSettings(name="none"), tmp_path).notice
    monkeypatch.setattr("loam.grounding.encoder.weights.PACKAGE_FOLDER", "there_is_no_such_package/model")
    opened = open_encoder(EncoderSettings(), tmp_path)
    assert opened.encoder is None
    assert "loam setup encoder" in opened.notice


@pytest.mark.parametrize(
    ("names", "base", "told"),
    [
        ((), None, ""),
        (("span", "rank", "verify"), None, ""),
        (("span", "rank"), None, "not whole"),
        (("span", "rank", "verify"), "other", "another encoder"),
    ],
)
def test_heads_are_used_where_whole_ones_of_this_encoder_ship(
    minilm: Weights, tmp_path: Path, names: tuple[str, ...], base: str | None, told: str
) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    if names:
        arrays = {f"{name}.weight": made.np.zeros((2, 2), "float32") for name in names}
        made.write(heads / "shipped.safetensors", arrays, base=base or minilm.sha256)
    opened = opening.open_encoder(EncoderSettings(), tmp_path, (), heads)
    assert told in opened.notice
    assert bool(opened.notice) == bool(told)
    if names and not told:
        assert opened.heads is not None
        assert opened.heads.id.startswith("shipped/")
    else:
        assert opened.heads is None
