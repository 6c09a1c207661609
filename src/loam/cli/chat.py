"""`loam chat`: a conversation in the terminal."""

from typing import Any

import click

from loam.cli.ask import said, tell
from loam.cli.reach import Refused, gateway


@click.command(name="chat")
@click.option("--model", help="Model or route to talk with.")
@click.option("--in", "collection", help="Answer from this collection of documents.")
@click.option("--system", help="A system message.")
def command(model: str | None, collection: str | None, system: str | None) -> None:
    """Talk with a model. An empty line or Ctrl-D ends; /new begins anew."""
    if model is None and collection is None:
        raise click.UsageError("name a --model, or a collection with --in (`loam models` lists what can be asked)")
    begin: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages = list(begin)
    with gateway() as reached:
        while True:
            line = _line()
            if not line:
                return
            if line == "/new":
                messages = list(begin)
                continue
            messages.append({"role": "user", "content": line})
            loam = {"metadata": True, **({"collection": collection} if collection and model else {})}
            body = {"model": model or f"rag:{collection}", "messages": messages, "loam": loam}
            try:
                answer = said(reached, body)
            except Refused as error:
                click.secho(f"\n{error}", fg="red", err=True)
                messages.pop()
                continue
            messages.append({"role": "assistant", "content": answer.text})
            tell(answer.loam)


def _line() -> str:
    try:
        return click.prompt(click.style("you", fg="green"), default="", show_default=False, prompt_suffix=" › ").strip()
    except click.Abort:
        click.echo()
        return ""
