"""Prints the card of shipped heads: what they are, where they come from, under which licence, what they reach.

    python -m recipes.heads.card src/loam/grounding/heads

Writes CARD.md into the folder, from the files' own headers. Needs no torch.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HEADS = ("span", "rank", "verify")


def main(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    (folder / "CARD.md").write_text(page(files), "utf-8")
    print((folder / "CARD.md").read_text("utf-8"))


def page(files: Sequence[Path]) -> str:
    """The card of all files together; what they share is said once."""
    headers = [header(file) for file in files]
    cards = [json.loads(one["__metadata__"]["card"]) for one in headers]
    first = cards[0]
    parts = [
        "# Trained heads of Loam",
        "Small changes to a frozen encoder, by which Loam finds the words that answer a question, orders passages, and "
        "tells whether a passage supports a sentence. English. They judge texts; they write none.",
        f"Encoder: {first['encoder']}.\nLicence of the weights in this folder: {first['licence']}. "
        f"{first['licence_note']}",
        "## Files",
        *(_file(file, one, card) for file, one, card in zip(files, headers, cards, strict=True)),
        "## Learned from",
        "\n".join(f"- {row['name']}: {row['licence']}; {row['authors']}" for row in first["data"]),
        "## Settings",
        _block(first["settings"]),
        "## Calibration",
        "A score s becomes the probability sigmoid((s - shift) / temperature); fitted on squad-val. The verify head's "
        "probabilities are weighed with the checks by words (`checks/support.toml`); so are the reader's three looks "
        "at the sentence that it would answer from (`checks/answered.toml`).",
        _block(first["calibration"]),
        "## Held out",
        "Measured by `python -m bench.heads` on squad-val, three articles that no training saw; it chose thresholds "
        "and checkpoints.",
        _block(first["held_out"]),
    ]
    return "\n\n".join(parts) + "\n"


def header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file."""
    raw = file.read_bytes()
    found: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return found


def _file(file: Path, found: dict[str, Any], card: dict[str, Any]) -> str:
    heads = ", ".join(head for head in _HEADS if f"{head}.weight" in found)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"- `{file.name}`: heads {heads}; {file.stat().st_size} bytes; run {card['run']}; SHA-256 {digest}"


def _block(value: dict[str, Any]) -> str:
    return f"```json\n{json.dumps(value, indent=1, ensure_ascii=False)}\n```"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
