"""Building the kernel: once, whole, by many at a time; and what is said where it can't be built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loam.engine import kernel
from loam.engine.kernel import binding, build
from loam.engine.load import load
from tests.engine.checkpoints import make

QUICK = build.Level("quick", frozenset(), ("-O0",))


def test_each_level_is_chosen_by_what_the_cpu_can_do() -> None:
    avx2 = {"avx2", "fma", "f16c", "bmi2"}
    avx512 = avx2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    for has, name in (
        (set[str](), "portable"),
        ({"avx2"}, "portable"),
        (avx2, "avx2"),
        (avx512, "avx2"),
        (avx2 | {"avx_vnni"}, "avxvnni"),
        (avx512 | {"avx512_vnni"}, "avx512vnni"),
        (avx512 | {"avx512_vnni", "avx_vnni"}, "avx512vnni"),
    ):
        assert build.level_of(frozenset(has)).name == name


def test_a_library_is_built_once(tmp_path: Path) -> None:
    first = build.build(cache=tmp_path, level=QUICK)
    when = first.stat().st_mtime_ns
    assert build.build(cache=tmp_path, level=QUICK) == first
    assert first.stat().st_mtime_ns == when
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    binding.open_library(first)


def test_many_may_build_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from loam.engine.kernel import binding, build; "
        "binding.open_library(build.build(cache=Path(sys.argv[1]), level=build.Level('quick', frozenset(), ('-O0',))))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    builders = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment) for _ in range(3)]
    assert [builder.wait(timeout=120) for builder in builders] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def broken(tmp_path: Path, script: str) -> str:
    """A compiler that does what `script` says."""
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    return str(compiler)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("test $1 = --version && exit 0; echo 'vectors.h: no such thing' >&2; exit 1", "no such thing"),
        (
            'for last; do :; done; test "$1" = --version || { while test $1 != -o; do shift; done; echo x >$2; }',
            "loaded",
        ),
    ],
)
def test_a_broken_compiler_leaves_torch_to_serve(script: str, said: str, tmp_path: Path) -> None:
    model, told = load(make(tmp_path / "model")).model, list[str]()
    compiler = broken(tmp_path, script)
    got = kernel.compiled(model, threads=1, cache=tmp_path / "built", compiler=compiler, tell=told.append)
    assert got is None
    assert said in told[0]


def test_no_compiler_is_told(tmp_path: Path) -> None:
    told = list[str]()
    model = load(make(tmp_path / "model")).model
    assert kernel.compiled(model, threads=1, cache=tmp_path, compiler="no-such-cc", tell=told.append) is None
    assert "apt-get install gcc" in told[0]


def test_a_compiler_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "cc").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "cc").chmod(0o755)
    with pytest.raises(build.Unbuilt, match="cannot be run"):
        build.build(cache=tmp_path, compiler=str(tmp_path / "cc"))


@pytest.mark.parametrize(
    ("stale", "said"),
    [("cut", "could not be loaded"), ("empty", "could not be loaded"), ("strange", "not this kernel")],
)
def test_a_library_that_is_none_is_told(stale: str, said: str, tmp_path: Path) -> None:
    there = build.build(cache=tmp_path, level=QUICK)
    if stale == "strange":
        (tmp_path / "strange.c").write_text("int loam_new(int threads) { return threads; }")
        subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "strange.c", "-o", there], check=True)
    else:
        there.write_bytes(there.read_bytes()[: 40 if stale == "cut" else 0])
    with pytest.raises(build.Unbuilt, match=said):
        binding.open_library(build.build(cache=tmp_path, level=QUICK))
    there.unlink()
    anew = build.build(cache=tmp_path, level=QUICK)
    assert anew == there
    if stale != "strange":  # what was once loaded from a path stays it for this process
        binding.open_library(anew)


FULL = """
import resource, sys
from pathlib import Path
from loam.engine.kernel import build
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # what a full disk looks like to a compiler
try:
    build.build(cache=Path(sys.argv[1]), level=build.Level("quick", frozenset(), ("-O0",)))
except build.Unbuilt as why:
    print(why)
"""


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert "could not build the kernel" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_nobody_without_a_home_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(build.Unbuilt, match="set HOME"):
        build.build(level=QUICK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(build.Unbuilt, match="Permission denied"):
        build.build(cache=tmp_path / "built", level=QUICK)


def test_a_folder_of_the_system_is_told() -> None:
    with pytest.raises(build.Unbuilt, match="could not be built in /proc/loam"):
        build.build(cache=Path("/proc/loam"), level=QUICK)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    told = list[str]()
    (tmp_path / "file").write_text("")
    model = load(make(tmp_path / "model")).model
    assert kernel.compiled(model, threads=1, cache=tmp_path / "file" / "built", tell=told.append) is None
    assert "could not be built" in told[0]
