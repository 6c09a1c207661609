"""How commands that need no gateway find a checkpoint on this machine and run it.

Knows the data folder's models and the engine's process; imports nothing that needs torch. Invariant: what is missing is
said in one line with the command that brings it.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from loam.core.errors import EngineError
from loam.engine.client import EngineProcess, require_engine
from loam.engine.fleet import GGUF, Fleet
from loam.engine.protocol import Order
from loam.kinds import HERE, configured, named, providers_of

T = TypeVar("T")

model_option = click.option(
    "--model",
    default="pocket",
    show_default=True,
    metavar="PATH|NAME",
    help="A checkpoint's folder or .gguf file, a name in the models' folder, or the small model that ships.",
)

weights_option = click.option(
    "--weights",
    type=click.Choice(["auto", "fp32", "bf16", "int8", "int4"]),
    default="auto",
    show_default=True,
    help="What to compute with; auto: int8 by the compiled kernel, else what the file has.",
)


def models_folder() -> Path:
    """Where checkpoints lie."""
    return Path(providers_of(configured(os.environ))[HERE].engine.folder)


def fleet() -> Fleet:
    """The checkpoints of the settings and the models' folder."""
    return Fleet(HERE, providers_of(configured(os.environ))[HERE].engine)


def find(model: str) -> Path:
    """A checkpoint by its path or name. Raises EngineError."""
    path = named(model) or fleet().paths.get(model.removeprefix(f"{HERE}/"))
    if path is None:
        raise EngineError(
            f"there is no checkpoint {model!r}: neither a folder with config.json, nor a .gguf file, nor a name in "
            f"{models_folder()}; `loam models list` shows what is there, `loam models pull` fetches one"
        )
    return path


def no_path(model: str) -> None:
    """Raises EngineError where a model is named as a path is, and no checkpoint is there."""
    plain = model.removeprefix(f"{HERE}/")
    if (plain.startswith(("/", "./", "../", "~")) or plain.endswith(GGUF)) and named(model) is None:
        raise EngineError(
            f"there is no checkpoint at {plain}: a checkpoint is a folder with config.json, or a .gguf file; "
            "`loam models list` shows what can be asked for by its name"
        )


def text_of(words: str) -> str:
    """The text that a command is given; `-` reads it from the input. Raises click.UsageError where it is none."""
    try:
        text = sys.stdin.buffer.read().decode() if words == "-" else words.encode().decode()
    except UnicodeError as error:
        raise click.UsageError(f"the text is not UTF-8 ({error}); convert it first, as with `iconv`") from error
    if not text:
        raise click.UsageError("there is no text: give it in quotes, or pipe it in and write `-`")
    return text


def run(order: Order, use: Callable[[EngineProcess], Awaitable[T]]) -> T:
    """Opens a checkpoint in a process of its own, for as long as `use` takes. Raises EngineError and ModelFailure."""
    require_engine()

    async def opened() -> T:
        engine = EngineProcess(order)
        await engine.start()
        try:
            return await use(engine)
        finally:
            await engine.close(grace=0)

    return asyncio.run(opened())
