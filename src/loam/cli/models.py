"""`loam models`: what can be asked, and the checkpoints on this machine."""

import json
import time
from contextlib import aclosing
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click

from loam.cli import checkpoint
from loam.cli.reach import gateway
from loam.cli.show import json_option, show
from loam.core.errors import EngineError
from loam.engine.client import EngineProcess, require_engine
from loam.engine.fleet import bytes_on_disk, is_checkpoint
from loam.engine.protocol import Drawing, Order, Request, Weights

_WANTED = ("*.safetensors", "*.json", "*.model", "*.jinja", "*.tiktoken", "vocab.*", "merges.txt")


@click.group(name="models", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List routes, models and collections that can be asked, with their prices in dollars per million tokens.

    The commands below look after checkpoints on this machine, which the local engine runs.
    """
    if context.invoked_subcommand is not None:
        return
    with gateway() as reached:
        rows = reached.get("/loam/v1/models")["models"]
    empty = "Nothing can be asked yet: set a provider's API key (OPENAI_API_KEY, …) or take in documents (loam ingest)."
    show(rows, ("name", "kind", "chain", "input", "output"), as_json=as_json, empty=empty)


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the checkpoints on this machine: ask for one as local/NAME."""
    rows = [
        {"name": name, "size": _bytes(bytes_on_disk(path)), "path": str(path)}
        for name, path in sorted(checkpoint.fleet().paths.items())
    ]
    empty = f"There are no checkpoints in {checkpoint.models_folder()}; `loam models pull ORG/NAME` fetches one."
    show(rows, ("name", "size", "path"), as_json=as_json, empty=empty)


@command.command()
@click.argument("name")
@click.option("--revision", default="main", show_default=True, help="A branch, tag or commit of it.")
def pull(name: str, revision: str) -> None:
    """Fetch a checkpoint from the Hugging Face hub, ORG/NAME, into the models' folder.

    Weights in safetensors, configuration and tokenizer; what was fetched before is not fetched again, and a broken
    download goes on where it stopped. HF_TOKEN opens what needs an account, HF_ENDPOINT names a mirror.

    \b
    loam models pull HuggingFaceTB/SmolLM2-135M-Instruct
    """
    to = checkpoint.models_folder() / name.rpartition("/")[2]
    _fetch(name, revision, to)
    if not is_checkpoint(to):
        raise EngineError(f"{name} came without a config.json, so it is no checkpoint that Loam can run; see {to}")
    click.echo(f"{name} is in {to} ({_bytes(bytes_on_disk(to))}); ask for it as local/{to.name}")


def _fetch(name: str, revision: str, to: Path) -> None:
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as missing:
        raise EngineError("fetching needs huggingface-hub: pip install 'loam[engine]'") from missing
    try:
        hub.snapshot_download(name, revision=revision, local_dir=str(to), allow_patterns=list(_WANTED))
    except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
        words = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"{name} could not be fetched: {words or type(error).__name__}; check the id and the network, "
            f"or put the checkpoint's files into {to} yourself"
        ) from error


@command.command(name="show")
@click.argument("model")
@json_option
def show_(model: str, as_json: bool) -> None:
    """Show what a checkpoint is: its shape, the memory it would take, its chat template."""
    require_engine()
    told: dict[str, Any] = import_module("loam.engine.showing").described(checkpoint.find(model))
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    memory: dict[str, int] = told.pop("memory")
    template = told.pop("template")
    told["cache_of_a_full_context"] = _bytes(told["cache_of_a_full_context"])
    told["parameters"] = f"{told['parameters']:,}"
    for label, value in told.items():
        text = ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
        click.echo(f"{label.replace('_', ' '):<24}{text or '–'}")
    for kind, size in memory.items():
        click.echo(f"{f'memory as {kind}':<24}{_bytes(size)}")
    click.echo(f"{'chat template':<24}{'none: it continues texts' if not template else ''}")
    if template:
        click.secho(template, dim=True)


@command.command()
@click.argument("model", default="pocket")
@click.option("--prompt-tokens", default=256, show_default=True, type=click.IntRange(8), help="Tokens to read.")
@click.option("--tokens", default=64, show_default=True, type=click.IntRange(16), help="Tokens to write.")
@click.option("--at-once", default=8, show_default=True, type=click.IntRange(1), help="Answers in the second run.")
@checkpoint.weights_option
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads that compute; 0: one a core.")
@json_option
def bench(
    model: str, prompt_tokens: int, tokens: int, at_once: int, weights: Weights, threads: int, as_json: bool
) -> None:
    """Measure a checkpoint on this machine: reading a prompt, and writing one answer and several."""
    path = checkpoint.find(model)
    order = Order(name=path.stem, path=str(path), weights=weights, threads=threads, batch=at_once)

    async def measured(engine: EngineProcess) -> list[dict[str, Any]]:
        about = engine.about
        assert about is not None
        read = min(prompt_tokens, about.context // 2)
        write = min(tokens, about.context - read - 1)
        if (read, write) != (prompt_tokens, tokens):
            said = f"a context of {about.context} tokens leaves {read} to read and {write} to write"
            click.secho(said, dim=True, err=True)
        await _run(engine, "warm", 8, 2, 1)
        rows: list[dict[str, Any]] = []
        for answers in dict.fromkeys((1, at_once)):
            first, seconds = await _run(engine, f"b{answers}", read, write, answers)
            rows.append(
                {
                    "answers": answers,
                    "read": f"{read / first:.1f} tokens/s",
                    "write": f"{answers * (write - 1) / max(seconds - first, 1e-9):.1f} tokens/s",
                    "first": f"{first * 1000:.1f} ms",
                    "kernel": about.kernel,
                }
            )
        return rows

    columns = ("answers", "read", "write", "first", "kernel")
    show(checkpoint.run(order, measured), columns, as_json=as_json, empty="")


async def _run(engine: EngineProcess, name: str, read: int, write: int, answers: int) -> tuple[float, float]:
    """Seconds until the first token and until the last, for so many answers to one prompt that nobody asked before."""
    about = engine.about
    assert about is not None
    prompt = [(7 * place + 13 * len(name) + read) % about.vocabulary for place in range(read)]
    request = Request(
        id=name,
        inputs=[prompt],
        n=answers,
        max_tokens=write,
        ignore_end=True,
        logprobs=0,
        draw=Drawing(temperature=0.0),
    )
    start, first = time.perf_counter(), 0.0
    async with aclosing(engine.answer(request)) as deltas:
        async for _ in deltas:
            first = first or time.perf_counter() - start
    return first, time.perf_counter() - start


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
