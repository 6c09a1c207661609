"""`loam faulty-upstream`: a provider that fails on purpose."""

import click

from loam.providers.faulty import FAULTS, serve


@click.command(name="faulty-upstream")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=4199, show_default=True)
@click.option("--list", "listing", is_flag=True, help="Print the faults and leave.")
def command(host: str, port: int, listing: bool) -> None:
    """Run a provider that speaks OpenAI's and Anthropic's wire format and fails on purpose.

    The model's name chooses the fault: `429-once`, `stream-cut-after-5`, `hang`, … (see --list). Add `#anything` to a
    name to give it a count of its own.
    """
    if listing:
        width = max(len(fault.name) for fault in FAULTS)
        for fault in FAULTS:
            click.echo(f"{fault.name:<{width}}  {fault.description}")
        return
    click.echo(f"A provider that fails on purpose answers at http://{host}:{port}/v1 (stop with Ctrl-C)")
    serve(host, port)
