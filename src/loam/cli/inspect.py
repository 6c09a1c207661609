"""`loam inspect`: how a model continues a text, token by token."""

from typing import Any

import click
import msgspec

from loam.cli import checkpoint
from loam.cli.inspect_picture import LAYER_LEGEND, LEGEND, WIDTH, draw
from loam.cli.reach import gateway
from loam.cli.show import console
from loam.engine.inspection import PATH, Inspection, Wish
from loam.kinds import named

_POCKET = "pocket"


def _help() -> str:
    rows = [f"  {name:<16} {meaning}" for name, meaning in (*LEGEND, *LAYER_LEGEND)]
    return "\b\nWhat the numbers say:\n" + "\n".join(rows)


@click.command(name="inspect", epilog=_help())
@click.argument("prompt")
@click.option(
    "--model",
    default=_POCKET,
    show_default=True,
    metavar="PATH|NAME",
    help="A checkpoint's folder or .gguf file, the model that ships, or a local model of the gateway.",
)
@click.option("--steps", default=5, show_default=True, type=click.IntRange(0, 64), help="How many tokens are written.")
@click.option("--temperature", default=1.0, show_default=True, help="Logits are divided by it; 0 takes the likeliest.")
@click.option("--top-k", default=0, show_default=True, help="Keep the K likeliest tokens; 0 keeps all.")
@click.option("--top-p", default=1.0, show_default=True, help="Keep the fewest tokens that make up this probability.")
@click.option("--min-p", default=0.0, show_default=True, help="Keep tokens with this share of the likeliest's chance.")
@click.option(
    "--repetition-penalty", default=1.0, show_default=True, help="Above 1: what was said before becomes less likely."
)
@click.option(
    "--frequency-penalty", default=0.0, show_default=True, help="Taken from a logit for each time it was written."
)
@click.option("--presence-penalty", default=0.0, show_default=True, help="Taken from a logit once it was written.")
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same tokens.")
@click.option(
    "--candidates", default=8, show_default=True, type=click.IntRange(1, 50), help="Likeliest tokens shown a step."
)
@click.option(
    "--at",
    "temperatures",
    multiple=True,
    type=click.FloatRange(0.0, 100.0, min_open=True),
    default=(0.5, 1.0, 1.5),
    show_default=True,
    help="Also show probabilities at this temperature; may be given several times.",
)
@click.option("--layers", is_flag=True, help="Also look inside: norms, attention and the logit lens, layer by layer.")
@click.option("--adapter", default="", metavar="NAME", help="A LoRA adapter of the gateway's model.")
@click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template, as a user's message.")
@click.option("--legend/--no-legend", default=True, help="Say at the end what the numbers mean.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole inspection as JSON.")
def command(prompt: str, as_json: bool, legend: bool, **options: Any) -> None:
    """Show how a model continues PROMPT: each token's candidates, what the filters took, and the draw.

    A PROMPT of `-` is read from the input.
    """
    prompt = checkpoint.text_of(prompt)
    checkpoint.no_path(options["model"])
    found = look(Wish(prompt=prompt, **options))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    out = console()
    out.width = min(out.width, WIDTH)
    draw(found, out, legend=legend)


def look(wish: Wish) -> Inspection:
    """The inspection: made here where the model is a file, else by the gateway."""
    folder = named(wish.model or _POCKET)
    if folder is None:
        with gateway() as reached:
            told = reached.send("POST", PATH, msgspec.to_builtins(wish, str_keys=True))
        return msgspec.convert(told, Inspection, str_keys=True)
    try:
        from loam.engine.trace_opened import inspect_file  # noqa: PLC0415 - the engine is an extra
    except ImportError as error:
        raise click.ClickException(f"a local model needs the engine: pip install 'loam[engine]' ({error})") from error
    return inspect_file(folder, wish)
