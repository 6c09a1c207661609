"""A graph open in ONNX Runtime. The only module that imports it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loam.core.errors import EncoderError

_runtime: Any = import_module("onnxruntime")  # it has no types of its own


class Session(Protocol):
    """What Loam uses of an `onnxruntime.InferenceSession`."""

    def run(self, output_names: Sequence[str], input_feed: Mapping[str, NDArray[Any]], /) -> list[NDArray[Any]]: ...


class OnnxForward:
    """Runs batches on at most `threads` threads. Raises EncoderError where the file is none of ours."""

    def __init__(self, file: Path, threads: int) -> None:
        options = _runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # what is freed goes back to the system: batches are rare beside the time a gateway lives
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Session = _runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base but this one
            raise EncoderError(f"ONNX Runtime cannot open {file}: {error}; delete it, it is made anew") from error

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """The outputs asked for, as `loam.grounding.encoder.forward` has them."""
        return self._session.run(outputs, inputs)
