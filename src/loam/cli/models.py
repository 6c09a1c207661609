"""`loam models`: what can be asked."""

import click

from loam.cli.reach import gateway
from loam.cli.show import json_option, show


@click.command(name="models")
@json_option
def command(as_json: bool) -> None:
    """List routes, models and collections that can be asked, with their prices in dollars per million tokens."""
    with gateway() as reached:
        rows = reached.get("/loam/v1/models")["models"]
    empty = "Nothing can be asked yet: set a provider's API key (OPENAI_API_KEY, …) or take in documents (loam ingest)."
    show(rows, ("name", "kind", "chain", "input", "output"), as_json=as_json, empty=empty)
