"""Trains the pocket model from nothing; stops cleanly on Ctrl-C or SIGTERM and goes on from its last checkpoint.

    PYTHONPATH=src python -m recipes.pocket.train --data FOLDER --made .training/pocket

Writes tokenizer.json, the tokens, run.pt (weights, optimisers, place) and curve.csv into the folder of `--made`.
"""

import argparse
import csv
import math
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipes.pocket import text
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from loam.engine.families import read_architecture
from loam.engine.transformer import Transformer

SETTINGS = Path(__file__).parent / "settings.toml"
KINDS = ("shakespeare", "novels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="in place of the settings' number")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # in the background there is no Ctrl-C
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    settings["training"]["steps"] = arguments.steps or settings["training"]["steps"]
    torch.manual_seed(settings["seed"])
    torch.set_num_threads(arguments.threads)
    arguments.made.mkdir(parents=True, exist_ok=True)
    read = prepared(arguments.data, arguments.made, settings["text"])
    Training(read, settings, arguments.made).run()


def prepared(data: Path, made: Path, chosen: dict[str, Any]) -> dict[str, text.Tokens]:
    """Tokenizer and tokens, made once: `KIND-train` and `KIND-held` of every kind of text."""
    if not (made / "tokens.npz").exists():
        split = {
            kind: [text.split(one, chosen["held_out"]) for one in found] for kind, found in text.texts(data).items()
        }
        tokenizer = text.trained_tokenizer(
            (first for pairs in split.values() for first, _ in pairs), chosen["vocabulary"]
        )
        tokenizer.save(str(made / "tokenizer.json"), pretty=False)
        found: dict[str, text.Tokens] = {}
        for kind, pairs in split.items():
            found[f"{kind}-train"] = text.tokens(tokenizer, [first for first, _ in pairs])
            found[f"{kind}-held"] = text.tokens(tokenizer, [last for _, last in pairs])
        np.savez(made / "tokens.npz", **found)
    return dict(np.load(made / "tokens.npz"))


def windows(read: text.Tokens, count: int, length: int, rng: np.random.Generator) -> Tensor:
    """`count` pieces of `length` + 1 tokens from anywhere: (count, length + 1)."""
    starts = rng.integers(0, len(read) - length - 1, count)
    return torch.from_numpy(np.stack([read[start : start + length + 1] for start in starts]).astype(np.int64))


def rate(step: int, chosen: dict[str, Any]) -> float:
    """The share of the full rate at a step: a straight line up, flat, a straight line down (Hu et al. 2024)."""
    left = (chosen["steps"] - step) / max(1, chosen["decay"] * chosen["steps"])
    return max(0.0, min((step + 1) / max(1, chosen["warmup"]), left, 1.0))


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """The mean loss of a token, in nats, of (windows, length + 1) tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch[:, :-1])  # (windows, length, vocabulary)
    return functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


class Bytes:
    """How many bytes the tokens of a text stand for, so that a loss can be told in bits per byte."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = range(tokenizer.get_vocab_size())
        sizes = [0, *(len(tokenizer.id_to_token(token)) for token in ids[1:])]  # byte-level: one character is one byte
        self._sizes = torch.tensor(sizes)

    def bits(self, model: nn.Module, read: text.Tokens, length: int) -> float:
        """Bits per byte of the first 48 windows of a held-out text."""
        count = min(48, (len(read) - 1) // length)
        rows = [read[at * length : (at + 1) * length + 1].astype(np.int64) for at in range(count)]
        nats = weighed = 0.0
        with torch.no_grad():
            for batch in torch.from_numpy(np.stack(rows)).split(8):
                nats += loss_of(model, batch).item() * batch[:, 1:].numel()
                weighed += self._sizes[batch[:, 1:]].sum().item()
        return nats / math.log(2) / weighed


class Training:
    """One run: Muon for the layers' matrices (Jordan et al. 2024), AdamW for embeddings and gains."""

    def __init__(self, read: dict[str, text.Tokens], settings: dict[str, Any], made: Path) -> None:
        self._read, self._settings, self._chosen, self._made = read, settings, settings["training"], made
        self._bytes = Bytes(Tokenizer.from_file(str(made / "tokenizer.json")))
        self._model = begun(settings)
        named = dict(self._model.named_parameters())
        matrices = [weight for name, weight in named.items() if weight.ndim == 2 and "embed" not in name]
        embedding = [weight for name, weight in named.items() if "embed" in name]
        gains = [weight for weight in named.values() if weight.ndim == 1]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=self._chosen["matrix_rate"], weight_decay=0.0),
            torch.optim.AdamW(
                [
                    {"params": embedding, "lr": self._chosen["embedding_rate"]},
                    {"params": gains, "lr": self._chosen["norm_rate"]},
                ],
                betas=(0.9, 0.95),
                weight_decay=0.0,
            ),
        ]
        self._rates = [[group["lr"] for group in one.param_groups] for one in self._optimisers]
        self._step = 0

    def run(self) -> None:
        """Trains to the last step; on Ctrl-C saves and returns."""
        self._resume()
        saved = time.monotonic()
        try:
            while self._step < self._chosen["steps"]:
                self._one()
                if time.monotonic() - saved > self._chosen["checkpoint_seconds"]:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            print(f"stopped at step {self._step}; the same command goes on from there")
        self._save()

    def _one(self) -> None:
        began = time.monotonic()
        share = rate(self._step, self._chosen)
        for optimiser, rates in zip(self._optimisers, self._rates, strict=True):
            for group, full in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = full * share
        loss = loss_of(self._model, self._batch())
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), self._chosen["clip"])
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self._step += 1
        self._note(loss.item(), time.monotonic() - began)

    def _batch(self) -> Tensor:
        """The windows of this step; the step alone decides which, so that a resumed run reads the same."""
        rng = np.random.default_rng((self._settings["seed"], self._step))
        count, length = self._chosen["windows"], self._settings["model"]["context"]
        plays = int(rng.binomial(count, self._settings["text"]["shakespeare"]))
        parts = [
            windows(self._read["shakespeare-train"], plays, length, rng) if plays else None,
            windows(self._read["novels-train"], count - plays, length, rng) if plays < count else None,
        ]
        return torch.cat([part for part in parts if part is not None])

    def _note(self, loss: float, seconds: float) -> None:
        held: list[float | str] = ["" for _ in KINDS]
        if self._step % self._chosen["check_every"] == 0 or self._step == self._chosen["steps"]:
            length = self._settings["model"]["context"]
            held = [round(self._bytes.bits(self._model, self._read[f"{kind}-held"], length), 4) for kind in KINDS]
        with (self._made / "curve.csv").open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([self._step, round(loss, 4), *held, round(seconds, 2)])
        if self._step % 10 == 0:
            said = f"step {self._step}/{self._chosen['steps']}  loss {loss:.3f}  {seconds:.2f} s  held {held}"
            print(said, flush=True)

    def _save(self) -> None:
        state = {
            "weights": self._model.state_dict(),
            "optimisers": [one.state_dict() for one in self._optimisers],
            "step": self._step,
        }
        partial = self._made / "run.part"
        torch.save(state, partial)
        partial.replace(self._made / "run.pt")

    def _resume(self) -> None:
        if (self._made / "run.pt").exists():
            state = torch.load(self._made / "run.pt")
            self._model.load_state_dict(state["weights"])
            for one, kept in zip(self._optimisers, state["optimisers"], strict=True):
                one.load_state_dict(kept)
            self._step = state["step"]


def config_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's config.json: Llama's, in the sizes of the settings."""
    sizes = settings["model"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": settings["text"]["vocabulary"],
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["kv_heads"],
        "intermediate_size": sizes["hidden"],
        "hidden_act": "silu",
        "max_position_embeddings": sizes["context"],
        "rope_theta": sizes["theta"],
        "rms_norm_eps": sizes["norm_eps"],
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def begun(settings: dict[str, Any]) -> Transformer:
    """The model with fresh weights: normal, by the width; what writes into the residual stream begins at zero."""
    model = Transformer(read_architecture(config_of(settings)))
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(weight)
        elif weight.ndim == 2:
            nn.init.normal_(weight, std=0.02 if "embed" in name else weight.shape[1] ** -0.5)
        else:
            nn.init.ones_(weight)
    return model


if __name__ == "__main__":
    main()
