"""`loam search`: the passages of a collection that match."""

import json
import textwrap

import click

from loam.cli.reach import gateway
from loam.cli.show import console, json_option, place, whereabouts

_SHOWN = 320  # characters of a passage; --json has all of it


@click.command(name="search")
@click.argument("question")
@click.option("--in", "collection", required=True, help="The collection to search.")
@click.option("--limit", default=5, show_default=True, help="How many passages.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "lexical", "dense"]),
    default="hybrid",
    show_default=True,
    help="By both, by words, or by meaning.",
)
@click.option("--where", default="", metavar="NAME=VALUE,...", help="Metadata that must match.")
@click.option("--diversity", default=0.0, show_default=True, help="0 to 1: how much new things count.")
@click.option("--neighbours", default=0, show_default=True, help="Passages before and after each that come along.")
@click.option("--rerank", default=0, show_default=True, help="How many of the first are read again and sorted.")
@json_option
def command(question: str, collection: str, as_json: bool, **options: str | int | None) -> None:
    """Show the passages of a collection that match QUESTION, best first."""
    with gateway() as reached:
        found = reached.get(f"/loam/v1/collections/{collection}/search", q=question, **options)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    out = console()
    if not found["passages"]:
        out.print("Nothing matches.")
    for passage in found["passages"]:
        out.print(f"{passage['score']:.3f}  {place(passage)}", style="cyan", markup=False)
        out.print(textwrap.indent(textwrap.shorten(passage["text"], _SHOWN, placeholder=" …"), "    "), markup=False)
        out.print(f"    {whereabouts(passage)}\n", style="dim", markup=False)
    for note in found["notes"]:
        click.secho(note, dim=True, err=True)
