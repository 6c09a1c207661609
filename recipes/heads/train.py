"""Trains the heads; stops cleanly on Ctrl-C or SIGTERM and goes on from its last checkpoint.

    PYTHONPATH=src python -m recipes.heads.train --encoder FOLDER --made .training --run NAME --stage human

Writes NAME.pt (weights, optimiser, place) and NAME.csv (the curve) into the folder of `--made`.
"""

import argparse
import csv
import random
import signal
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from recipes.heads.batches import UNKNOWN, Batch, Example, Pieces, batches, padded
from recipes.heads.claims import Claim, Pair
from recipes.heads.model import HeadedEncoder
from torch.nn import functional

SETTINGS = Path(__file__).parent / "settings.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--stage", required=True, help="a table of settings.toml under [stages]")
    parser.add_argument("--begin", help="a finished run to start from")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # in the background there is no Ctrl-C
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    torch.manual_seed(settings["seed"])
    torch.set_num_threads(arguments.threads)
    model = HeadedEncoder(arguments.encoder, settings["model"])
    if arguments.begin:
        model.take(torch.load(arguments.made / f"{arguments.begin}.pt")["weights"])
    pieces = Pieces(arguments.encoder, settings["model"])
    stage = settings["stages"][arguments.stage]
    examples = {name: read(arguments.made / f"{name}.jsonl", pieces) for name in stage["mix"]}
    Training(model, settings["training"] | stage, settings["seed"], arguments.made / arguments.run).run(examples)


def read(path: Path, pieces: Pieces) -> list[Example]:
    """The examples of a file of make_data."""
    lines = path.read_bytes().splitlines()
    if path.stem.endswith("pairs"):
        return pieces.pairs([msgspec.json.decode(line, type=Pair) for line in lines])
    return pieces.claims([msgspec.json.decode(line, type=Claim) for line in lines])


def losses(scores: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
    """Each head's loss over the pairs that have a target for it."""
    found: dict[str, torch.Tensor] = {}
    if (batch.start != UNKNOWN).any():
        allowed = (batch.mask.bool() & batch.types.bool()) | (torch.arange(batch.pieces.shape[1]) == 0)
        span = scores["span"].masked_fill(~allowed.unsqueeze(-1), -1e4)
        found["start"] = functional.cross_entropy(span[..., 0], batch.start, ignore_index=UNKNOWN)
        found["end"] = functional.cross_entropy(span[..., 1], batch.end, ignore_index=UNKNOWN)
    known = batch.relevant != UNKNOWN
    if known.any():
        found["rank"] = functional.binary_cross_entropy_with_logits(
            scores["rank"][known], batch.relevant[known].float()
        )
    if (batch.label != UNKNOWN).any():
        found["verify"] = functional.cross_entropy(scores["verify"], batch.label, ignore_index=UNKNOWN)
    return found


def order(
    examples: dict[str, list[Example]], mix: dict[str, float], most: int, rng: random.Random
) -> Iterator[list[Example]]:
    """Batches without end; the next one's file by the shares of the mix, each file begun anew once it is through."""
    waiting: dict[str, list[list[Example]]] = {name: [] for name in mix}
    while True:
        name = rng.choices(list(mix), weights=list(mix.values()))[0]
        if not waiting[name]:
            waiting[name] = batches(examples[name], most, rng)
        yield waiting[name].pop()


class Training:
    """One run over a stage: AdamW, warm-up, then a straight line down to `last_rate` of the rate."""

    def __init__(self, model: HeadedEncoder, chosen: dict[str, Any], seed: int, path: Path) -> None:
        self._model, self._chosen, self._path = model, chosen, path
        self._rng = random.Random(seed)
        self._precise = {name: weight.detach().float().clone() for name, weight in model.learning().items()}
        heads = [weight for name, weight in self._precise.items() if name.startswith("heads.")]
        inner = [weight for name, weight in self._precise.items() if not name.startswith("heads.")]
        self._optimiser = torch.optim.AdamW(
            [{"params": inner, "lr": chosen["rate"]}, {"params": heads, "lr": chosen["head_rate"]}],
            weight_decay=chosen["weight_decay"],
            betas=(0.9, 0.98),
        )
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        self._step = 0

    def run(self, examples: dict[str, list[Example]]) -> None:
        """Trains to the last step; on Ctrl-C saves and returns."""
        self._resume()
        stream = order(examples, self._chosen["mix"], self._chosen["batch_pieces"], self._rng)
        for _ in range(self._step):
            next(stream)
        saved = time.monotonic()
        try:
            while self._step < self._chosen["steps"]:
                self._one(padded(next(stream)))
                if time.monotonic() - saved > self._chosen["checkpoint_seconds"]:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            print(f"stopped at step {self._step}; the same command goes on from there")
        self._save()

    def _one(self, batch: Batch) -> None:
        began = time.monotonic()
        self._set_rate()
        found = losses(self._model(batch.pieces, batch.types, batch.mask), batch)
        weights = {
            "rank": self._chosen["rank_weight"],
            "verify": self._chosen["verify_weight"],
            "start": 0.5,
            "end": 0.5,
        }
        total = sum(weights[name] * loss for name, loss in found.items())
        total.backward()
        self._update()
        self._step += 1
        self._note(
            {name: round(float(loss.detach()), 4) for name, loss in found.items()}, batch, time.monotonic() - began
        )

    def _update(self) -> None:
        """One step of the float32 copies, then back into the model."""
        learning = self._model.learning()
        for name, weight in learning.items():
            self._precise[name].grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self._precise.values(), self._chosen["clip"])
        self._optimiser.step()
        self._model.take(self._precise)

    def _set_rate(self) -> None:
        steps, warm = self._chosen["steps"], max(1, int(self._chosen["warmup"] * self._chosen["steps"]))
        last = self._chosen["last_rate"]
        share = min((self._step + 1) / warm, last + (1 - last) * (steps - self._step) / max(1, steps - warm))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share

    def _note(self, found: dict[str, float], batch: Batch, seconds: float) -> None:
        names: Sequence[str] = ("start", "end", "rank", "verify")
        with self._path.with_suffix(".csv").open("a", newline="") as file:
            row = [self._step, *(found.get(name, "") for name in names), batch.mask.sum().item(), round(seconds, 2)]
            csv.writer(file).writerow(row)

    def _save(self) -> None:
        state = {"weights": self._precise, "optimiser": self._optimiser.state_dict(), "step": self._step}
        partial = self._path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._path.with_suffix(".pt"))

    def _resume(self) -> None:
        if self._path.with_suffix(".pt").exists():
            state = torch.load(self._path.with_suffix(".pt"))
            for name, weight in self._precise.items():
                weight.copy_(state["weights"][name])
            self._model.take(self._precise)
            self._optimiser.load_state_dict(state["optimiser"])
            self._step = state["step"]


if __name__ == "__main__":
    main()
