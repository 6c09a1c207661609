"""One thread for all that encoders compute.

Knows nothing of what it runs, and needs no library. Invariant: one thing runs at a time.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from loam.core.errors import EncoderError, refuse

T = TypeVar("T")


class Worker:
    """One thread, which several encoders and heads may share, so that together they never take more cores than one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "loam-encoder")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs it there. Raises what it raises; weights that cannot be used as ModelFailure (unavailable)."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except EncoderError as error:
            raise refuse("unavailable", f"the encoder cannot run: {error}") from error

    def close(self) -> None:
        """Lets the thread end after what it does now."""
        self._thread.shutdown(wait=False, cancel_futures=True)
