"""Builds the kernel with the machine's C compiler, once for each source, compiler and kind of CPU.

Knows compilers and CPU features; nothing of models. Invariant: a library in the cache is whole, built from this very
source for features that this CPU has: it is written beside its place and renamed into it, so any number of processes
may build at once.
"""

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("adapter.c", "attention.c", "linear.c", "pool.c", "step.c")
HEADERS = ("kernel.h", "vectors.h")
# Square roots need no errno; sums keep their order (no -ffast-math), and every build fuses a * b + c where the CPU can.
OPTIONS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
QUIET = ("-ffp-contract=fast", "-Wno-psabi")
HERE = Path(__file__).parent
TIME_LIMIT_S = 300


class Unbuilt(Exception):
    """There is no kernel on this machine; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Level:
    """One kind of CPU: the features it must have, as the kernel's name in /proc/cpuinfo, and the compiler's options."""

    name: str
    needs: frozenset[str]
    options: tuple[str, ...]


_AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi2")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=512")
LEVELS = (
    Level(
        "avx512vnni",
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma", "f16c", "bmi2"}),
        (*_AVX2, *_AVX512),
    ),
    Level("avxvnni", frozenset({"avx2", "fma", "f16c", "bmi2", "avx_vnni"}), (*_AVX2, "-mavxvnni")),
    Level("avx2", frozenset({"avx2", "fma", "f16c", "bmi2"}), _AVX2),
    Level("portable", frozenset(), ()),
)
"""Best first; the last runs everywhere."""


def features() -> frozenset[str]:
    """What this CPU can do, as Linux says it; elsewhere nothing is known and the portable level is built."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def level_of(has: frozenset[str]) -> Level:
    """The best level whose needs are met."""
    return next(level for level in LEVELS if level.needs <= has)


def build(*, cache: Path | None = None, compiler: str = "cc", level: Level | None = None) -> Path:
    """The shared library for this CPU, built where it is not there yet. `cache` is ~/.cache/loam/kernel if not given.

    Raises `Unbuilt` without a compiler, and where it fails or the folder can't be written.
    """
    chosen = level or level_of(features())
    found = shutil.which(compiler)
    if found is None:
        raise Unbuilt(f"there is no C compiler ({compiler}); on Debian, apt-get install gcc")
    folder = cache or _home()
    try:
        target = folder / f"{chosen.name}-{_key(found, chosen)}.so"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _compile(found, chosen, target)
    except OSError as error:
        raise Unbuilt(f"the kernel could not be built in {folder}: {error}") from error
    return target


def _home() -> Path:
    try:
        return Path.home() / ".cache" / "loam" / "kernel"
    except RuntimeError as homeless:  # no HOME, and no user of this number
        raise Unbuilt(f"there is no folder to build the kernel in: {homeless}; set HOME") from homeless


def load(path: Path) -> ctypes.CDLL:
    """The library, open. Raises `Unbuilt` where the system refuses it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Unbuilt(f"{path} could not be loaded ({error}); remove it and it is built anew") from error


def _key(compiler: str, level: Level) -> str:
    digest = hashlib.sha256()
    version = _run([compiler, "--version"]).stdout
    for part in (version, platform.machine(), *OPTIONS, *QUIET, *level.options):
        digest.update(part.encode() + b"\0")
    for name in (*HEADERS, *SOURCES):
        digest.update((HERE / name).read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _compile(compiler: str, level: Level, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        out = Path(scratch) / target.name
        sources = [str(HERE / name) for name in SOURCES]
        done = _run([compiler, *OPTIONS, *QUIET, *level.options, *sources, "-o", str(out), "-lm"])
        if done.returncode:
            words = done.stderr.strip()[-800:] or f"it ended with {done.returncode} and said nothing"
            raise Unbuilt(f"{compiler} could not build the kernel: {words}")
        out.replace(target)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)  # noqa: S603 - the compiler, on files of this package
    except OSError as error:
        raise Unbuilt(f"{command[0]} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Unbuilt(f"{command[0]} took longer than {TIME_LIMIT_S} s") from error
