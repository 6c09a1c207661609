"""What a client sees of each upstream fault: `make bench-faults` prints the table.

A Loam with two retries stands before the faulty upstream; each fault is asked once whole and once as a stream, through
the official client with its own retries off. Columns: what the client got, how many attempts, the pauses
between them, the ledger's row, and the cost that was counted.
"""

import tempfile
import time
from typing import Any

import openai
from rich.console import Console
from rich.table import Table

from loam.cli.reach import Gateway
from loam.config import parse
from loam.providers.faults import FAULTS
from loam.providers.faulty import running as faulty_upstream
from loam.serving import running

MESSAGES: Any = [{"role": "user", "content": "the quick brown fox jumps over the lazy dog"}]
PRICE = {"model": "*", "input": "1", "output": "2"}


def settings(data: str, upstream: str) -> dict[str, Any]:
    return {
        "data": data,
        "server": {"port": 0},
        "retry": {"attempts": 3, "first_token": 3.0, "between_tokens": 3.0},
        "providers": {"o": {"kind": "compatible", "base_url": f"{upstream}/v1", "api_key": "sk-bench"}},
        "prices": [PRICE],
    }


def ask(client: openai.OpenAI, fault: str, *, stream: bool) -> str:
    """What the client sees, in a few words."""
    seen = _Seen()
    try:
        if stream:
            seen.read(client.chat.completions.create(model=f"o/{fault}", messages=MESSAGES, stream=True))
        else:
            completion = client.chat.completions.create(model=f"o/{fault}", messages=MESSAGES)
            seen.words = f"answer, {completion.choices[0].finish_reason}"
    except openai.APIStatusError as error:
        seen.words = f"{error.status_code} {type(error).__name__}"
    except openai.APIError as error:
        seen.words = f"{seen.pieces} pieces, then {type(error).__name__}"
    return seen.words


class _Seen:
    def __init__(self) -> None:
        self.pieces = 0
        self.words = ""

    def read(self, chunks: Any) -> None:
        finish = None
        for chunk in chunks:
            for choice in chunk.choices:
                self.pieces += bool(choice.delta.content)
                finish = choice.finish_reason or finish
        self.words = f"{self.pieces} pieces, {finish}"


def measure(client: openai.OpenAI, native: Gateway, name: str, *, stream: bool) -> list[str]:
    """One row of the table."""
    started = time.perf_counter()
    seen = ask(client, name, stream=stream)
    took = time.perf_counter() - started
    row = native.get("/loam/v1/calls", limit=1)["calls"][0]
    waits = ", ".join(f"{attempt.get('waited_us', 0) / 1e6:.2f}" for attempt in row["attempts"][1:]) or "–"
    cost = "–" if row["cost_micro"] is None else f"{row['cost_micro'] / 1e6:.6f}"
    ended = f"{row['state']} {row['failure_kind']}".strip()
    return [seen, str(len(row["attempts"])), waits, f"{took:.2f}", ended, cost]


def main() -> None:
    table = Table(title="Upstream faults behind Loam (3 attempts at most)")
    for column in ("fault", "form", "client sees", "attempts", "pauses s", "took s", "ledger", "cost $"):
        table.add_column(column, overflow="fold")
    with (
        tempfile.TemporaryDirectory(prefix="loam-faults-") as data,
        faulty_upstream() as upstream,
        running(parse(settings(data, upstream))) as gateway,
    ):
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0, timeout=60)
        native = Gateway(gateway.url)
        for fault in FAULTS:
            for form in ("whole", "stream"):
                row = measure(client, native, f"{fault.name}#{form}", stream=form == "stream")
                table.add_row(fault.name, form, *row)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
