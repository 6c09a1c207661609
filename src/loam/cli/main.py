"""`loam`: the list of commands. Each is loaded only when it is asked for, so that starting one is quick."""

import errno
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from loam import __version__
from loam.core.errors import LoamError, ModelFailure

COMMANDS = {
    "serve": "Start the gateway.",
    "ask": "Ask one question, of a model or of your documents.",
    "chat": "Talk with a model in the terminal.",
    "generate": "Continue a text or answer, with a checkpoint on this machine.",
    "tokenize": "Show a text as the tokens that a checkpoint reads.",
    "inspect": "Show how a local model continues a text, token by token.",
    "ingest": "Take documents into a collection.",
    "search": "Show the passages of a collection that match a question.",
    "rag": "Measure how well a collection is searched, answered from and cited.",
    "lint": "Find what a prompt leaves open, and prove that a better one is better.",
    "prompts": "Push, show and compare prompts, and move their labels.",
    "agent": "Run agents, look at their runs, and decide what they may do.",
    "keys": "Make, list and disable the keys of users and teams.",
    "budgets": "Limit what a key, a user or a team may spend.",
    "calls": "List, show and follow the calls on record.",
    "models": "List what can be asked; fetch, look at and measure checkpoints.",
    "setup": "Fetch what Loam does not bring along: the encoder's weights.",
    "config": "Check the settings, or show what they come to.",
    "doctor": "Look for what is wrong with this installation.",
    "faulty-upstream": "Run a provider that fails on purpose, for tests.",
    "docs": "Print the reference pages.",
}


class _Lazy(click.Group):
    """Knows the commands' names and one line on each without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"loam.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would end with 1
            unread()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="loam %(version)s")
def program() -> None:
    """Loam: own the whole path of an LLM answer, from tokens to production.

    Begin with `loam doctor`, then `loam serve`, then point any OpenAI or Anthropic client at it.
    """


def unread(status: int = 0) -> NoReturn:
    """Ends without another word on the output: whoever read it (`| head`) has seen enough, or it is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written goes nowhere
    sys.exit(status)


def main() -> None:
    """The entry point: errors that Loam raises on purpose are one line, not a traceback."""
    try:
        status = program(standalone_mode=False)  # what a command leaves by `Exit` comes back as a number
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ModelFailure as error:
        click.secho(f"loam: {error}", fg="red", err=True)
        sys.exit(3)
    except LoamError as error:
        click.secho(f"loam: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        unread()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        click.secho(f"loam: {error.strerror}: what was written is not whole", fg="red", err=True)
        unread(2)
