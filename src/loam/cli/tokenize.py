"""`loam tokenize`: a text as the tokens that a checkpoint reads."""

import json
from importlib import import_module
from typing import Any

import click

from loam.cli import checkpoint
from loam.cli.show import json_option, show
from loam.engine.client import require_engine


@click.command(name="tokenize")
@click.argument("text")
@checkpoint.model_option
@click.option("--special", is_flag=True, help="Also add what begins a text, as BOS.")
@click.option("--chat", is_flag=True, help="Put the text into the chat template first, as a user's message.")
@json_option
def command(text: str, model: str, special: bool, chat: bool, as_json: bool) -> None:
    """Show TEXT as tokens: their ids, how the vocabulary writes them, and their bytes; `-` reads from the input.

    \b
    loam tokenize "Hello world" --model models/gpt2
    """
    text = checkpoint.text_of(text)
    require_engine()
    tokenizer = import_module("loam.engine.tokenizer").Tokenizer.open(checkpoint.find(model))
    try:
        tokens: list[int] = (
            tokenizer.chat([{"role": "user", "content": text}]) if chat else tokenizer.encode(text, special=special)
        )
    finally:
        tokenizer.close()
    rows = [_row(tokenizer, token) for token in tokens]
    show(rows, ("id", "piece", "shown", "bytes"), as_json=as_json, empty="An empty text has no tokens.")
    if not as_json and tokens:
        click.secho(f"{len(tokens)} tokens for {len(text)} letters ({len(text.encode())} bytes)", dim=True)


def _row(tokenizer: Any, token: int) -> dict[str, Any]:
    data: bytes = tokenizer.token_bytes(token)
    try:
        shown = json.dumps(data.decode(), ensure_ascii=False)
    except UnicodeDecodeError:
        shown = "part of a letter"
    return {"id": token, "piece": tokenizer.piece(token), "shown": shown, "bytes": data.hex(" ")}
