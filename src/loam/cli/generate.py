"""`loam generate`: one text from a checkpoint on this machine, as it is written."""

import random
import time
from contextlib import aclosing
from typing import Any

import click
from msgspec import Struct

from loam.cli import checkpoint
from loam.cli.inspect_picture import quoted
from loam.core.calls import Usage
from loam.engine.client import EngineProcess
from loam.engine.inspection import Piece
from loam.engine.protocol import Drawing, Order, Request, Weights


@click.command(name="generate")
@click.argument("prompt")
@checkpoint.model_option
@click.option("--temperature", type=float, help="Logits are divided by it; 0 takes the likeliest token each time.")
@click.option("--top-k", type=int, help="Draw among the K likeliest tokens; 0 among all.")
@click.option("--top-p", type=float, help="Draw among the fewest tokens that make up this probability.")
@click.option("--min-p", type=float, help="Draw among tokens with this share of the likeliest's chance.")
@click.option("--repetition-penalty", type=float, help="Above 1: what was said before becomes less likely.")
@click.option("--seed", type=int, help="The same seed draws the same text.")
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True, help="Longest answer in tokens.")
@click.option("--stop", multiple=True, help="End where this string would be written; may be given several times.")
@click.option("--logprobs", type=click.IntRange(0, 20), help="After the text, each token with so many likely others.")
@click.option("--system", default="", help="A system message, where the model has a chat template.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it stands, without the chat template.")
@checkpoint.weights_option
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads that compute; 0: one a core.")
def command(
    prompt: str, model: str, weights: Weights, threads: int, raw: bool, system: str, logprobs: int | None, **given: Any
) -> None:
    """Continue PROMPT, or answer it where the checkpoint has a chat template; `-` reads it from the input.

    Options that are left out follow the checkpoint's own generation_config.json. No gateway is needed.

    \b
    loam generate "Once upon a time"
    loam generate "Why is the sky blue?" --model models/SmolLM2-135M-Instruct --temperature 0
    """
    prompt = checkpoint.text_of(prompt)
    path = checkpoint.find(model)
    seed = given.pop("seed")
    most, stop = given.pop("max_tokens"), list(given.pop("stop"))
    draw = Drawing(seed=random.getrandbits(63) if seed is None else seed, **given)

    async def written(engine: EngineProcess) -> None:
        chats = engine.about is not None and engine.about.template and not raw
        if system and not chats:
            raise click.UsageError("--system needs a chat template, which this checkpoint or --raw leaves out")
        messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt}]
        request = Request(
            id="generate",
            messages=messages if chats else None,
            inputs=[] if chats else [prompt],
            draw=draw,
            max_tokens=most,
            stop=stop,
            logprobs=logprobs,
        )
        if not chats:
            click.secho(prompt, dim=True, nl=False)
        _tell(await _stream(engine, request), engine)

    checkpoint.run(Order(name=path.stem, path=str(path), weights=weights, threads=threads, batch=1), written)


class _Written(Struct):
    """What an answer came to, and how long it took: until its first token, and in all."""

    usage: Usage = Usage()
    finish: str = ""
    first: float = 0.0
    seconds: float = 0.0
    logprobs: list[dict[str, Any]] = []


async def _stream(engine: EngineProcess, request: Request) -> _Written:
    written = _Written()
    start = time.perf_counter()
    async with aclosing(engine.answer(request)) as deltas:
        async for delta in deltas:
            written.first = written.first or time.perf_counter() - start
            if delta.thinking:
                click.secho(delta.thinking, dim=True, nl=False)
            click.echo(delta.text, nl=False)
            written.logprobs += delta.logprobs or []
            written.usage = delta.usage or written.usage
            written.finish = delta.finish or written.finish
    written.seconds = time.perf_counter() - start
    return written


def _tell(written: _Written, engine: EngineProcess) -> None:
    click.echo()
    for entry in written.logprobs:
        others = ", ".join(f"{_quoted(top)} {top['logprob']:.2f}" for top in entry["top_logprobs"])
        click.echo(f"{entry['logprob']:8.3f}  {_quoted(entry)}  {others}".rstrip())
    usage = written.usage
    after = max(written.seconds - written.first, 1e-9)
    speed = f"{(usage.output - 1) / after:.1f} tokens/s after the first" if usage.output > 1 else "one token"
    kernel = engine.about.kernel if engine.about is not None else ""
    click.secho(
        f"{usage.input} tokens read, {usage.output} written ({written.finish}); first after {written.first:.2f} s, "
        f"{speed}; {kernel}",
        dim=True,
        err=True,
    )


def _quoted(one: dict[str, Any]) -> str:
    data = bytes(one["bytes"])
    return quoted(Piece(id=-1, text=data.decode(errors="replace"), bytes=data.hex()))
