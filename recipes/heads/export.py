"""Turns a finished run into the file that Loam ships, with its card; or only the file, to be measured first.

PYTHONPATH=src python -m recipes.heads.export --encoder FOLDER --made .training --run NAME --out FILE [--figures JSON]
"""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import torch
from recipes.heads.file import tensors, write

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figures", type=Path, help="what evaluate wrote with --json")
    arguments = parser.parse_args()
    settings = tomllib.loads((HERE / "settings.toml").read_text("utf-8"))
    state = torch.load(arguments.made / f"{arguments.run}.pt")
    scale = settings["model"]["alpha"] / settings["model"]["rank"]
    figures = json.loads(arguments.figures.read_text("utf-8")) if arguments.figures else {}
    found = tensors(state["weights"], scale)
    write(arguments.out, found, arguments.encoder, card(arguments.run, settings, figures))
    print(arguments.out, len(found), "tensors,", arguments.out.stat().st_size, "bytes")


def card(run: str, settings: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """What a user must know of the weights: sources and licences, settings, held-out figures."""
    sources = tomllib.loads((HERE / "sources.toml").read_text("utf-8"))
    return {"name": "loam-heads", "run": run, **sources, "settings": settings, "held_out": figures}


if __name__ == "__main__":
    main()
