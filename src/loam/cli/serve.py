"""`loam serve`: the gateway, until it is told to stop."""

import os
from pathlib import Path

import click
from msgspec import structs

from loam.config import Settings
from loam.gateway.door import is_loopback
from loam.kinds import configured, with_checkpoint
from loam.serving import Running
from loam.serving import serve as run


@click.command(name="serve")
@click.option(
    "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Settings file; else ./loam.toml."
)
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (default 4100; 0 takes a free one).")
@click.option("--data", help="Folder for everything Loam keeps (default .loam).")
@click.option(
    "--model", "models", multiple=True, metavar="PATH", help="Serve this checkpoint: a folder, a .gguf file, a name."
)
def command(file: Path | None, host: str | None, port: int | None, data: str | None, models: tuple[str, ...]) -> None:
    """Start the gateway.

    With OPENAI_API_KEY, ANTHROPIC_API_KEY, GROQ_API_KEY or TOGETHER_API_KEY set it needs no settings file.
    Point any OpenAI client at http://127.0.0.1:4100/v1, any Anthropic client at http://127.0.0.1:4100.

    With --model it needs no provider at all: the checkpoint is loaded at once and answers as NAME and as local/NAME,
    through every format.
    """
    settings = configured(os.environ, file=file)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = structs.replace(settings, server=structs.replace(settings.server, **changes), data=data or settings.data)
    for model in models:
        settings, _ = with_checkpoint(settings, model)
    run(settings, lambda gateway: _greet(gateway, settings))


def _greet(gateway: Running, settings: Settings) -> None:
    open_ = settings.door.open_on_loopback and is_loopback(settings.server.host)
    click.echo(f"Loam answers at {gateway.url}")
    click.echo(f"  OpenAI clients:     base_url={gateway.url}/v1")
    click.echo(f"  Anthropic clients:  base_url={gateway.url}")
    click.echo(f"  keys:               {'not needed on this machine' if open_ else 'needed (loam keys create)'}")
    click.echo(f"  data:               {Path(settings.data).resolve()}")
    if gateway.admin_key:
        click.echo(f"  admin key (kept in {Path(settings.data) / 'admin-key'}): {gateway.admin_key}")
    for name, provider in settings.providers.items():
        for model in provider.engine.at_start:
            click.echo(f"  in memory:          {name}/{model}")
    for note in gateway.notes:
        click.echo(f"  note:               {note}")
    click.echo("Stop with Ctrl-C; running calls are finished first.")
