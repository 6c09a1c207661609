"""The compiled forward for CPUs: C that is built at first use, for the CPU it finds; see docs/design/kernel.md.

Knows what may be missing (a compiler, a family it covers) and says so. Invariant: whatever is missing, the answer is
None and a reason, never an error: plain torch serves then.

    forward = compiled(loaded.model, threads=2) or loaded.model
"""

import logging
from collections.abc import Callable
from pathlib import Path

from loam.engine.kernel import binding, build
from loam.engine.kernel.binding import Kind
from loam.engine.kernel.pack import arena_bytes
from loam.engine.kernel.run import Compiled
from loam.engine.kernel.weights import reason, weights_of
from loam.engine.mapped import held
from loam.engine.memory import available
from loam.engine.transformer import Transformer

__all__ = ["Compiled", "arena_bytes", "compiled"]
_log = logging.getLogger(__name__)


def compiled(
    model: Transformer,
    *,
    threads: int,
    weights: Kind = "int8",
    cache: Path | None = None,
    compiler: str = "cc",
    tell: Callable[[str], None] = _log.info,
    limit: int | None = None,
) -> Compiled | None:
    """A Forward of `model` by the kernel, its weights packed as `weights`; None where there can be none.

    `tell` is called with the reason then; one is that the packed weights are more than the machine has free, or more
    than `limit` bytes leave beside what the model holds itself (what lies in a mapped file leaves memory). `cache` is
    where built libraries lie, ~/.cache/loam/kernel if not given.
    It runs the model's adapters too; the model is kept for what else torch must do (see `run.Compiled`).
    """
    why = reason(model)
    if why:
        tell(f"no compiled kernel for {model.architecture.family}: {why}; torch serves")
        return None
    try:
        library = binding.open_library(build.build(cache=cache, compiler=compiler))
    except build.Unbuilt as missing:
        tell(f"no compiled kernel: {missing}; torch serves, some three times slower")
        return None
    need, room = arena_bytes(model.architecture, weights), available()
    if limit is not None:
        room = min(room, limit - held(model))
    if need > room:
        tell(
            f"no compiled kernel: its weights need {need / 1e6:.0f} MB, and {room / 1e6:.0f} MB are left; torch serves"
        )
        return None
    return Compiled(library, model, weights_of(model), threads=threads, kind=weights)
