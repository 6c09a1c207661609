"""`loam ask`: one question, one answer."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from msgspec import Struct

from loam.cli.reach import Gateway, gateway
from loam.cli.show import console, place, whereabouts
from loam.kinds import asked_as


@click.command(name="ask")
@click.argument("question")
@click.option("--in", "collection", help="Answer from this collection of documents, with citations.")
@click.option("--model", help="Model or route to ask; without it, --in asks whom the settings name.")
@click.option(
    "--grounding",
    type=click.Choice(["strict", "mark", "off"]),
    help="With --in: what becomes of sentences that the documents do not support.",
)
@click.option(
    "--technique",
    "techniques",
    multiple=True,
    help="zero_shot, few_shot, chain_of_thought, self_consistency, structured, react, or JSON with a name and options; "
    "more than one nest, the outermost first.",
)
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=int, help="Longest answer in tokens.")
@click.option("--temperature", type=float, help="0 is the likeliest answer, higher is more varied.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON.")
def command(
    question: str,
    collection: str | None,
    model: str | None,
    grounding: str | None,
    techniques: tuple[str, ...],
    system: str | None,
    as_json: bool,
    **sampling: int | float | None,
) -> None:
    """Ask one QUESTION, of a model or of your documents.

    \b
    loam ask "How much sick leave can I be advanced?" --in handbook
    loam ask "Write a haiku on loam" --model gpt-5-mini
    echo "long text" | loam ask - --model fast
    loam ask "6 + 1?" --model fast --technique '{"name": "self_consistency", "n": 5}' --technique chain_of_thought
    """
    if question == "-":
        question = sys.stdin.read()
    if collection is None and model is None:
        raise click.UsageError("name a --model, or a collection with --in (`loam models` lists what can be asked)")
    messages = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {
        "model": asked_as(model) if model else f"rag:{collection}",
        "messages": [*messages, {"role": "user", "content": question}],
        "loam": {
            "metadata": True,
            **({"collection": collection} if collection and model else {}),
            **({"grounding": grounding} if grounding else {}),
            **({"technique": wishes(techniques)} if techniques else {}),
        },
    }
    body |= {name: value for name, value in sampling.items() if value is not None}
    with gateway(model=model or "") as reached:
        if as_json:
            answer = reached.send("POST", "/v1/chat/completions", body)
            click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            tell(said(reached, body).loam)


def wishes(texts: Sequence[str]) -> list[Any]:
    """Techniques as the option says them: names, JSON, or a list in JSON as a call has it."""
    found: list[Any] = []
    for text in texts:
        try:
            one = json.loads(text) if text.lstrip().startswith(("{", "[")) else text
        except ValueError as error:
            raise click.UsageError(f"--technique is no JSON: {error}") from error
        found += one if isinstance(one, list) else [one]
    return found


class Spoken(Struct, frozen=True):
    """What a model said, without the numbers of its sources, and what Loam says of it."""

    text: str
    loam: dict[str, Any]


def said(reached: Gateway, body: dict[str, Any], pieces: list[str] | None = None) -> Spoken:
    """Streams an answer to the terminal, each sentence with the numbers of its sources. Raises Refused.

    `pieces` is filled as they come, for who wants to keep what was said of an answer that is broken off.
    """
    loam: dict[str, Any] = {}
    pieces = [] if pieces is None else pieces
    sources = 0
    for chunk in reached.events("/v1/chat/completions", {**body, "stream": True}):
        for choice in chunk["choices"]:
            pieces.append(choice["delta"].get("content") or "")
            click.echo(pieces[-1], nl=False)
            for _ in choice["delta"].get("annotations", ()):
                sources += 1
                click.secho(f" [{sources}]", fg="cyan", nl=False)
        loam = chunk.get("loam") or loam
    click.echo()
    return Spoken("".join(pieces), loam)


def tell(loam: dict[str, Any]) -> None:
    """Prints the sources of an answer, how sure Loam is of it, and what it cost."""
    out = console()
    for number, citation in enumerate(loam.get("citations", ()), 1):
        out.print(f"\n[{number}] {place(citation)}", style="cyan", markup=False)
        out.print(f"    “{citation['quote']}”", style="italic", markup=False)
        out.print(f"    {whereabouts(citation)}", style="dim", markup=False)
    cost = "unknown" if loam.get("cost_usd") is None else f"${loam['cost_usd']}"
    facts = [loam.get("model", ""), *_sureness(loam), f"cost {cost}", loam.get("call_id", "")]
    out.print(f"\n{' · '.join(facts)}", style="dim", markup=False)
    for technique in loam.get("techniques", ()):
        told = ", ".join(f"{name} {_brief(value)}" for name, value in technique.items() if name != "name")
        out.print(f"{technique['name']}: {told}", style="dim", markup=False)
    for warning in loam.get("warnings", ()):
        out.print(f"note: {warning}", style="yellow", markup=False)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _sureness(loam: dict[str, Any]) -> Iterator[str]:
    """Whether all is supported, the score of the sentence that is supported least, and how many were left out."""
    checks = [check for check in loam.get("checks", ()) if check["verdict"] != "free"]
    given = [check["score"] for check in checks if check["released"]]
    if given:
        yield f"{loam['grounding']}, confidence {min(given):.2f}"
    held = sum(not check["released"] for check in checks)
    if held:
        yield f"left out {held} sentence{'s' * (held > 1)} that the documents do not support"
