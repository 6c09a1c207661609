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


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    told = list[str]()
    (tmp_path / "file").write_text("")
    model = load(make(tmp_path / "model")).model
    assert kernel.compiled(model, threads=1, cache=tmp_path / "file" / "built", tell=told.append) is None
    assert "could not be built" in told[0]
