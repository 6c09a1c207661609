"""`loam chat`: a conversation in the terminal."""

from typing import Any

import click

from loam.cli.ask import tell
from loam.cli.reach import Gateway, Refused, gateway


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
            answer = _answer(reached, model or f"rag:{collection}", messages)
            if answer is None:
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": answer})


def _line() -> str:
    try:
        return click.prompt(click.style("you", fg="green"), default="", show_default=False, prompt_suffix=" › ").strip()
    except click.Abort:
        click.echo()
        return ""


def _answer(reached: Gateway, model: str, messages: list[dict[str, Any]]) -> str | None:
    """Streams an answer; None when it failed, and then the question is not kept."""
    body = {"model": model, "messages": messages, "stream": True, "loam": {"metadata": True}}
    pieces: list[str] = []
    loam: dict[str, Any] = {}
    try:
        for chunk in reached.events("/v1/chat/completions", body):
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                pieces.append(piece)
                click.echo(piece, nl=False)
            loam = chunk.get("loam") or loam
    except Refused as error:
        click.secho(f"\n{error}", fg="red", err=True)
        return None
    click.echo()
    tell(loam)
    return "".join(pieces)
