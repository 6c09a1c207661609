"""The rules of the house that no linter checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loam.kinds import PROVIDERS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "loam"
MODULES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = {"utils", "helpers", "common", "misc", "base", "manager", "handler", "factory", "impl"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_is_at_most_400_lines(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines; split it by what it knows"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_function_is_at_most_50_lines(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{path.name}: {node.name} is too long"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_names_say_what_a_module_is(path: Path) -> None:
    assert not set(re.split(r"[_.]", path.stem)) & FORBIDDEN


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_changes_globals(path: Path) -> None:
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{path} has no docstring"


def imports(path: Path) -> Iterator[str]:
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_import_goes_in_a_circle() -> None:
    names = {module_name(path): path for path in MODULES}
    graph = {name: {target for target in imports(path) if target in names} - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def names_it(path: Path, provider: str) -> bool:
    """Whether a module has the provider's name as a text of its own, or imports its file."""
    nodes = list(ast.walk(tree(path)))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return provider in texts or any(name.startswith(f"loam.providers.{provider}") for name in imports(path))


def test_a_provider_is_named_in_at_most_two_modules() -> None:
    formats = ("openai", "anthropic", "compatible")  # names of wire formats too, which others build on
    others = {"loam.gateway.door", "loam.gateway.prompt_operations"}  # whose user on this machine is called local
    for kind in PROVIDERS:
        if kind.name not in formats:
            naming = [module_name(path) for path in MODULES if names_it(path, kind.name)]
            naming = [name for name in naming if name not in others]
            assert 1 <= len(naming) <= 2, f"{kind.name} is named in {naming}"


def test_the_gateway_starts_without_heavy_libraries() -> None:
    heavy = (
        "torch",
        "transformers",
        "numpy",
        "pydantic",
        "genai_prices",
        "httpx",
        "aiohttp",
        "openai",
        "anthropic",
        "mcp",
    )
    code = f"import sys, loam.cli.serve; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_waivers_are_few_and_each_has_its_reason() -> None:
    bare = re.compile(r"#\s*noqa(?!: [A-Z0-9, ]+ - )|#\s*type:\s*ignore(?!\[)")
    found = [
        f"{module_name(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert not found
