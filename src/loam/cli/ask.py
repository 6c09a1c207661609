"""`loam ask`: one question, one answer."""

import json
import sys
from typing import Any

import click

from loam.cli.reach import Gateway, gateway
from loam.cli.show import console


@click.command(name="ask")
@click.argument("question")
@click.option("--in", "collection", help="Answer from this collection of documents, with citations.")
@click.option("--model", help="Model or route to ask; with --in the reader is asked.")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=int, help="Longest answer in tokens.")
@click.option("--temperature", type=float, help="0 is the likeliest answer, higher is more varied.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON.")
def command(
    question: str,
    collection: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
) -> None:
    r"""Ask one QUESTION, of a model or of your documents.

    \b
    loam ask "How much sick leave can I be advanced?" --in handbook
    loam ask "Write a haiku on loam" --model gpt-5-mini
    echo "long text" | loam ask - --model fast
    """
    if question == "-":
        question = sys.stdin.read()
    if collection is None and model is None:
        raise click.UsageError("name a --model, or a collection with --in (`loam models` lists what can be asked)")
    messages = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {
        "model": model or f"rag:{collection}",
        "messages": [*messages, {"role": "user", "content": question}],
        "loam": {"metadata": True, **({"collection": collection} if collection and model else {})},
    }
    body |= {"max_tokens": max_tokens} if max_tokens is not None else {}
    body |= {"temperature": temperature} if temperature is not None else {}
    with gateway() as reached:
        if as_json:
            answer = reached.send("POST", "/v1/chat/completions", body)
            click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            tell(said(reached, body))


def said(reached: Gateway, body: dict[str, Any]) -> dict[str, Any]:
    """Streams an answer to the terminal and returns what Loam says of it."""
    loam: dict[str, Any] = {}
    for chunk in reached.events("/v1/chat/completions", {**body, "stream": True}):
        for choice in chunk["choices"]:
            click.echo(choice["delta"].get("content") or "", nl=False)
        loam = chunk.get("loam") or loam
    click.echo()
    return loam


def tell(loam: dict[str, Any]) -> None:
    """Prints the sources of an answer, and a line on its cost."""
    out = console()
    for number, citation in enumerate(loam.get("citations", ()), 1):
        place = " › ".join(part for part in (citation["title"], citation["section"]) if part)
        out.print(f"\n[{number}] {place}", style="cyan", markup=False)
        out.print(f"    “{citation['quote']}”", style="italic", markup=False)
        out.print(f"    {citation['url']}, characters {citation['start']}–{citation['end']}", style="dim", markup=False)
    cost = "unknown" if loam.get("cost_usd") is None else f"${loam['cost_usd']}"
    out.print(f"\n{loam.get('model', '')} · cost {cost} · {loam.get('call_id', '')}", style="dim", markup=False)
    for warning in loam.get("warnings", ()):
        out.print(f"note: {warning}", style="yellow", markup=False)
