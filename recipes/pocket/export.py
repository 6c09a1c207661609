"""Writes the folder that ships: weights in bf16, config, tokenizer and card, as transformers reads it too.

PYTHONPATH=src python -m recipes.pocket.export --made .training/pocket --out src/loam/engine/pocket
"""

import argparse
import csv
import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import torch
from recipes.pocket.text import END
from recipes.pocket.train import SETTINGS, begun, config_of

from loam.engine.load import save

SOURCES = Path(__file__).parent / "sources.toml"
COLUMNS = ("step", "loss", "shakespeare_bits_per_byte", "novels_bits_per_byte", "seconds")
STRETCH = 20
TEMPLATE = (  # a conversation is a scene of a play, the form that the model has read
    "{% for message in messages %}{{ message['role'] | upper }}:\n{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:\n{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    state = torch.load(arguments.made / "run.pt")
    export(state["weights"], settings, arguments.made / "tokenizer.json", arguments.out)
    rows = list(csv.reader((arguments.made / "curve.csv").open(newline="")))
    thinned(rows, SETTINGS.parent / "curves" / "pocket.csv")
    (arguments.out / "CARD.md").write_text(card(settings, rows, arguments.out), "utf-8")


def export(weights: dict[str, torch.Tensor], settings: dict[str, Any], tokenizer: Path, out: Path) -> None:
    """The checkpoint, without its card."""
    model = begun(settings)
    model.load_state_dict(weights)
    save(model.bfloat16(), out, config_of(settings))
    shutil.copy(tokenizer, out / "tokenizer.json")
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "model_max_length": settings["model"]["context"],
        "chat_template": TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(said, indent=1) + "\n", "utf-8")


def thinned(rows: list[list[str]], out: Path) -> None:
    """Keeps the curve: the mean loss of every stretch of steps, and what was held out at its last step that looked."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for start in range(0, len(rows), STRETCH):
            stretch = rows[start : start + STRETCH]
            held = next((row[2:4] for row in reversed(stretch) if row[2]), ["", ""])
            means = [round(sum(float(row[at]) for row in stretch) / len(stretch), 3) for at in (1, 4)]
            writer.writerow([stretch[-1][0], means[0], *held, means[1]])


def card(settings: dict[str, Any], rows: list[list[str]], folder: Path) -> str:
    """CARD.md: what the model is, where it comes from, under which licence, and what it reaches."""
    chosen, training = settings["model"], settings["training"]
    last = next(row for row in reversed(rows) if row[2])
    weights = folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    tokens = int(rows[-1][0]) * training["windows"] * chosen["context"]
    texts = tomllib.loads(SOURCES.read_text("utf-8"))["texts"]
    parts = [
        "# The pocket model",
        "A small decoder of Llama's shape, trained from nothing by `recipes/pocket`, for demonstrations and tests. It "
        "writes what looks like Shakespeare's plays or a Victorian novel, and knows nothing: use it to see how text is "
        "generated, never for what it says.",
        "Licence: the texts are in the public domain; the weights come under the licence of the code, Apache-2.0.",
        f"- {chosen['layers']} layers of width {chosen['width']}, {chosen['heads']} heads ({chosen['kv_heads']} for "
        f"keys and values), MLP of {chosen['hidden']}, {settings['text']['vocabulary']:,} tokens, tied embeddings, "
        f"context {chosen['context']}\n"
        f"- {weights.stat().st_size:,} bytes of bf16 weights; SHA-256 {digest}\n"
        f"- {rows[-1][0]} steps, {tokens:,} tokens read",
        "## Held out",
        f"The last {settings['text']['held_out']:.0%} of every text. Bits per byte at step {last[0]}: plays {last[2]}, "
        f"novels {last[3]}. The curve: `recipes/pocket/curves/pocket.csv`.",
        "## Learned from",
        "\n".join(f"- {text}" for text in texts),
        "## Settings",
        f"```json\n{json.dumps(settings, indent=1)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
