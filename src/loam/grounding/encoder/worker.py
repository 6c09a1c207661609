"""One thread for all that encoders compute.

Knows nothing of what it runs, and needs no library. Invariant: one thing runs at a time.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from loam.core.errors import EncoderError, ModelFailure, refuse

FAILED = "encoder_failed"
"""The code of a failure that comes from weights and what computes with them, and from no provider."""

T = TypeVar("T")


class Worker:
    """One thread, which several encoders and heads may share, so that together they never take more cores than one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "loam-encoder")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs it there. Raises ModelFailure (unavailable, with the code FAILED) for whatever keeps it from running."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except EncoderError as error:
            raise _cannot_run(str(error)) from error
        except Exception as error:  # a file that is damaged within, too little memory: ONNX Runtime's have no base
            raise _cannot_run(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Lets the thread end after what it does now."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _cannot_run(why: str) -> ModelFailure:
    return refuse("unavailable", f"the encoder cannot run: {why}", code=FAILED)
