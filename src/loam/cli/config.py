"""`loam config`: what the settings say."""

import json
import os
from pathlib import Path

import click
import msgspec

from loam.grounding.library import shown
from loam.kinds import check, configured


@click.group(name="config")
def command() -> None:
    """Check the settings, or show what they come to."""


_file = click.option("--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Else ./loam.toml.")


@command.command(name="check")
@_file
def check_(file: Path | None) -> None:
    """Read the settings as `loam serve` would, and say what is wrong with them."""
    settings = configured(os.environ, file=file)
    check(settings)
    click.echo(f"The settings are good: {len(settings.providers)} providers, {len(settings.routes)} routes.")


@command.command(name="show")
@_file
def show_(file: Path | None) -> None:
    """Print all settings with their defaults, secrets left out."""
    plain = msgspec.to_builtins(configured(os.environ, file=file))
    for provider in plain["providers"].values():
        if provider.get("api_key"):
            provider["api_key"] = "•••"
        provider["headers"] = dict.fromkeys(provider.get("headers") or {}, "•••")
    store = plain["grounding"]["store"]
    store["url"] = shown(store["url"])
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
