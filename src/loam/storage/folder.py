"""The data folder: one Loam process owns it at a time, because budgets and rate limits are counted in its memory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from loam.core.errors import StorageError


class DataFolder:
    """Holds the folder's lock from `__enter__` to `__exit__`; the lock goes with the process, also with kill -9.

    Raises StorageError when another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> "DataFolder":
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use the data folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StorageError(
                f"the data folder {self.path} is in use by another Loam (process {owner or 'unknown'}); "
                "stop it, or give this one a data folder of its own with LOAM_DATA"
            ) from error
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
