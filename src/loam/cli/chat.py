"""`loam chat`: a conversation in the terminal."""

import sys
from typing import Any

import click

from loam.cli import checkpoint
from loam.cli.ask import said, tell
from loam.cli.reach import Gateway, Refused, gateway
from loam.kinds import asked_as

_HELP = "/reset begins anew, /system TEXT changes the system message, Ctrl-C stops an answer, Ctrl-D ends"


@click.command(name="chat")
@click.option("--model", help="Model or route to talk with; a checkpoint by its path, or as local/NAME.")
@click.option("--in", "collection", help="Answer from this collection of documents.")
@click.option("--system", default="", help="A system message.")
@click.option("--temperature", type=float, help="0 is the likeliest answer, higher is more varied.")
@click.option("--max-tokens", type=int, help="Longest answer in tokens.")
def command(
    model: str | None, collection: str | None, system: str, temperature: float | None, max_tokens: int | None
) -> None:
    """Talk with a model. An empty line or Ctrl-D ends.

    /reset (or /new) begins anew; /system TEXT sets the system message and begins anew; /help says so again. Ctrl-C
    stops an answer, of which what was said stays in the conversation.

    \b
    loam chat --model gpt-5-mini
    loam chat --model local/models/SmolLM2-135M-Instruct
    """
    if model is None and collection is None:
        raise click.UsageError("name a --model, or a collection with --in (`loam models` lists what can be asked)")
    checkpoint.no_path(model or "")
    body: dict[str, Any] = {"model": asked_as(model) if model else f"rag:{collection}"}
    body["loam"] = {"metadata": True, **({"collection": collection} if collection and model else {})}
    body |= {} if temperature is None else {"temperature": temperature}
    body |= {} if max_tokens is None else {"max_tokens": max_tokens}
    with gateway(model=model or "") as reached:
        talk = _Talk(reached, body, system)
        talk.run()
    if talk.failed and not sys.stdin.isatty():
        raise click.exceptions.Exit(3)  # a script sees it, as it does with other commands


class _Talk:
    """A conversation: `body` is what each question is asked with."""

    def __init__(self, reached: Gateway, body: dict[str, Any], system: str) -> None:
        self._reached = reached
        self._body = body
        self._messages: list[dict[str, Any]] = []
        self.failed = False
        """Whether a question got no answer."""
        self._begin(system)

    def _begin(self, system: str) -> None:
        self._system = system
        self._messages = [{"role": "system", "content": system}] if system else []

    def run(self) -> None:
        while line := _line():
            command, _, rest = line.partition(" ")
            if command in ("/reset", "/new"):
                self._begin(self._system)
            elif command == "/system":
                self._begin(rest.strip())
            elif command == "/help":
                click.secho(_HELP, dim=True)
            elif command.startswith("/"):
                click.secho(f"{command} is not known; {_HELP}", fg="yellow")
            else:
                self._ask(line)

    def _ask(self, line: str) -> None:
        asked = [*self._messages, {"role": "user", "content": line}]
        pieces: list[str] = []
        try:
            answer = said(self._reached, {**self._body, "messages": asked}, pieces)
        except Refused as error:
            click.secho(f"\n{error}", fg="red", err=True)
            self.failed = True
            return
        except KeyboardInterrupt:
            click.secho("\nstopped", dim=True)
            if not pieces:
                return
            self._messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]
            return
        self._messages = [*asked, {"role": "assistant", "content": answer.text}]
        tell(answer.loam)


def _line() -> str:
    if not sys.stdin.isatty():  # a script's questions, one a line, need no prompt
        return sys.stdin.readline().strip()
    try:
        return click.prompt(click.style("you", fg="green"), default="", show_default=False, prompt_suffix=" › ").strip()
    except click.Abort:
        click.echo()
        return ""
