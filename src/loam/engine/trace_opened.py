"""The glass box over a checkpoint that is open for serving, or opened for the one look.

Knows how checkpoints are opened; what is seen, `trace.py` knows. Invariant: an inspection runs the forward, the weights
and the type of cache that answers are written with.
"""

from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import structs

from loam.engine.inspection import Inspection, Wish
from loam.engine.opening import Opened, open_model
from loam.engine.protocol import Order
from loam.engine.trace import Subject, inspect


def inspect_opened(opened: Opened, wish: Wish) -> Inspection:
    """The inspection of an open checkpoint. Raises ModelFailure for a wish that cannot be met."""
    voice = opened.voice
    subject = Subject(opened.forward, opened.loaded.model, voice.tokenizer, opened.cache_type, voice.stop_tokens)
    return inspect(subject, structs.replace(wish, model=opened.about.name))


def question(opened: Opened, body: Any) -> dict[str, Any]:
    """The question `inspect` of the engine's process: a Wish as plain data in, an Inspection as plain data out."""
    return msgspec.to_builtins(inspect_opened(opened, msgspec.convert(body, Wish, str_keys=True)))


def inspect_file(path: Path, wish: Wish) -> Inspection:
    """The inspection of the checkpoint at `path`. Raises EngineError for its files, ModelFailure for the wish."""
    threads = torch.get_num_threads()  # as the caller's process has it
    opened = open_model(Order(name=path.stem, path=str(path), batch=1, threads=threads))
    try:
        return inspect_opened(opened, wish)
    finally:
        opened.voice.tokenizer.close()
