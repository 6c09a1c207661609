"""Turns a run into a file that Loam ships, with its card; or only the file, to be measured first.

    PYTHONPATH=src python -m recipes.heads.export --encoder FOLDER --made .training --run NAME
        --heads span rank --out src/loam/grounding/heads/read-1.safetensors [--calibration JSON] [--figures JSON]

The file holds the heads that are named, so that a run that went on for one purpose replaces nothing of the other.
"""

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from recipes.heads.file import tensors, write
from recipes.heads.model import HEADS

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=list(HEADS))
    parser.add_argument("--calibration", type=Path, help="what recipes.heads.calibrate wrote")
    parser.add_argument("--figures", type=Path, help="what bench.heads wrote with --json")
    arguments = parser.parse_args()
    settings = tomllib.loads((HERE / "settings.toml").read_text("utf-8"))
    state = torch.load(arguments.made / f"{arguments.run}.pt")
    scale = settings["model"]["alpha"] / settings["model"]["rank"]
    found = chosen(tensors(state["weights"], scale), arguments.heads)
    shown = card(f"{arguments.run}, step {state['step']}", settings, _read(arguments.calibration))
    write(arguments.out, found, arguments.encoder, shown | {"held_out": _read(arguments.figures)})
    print(arguments.out, len(found), "tensors,", arguments.out.stat().st_size, "bytes")


def chosen(found: dict[str, torch.Tensor], heads: Sequence[str]) -> dict[str, torch.Tensor]:
    """The tensors without those of the other heads."""
    others = tuple(f"{head}." for head in HEADS if head not in heads)
    return {name: tensor for name, tensor in found.items() if not name.startswith(others or ("-",))}


def card(run: str, settings: dict[str, Any], calibration: dict[str, Any]) -> dict[str, Any]:
    """What a user must know of the weights: sources and licences, settings, how scores become probabilities."""
    sources = tomllib.loads((HERE / "sources.toml").read_text("utf-8"))
    return {"name": "loam-heads", "run": run, **sources, "settings": settings, "calibration": calibration}


def _read(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path else {}


if __name__ == "__main__":
    main()
