"""Gives memory back that holds what a mapped file holds anyway.

Knows the process's mappings (Linux), no checkpoint. Invariant: only pages that nobody has written to are given back;
who reads them again finds the same bytes, fetched from the file.
"""

import ctypes
import mmap
import re
from bisect import bisect_right
from pathlib import Path

from torch import Tensor, nn

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) [0-9a-f]+ \S+ (\d+)")


class Mapped:
    """The mapped files of this process as they were when this was made; empty where the system does not tell."""

    def __init__(self) -> None:
        self._areas = _unwritten()
        self._starts = [start for start, _ in self._areas]
        self._library = ctypes.CDLL(None, use_errno=True) if self._areas else None

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in an unwritten file, in one stretch."""
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            return False
        number = bisect_right(self._starts, tensor.data_ptr()) - 1
        return number >= 0 and tensor.data_ptr() + tensor.nbytes <= self._areas[number][1]

    def give_back(self, tensor: Tensor) -> int:
        """Drops the resident pages that lie wholly within a tensor that an unwritten file holds; how many bytes."""
        if self._library is None or not self.holds(tensor):
            return 0
        first, size = tensor.data_ptr(), tensor.nbytes
        start = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (first + size) // mmap.PAGESIZE * mmap.PAGESIZE - start
        if length <= 0:
            return 0
        failed = self._library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)
        return 0 if failed else length


def held(model: nn.Module) -> int:
    """Bytes of a model's weights that no file holds."""
    mapped = Mapped()
    weights = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in weights.values() if not mapped.holds(tensor))


def _unwritten() -> list[tuple[int, int]]:
    """Where private mappings of files begin and end, in order, of which no page was written to."""
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    areas, area = list[tuple[int, int]](), None
    for line in lines:
        if head := _HEAD.match(line):
            # a private file: its inode is not 0
            area = (int(head[1], 16), int(head[2], 16)) if head[3][3] == "p" and head[4] != "0" else None
        elif line.startswith("Anonymous:") and area and line.split()[1] == "0":
            areas.append(area)
    return areas
