"""Where a checkpoint lies: a folder or file as it is, a hub id in the machine's own cache.

Invariant: the network is reached only where it was asked for, and pickles are never fetched.
"""

from pathlib import Path

from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from loam.core.errors import EngineError

FETCHED = ("*.safetensors", "*.json", "*.model", "*.jinja", "*.tiktoken", "vocab.*", "merges.txt")
"""Weights, configuration, tokenizer and chat template; an adapter's files are among them."""


def resolve(name: Path | str, *, download: bool = False) -> Path:
    """A folder or file as it is; a hub id (`org/name`) to where it lies in the local cache.

    Only `download` reaches for the network. Raises `EngineError`.
    """
    path = Path(name)
    if path.exists():
        return path
    said = str(name)
    if path.suffix == ".gguf" or said.count("/") != 1 or said.startswith((".", "/", "~")):
        raise EngineError(f"{name} does not exist; give a checkpoint's folder, a .gguf file or a hub id (org/name)")
    try:
        return Path(snapshot_download(said, local_files_only=not download, allow_patterns=list(FETCHED)))
    except LocalEntryNotFoundError as absent:
        raise EngineError(f"{name} is not on this machine; `loam models pull {name}` downloads it") from absent
    except (HFValidationError, HfHubHTTPError, OSError, ValueError) as refused:
        raise EngineError(f"{name} could not be fetched ({refused}); check the id and the network") from refused
