"""What leaves memory when a file holds it anyway, and how much a process takes that opens a model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from loam.engine import kernel
from loam.engine.kvcache import PagedCache
from loam.engine.load import load
from loam.engine.mapped import Mapped, held
from tests.engine.checkpoints import make

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells a process's mappings")
MIB = 1 << 20


def resident(file: Path) -> int:
    """Bytes of a file that this process has in memory."""
    parts = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    return 1024 * sum(int(re.findall(r"\nRss: +(\d+)", part)[0]) for part in parts if str(file) in part.split("\n")[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"one": torch.arange(4 * MIB, dtype=torch.float32)}, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def test_a_files_pages_leave_and_come_back(file: Path) -> None:
    tensor = safe_open(str(file), framework="pt").get_tensor("one")
    mapped, sums = Mapped(), tensor.sum()
    assert resident(file) >= 16 * MIB
    assert mapped.holds(tensor)
    assert 16 * MIB - 8192 <= mapped.give_back(tensor) <= 16 * MIB
    assert resident(file) < MIB
    assert tensor.sum() == sums


def test_what_was_written_stays(file: Path) -> None:
    tensor = safe_open(str(file), framework="pt").get_tensor("one")
    tensor[2 * MIB] = -5
    mapped = Mapped()
    assert mapped.give_back(tensor) == 0
    assert not mapped.holds(tensor)
    assert tensor[2 * MIB] == -5
    own = torch.ones(4 * MIB)
    assert mapped.give_back(own) == 0
    assert own.sum() == 4 * MIB


def test_a_cache_takes_memory_where_it_is_written(tmp_path: Path) -> None:
    architecture = load(make(tmp_path / "model")).architecture
    before = anonymous()
    cache = PagedCache(architecture, 64 * MIB // (32 * 64))
    assert cache.keys.nbytes >= 64 * MIB
    assert anonymous() - before < MIB
    assert not cache.keys[0].any()
    cache.values[1, 3] = 2
    assert (cache.values[1, 3] == 2).all()
    assert not cache.values[1, 2].any()


def anonymous() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


PEAK = """
import re, sys
from pathlib import Path
import torch
from loam.engine import kernel
from loam.engine.load import load
from loam.engine.transformer import Transformer
def status(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
torch.ones(4).to(torch.bfloat16).float()
before = status("VmRSS")
model = load(Path(sys.argv[1]), weights=sys.argv[2]).model
assert kernel.compiled(model, threads=1, cache=Path(sys.argv[3])) is not None
print(status("VmHWM") - before, kernel.arena_bytes(model.architecture, "int8"))
"""


@pytest.mark.parametrize(
    "kind",
    [
        "bfloat16",
        pytest.param("float32", marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_near_the_packed_weights(
    kind: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = make(tmp_path / "model", "llama", width=512, hidden=2048, layers=12)
    tensors = safe_open(str(folder / "model.safetensors"), framework="pt")
    kept = {name: tensors.get_tensor(name).to(getattr(torch, kind)) for name in tensors.keys()}  # noqa: SIM118
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    built = tmp_path_factory.getbasetemp().parent / "loam-kernels"
    command = [sys.executable, "-c", PEAK, str(folder), "auto", str(built)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, packed = map(int, ran.stdout.split())
    assert packed > 40 * MIB
    assert peak < packed + 40 * MIB  # the file alone has 2 or 4 times as much


def test_a_kernel_that_does_not_fit_is_not_taken(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model, told = load(make(tmp_path / "model"), weights="int8").model, list[str]()
    built = tmp_path_factory.getbasetemp().parent / "loam-kernels"
    need = kernel.arena_bytes(model.architecture, "int8") + held(model)
    assert kernel.compiled(model, threads=1, cache=built, tell=told.append, limit=need - 1) is None
    assert "its weights need" in told[0]
    assert kernel.compiled(model, threads=1, cache=built, limit=need) is not None
