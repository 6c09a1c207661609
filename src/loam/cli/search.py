"""`loam search`: the passages of a collection that match."""

import click

from loam.cli.reach import gateway
from loam.cli.show import json_option, show


@click.command(name="search")
@click.argument("question")
@click.option("--in", "collection", required=True, help="The collection to search.")
@click.option("--limit", default=5, show_default=True, help="How many passages.")
@json_option
def command(question: str, collection: str, limit: int, as_json: bool) -> None:
    """Show the passages of a collection that match QUESTION, best first."""
    with gateway() as reached:
        found = reached.get(f"/loam/v1/collections/{collection}/search", q=question, limit=limit)["passages"]
    show(found, ("score", "title", "section", "text"), as_json=as_json, empty="Nothing matches.")
