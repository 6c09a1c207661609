"""Opens a checkpoint for serving: weights, forward, cache, tokenizer and what its files recommend, as one thing.

Knows every part of the engine. Invariant: what cannot be served is refused here, in words that name file and remedy,
before the first answer is asked.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from loam.core.errors import EngineError
from loam.engine.adapters import read_adapter
from loam.engine.architecture import Architecture
from loam.engine.constrain import grammar_of, grammar_tokens
from loam.engine.drawing import defaults_of
from loam.engine.engine import Engine, EngineSettings, page_bytes
from loam.engine.exact import Exact
from loam.engine.kernel import Compiled, arena_bytes, compiled
from loam.engine.kernel.binding import Kind
from loam.engine.kvcache import PAGE, PagedCache
from loam.engine.load import Loaded, load
from loam.engine.mapped import held
from loam.engine.memory import Limit
from loam.engine.protocol import About, Order, Weights
from loam.engine.rows import Forward
from loam.engine.text import Voice
from loam.engine.tokenizer import Tokenizer, read_object

_log = logging.getLogger("loam.engine")
_SHARE = 0.25
"""Of the free memory, what the cache may take where nobody says."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint that answers. `loaded.model` is the plain decoder, `forward` what the engine runs."""

    engine: Engine
    voice: Voice
    about: About
    loaded: Loaded
    forward: Forward
    cache_type: torch.dtype


def open_model(order: Order, limit: Limit = None) -> Opened:
    """`limit` is the most bytes of weights, those of a draft apart from the model's. Raises EngineError."""
    threads = order.threads or _cores()
    torch.set_num_threads(threads)
    path = Path(order.path)
    tokenizer = Tokenizer.open(path)
    loaded = load(path, weights=order.weights, device=order.device, memory_limit=limit)
    for name, folder in order.adapters.items():
        loaded.model.adapters[name] = read_adapter(name, Path(folder), loaded.model)
    forward, kernel = _forward(order, loaded, threads)
    architecture = loaded.architecture
    draft = _draft(order, architecture, limit)
    # a guess need not be the same in any batch: where torch makes it, not in its exact form
    guesser = draft and (_kernel(order, draft, threads, _log.info) or draft.model)
    stops = loaded.stop_tokens | tokenizer.stop_tokens
    written = tokenizer.as_json()
    # the kernel reads half the bytes; where all is to be fp32, so are keys and values
    cache_type = torch.float16 if isinstance(forward, Compiled) and forward.kind != "fp32" else torch.float32
    cache = PagedCache(architecture, _pages(order, architecture, cache_type), dtype=cache_type, device=order.device)
    engine = Engine(
        forward,
        cache,
        EngineSettings(batch=order.batch, queue=order.batch + order.queue),  # a batch that comes at once waits first
        draft=guesser,
        tokens=grammar_tokens(written, vocabulary=architecture.vocabulary, stop_tokens=stops) if written else None,
        adapters=frozenset(order.adapters),
    )
    voice = Voice(
        tokenizer=tokenizer,
        context=min(engine.context, order.context or engine.context),
        vocabulary=architecture.vocabulary,
        stop_tokens=stops,
        defaults=defaults_of(read_object(path / "generation_config.json")) if path.is_dir() else defaults_of({}),
        grammar=grammar_of,
        adapters=tuple(order.adapters),
    )
    taken = _bytes(loaded, forward) + (_bytes(draft, guesser) if draft and guesser else 0)
    about = _about(order, loaded, voice, kernel, taken)
    return Opened(engine, voice, about, loaded, forward, cache_type)


def _forward(order: Order, loaded: Loaded, threads: int) -> tuple[Forward, str]:
    """What runs the decoder, and what that is, in words: the compiled kernel where it can, else torch.

    The kernel keeps a promise that torch has to be made to keep: a token is the same alone and in any batch (P9).
    """
    said: list[str] = []
    kernel = _kernel(order, loaded, threads, said.append)
    if kernel is not None:
        return kernel, f"compiled kernel, {kernel.kind} weights, {threads} threads"
    loaded.model.exact = Exact() if order.exact else None
    return loaded.model, "; ".join(["torch" + (", the same in any batch" if order.exact else ""), *said])


def _kernel(order: Order, loaded: Loaded, threads: int, tell: Callable[[str], None]) -> Compiled | None:
    kinds: dict[Weights, Kind] = {"auto": "int8", "int8": "int8", "bf16": "bf16", "fp32": "fp32"}
    if order.weights not in kinds:
        tell(f"{order.weights} weights are run by torch")
        return None
    if order.device != "cpu":
        return None
    return compiled(loaded.model, threads=threads, weights=kinds[order.weights], tell=tell)


def _draft(order: Order, architecture: Architecture, limit: Limit) -> Loaded | None:
    if not order.draft:
        return None
    draft = load(Path(order.draft), weights=order.weights, device=order.device, memory_limit=limit)
    if draft.architecture.vocabulary != architecture.vocabulary:
        raise EngineError(
            f"{order.draft} cannot guess for {order.path}: its vocabulary has {draft.architecture.vocabulary} tokens, "
            f"not {architecture.vocabulary}; use a smaller model of the same family"
        )
    return draft


def _pages(order: Order, architecture: Architecture, cache_type: torch.dtype) -> int:
    """Pages of the cache: as many as a full batch needs, within what memory allows."""
    context = min(architecture.context, order.context or architecture.context)
    one = -(-context // PAGE)
    most = (order.cache or int(_SHARE * _free())) // page_bytes(architecture, cache_type)
    if most < 2:
        raise EngineError(
            f"{order.path}: no memory is left for keys and values; set a smaller context, or more bytes for `cache`"
        )
    return min(one * order.batch + order.batch, most)


def _free() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _about(order: Order, loaded: Loaded, voice: Voice, kernel: str, taken: int) -> About:
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in _tensors(loaded)}
    return About(
        name=order.name,
        path=order.path,
        family=loaded.architecture.family,
        parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        bytes=taken,
        context=voice.context,
        vocabulary=loaded.architecture.vocabulary,
        weights=order.weights if order.weights != "auto" else "+".join(sorted(kinds)),
        device=order.device,
        template=bool(voice.tokenizer.template()),
        tools=voice.form,
        kernel=kernel,
    )


def _bytes(loaded: Loaded, forward: Forward) -> int:
    """What the weights take of the memory: the kernel's packed ones, and of torch's what no mapped file holds."""
    if isinstance(forward, Compiled):
        return held(loaded.model) + arena_bytes(loaded.architecture, forward.kind)
    return sum(tensor.nbytes for tensor in _tensors(loaded))


def _tensors(loaded: Loaded) -> list[torch.Tensor]:
    """Each tensor of a model once, also where two modules share it."""
    return [*{id(one): one for one in (*loaded.model.parameters(), *loaded.model.buffers())}.values()]
