"""The main job, start to end: a gateway, real documents, real questions through the official OpenAI client.

Run it with `make demo`. It needs no key and no other server; what it keeps is removed at the end.
"""

import sys
import tempfile
import time
from pathlib import Path

import openai
from rich.console import Console
from rich.panel import Panel
from rich.progress import track
from rich.text import Text

import loam
from loam.cli.reach import Gateway
from loam.config import parse
from loam.serving import running

HANDBOOK = Path(loam.__file__).parent / "grounding" / "handbook"
QUESTIONS = (
    "How many weeks of paid parental leave am I entitled to?",
    "Which receipts must I keep?",
    "What is the airspeed velocity of an unladen swallow?",
)


def take_in(gateway: Gateway, folder: Path) -> int:
    files = sorted(folder.rglob("*.md"))
    for start in track(range(0, len(files), 25), description="Taking in the 18F handbook", transient=True):
        documents = [
            {"name": str(file.relative_to(folder)), "text": file.read_text("utf-8")}
            for file in files[start : start + 25]
        ]
        gateway.send("POST", "/loam/v1/collections/handbook/documents", {"documents": documents})
    return len(files)


def ask(client: openai.OpenAI, question: str, console: Console) -> int:
    """Asks, prints, and returns how many citations the answer carries."""
    started = time.perf_counter()
    raw = client.chat.completions.with_raw_response.create(
        model="rag:handbook", messages=[{"role": "user", "content": question}], extra_body={"loam": {"metadata": True}}
    )
    took = (time.perf_counter() - started) * 1000
    completion = raw.parse()
    loam_says = (completion.model_extra or {})["loam"]
    body = Text(completion.choices[0].message.content or "")
    for number, citation in enumerate(loam_says["citations"], 1):
        body.append(f"\n\n[{number}] {citation['title']} › {citation['section']}", "bold cyan")
        body.append(f"\n    “{citation['quote']}”", "italic")
        body.append(f"\n    {citation['url']}, characters {citation['start']}–{citation['end']}", "dim")
    foot = f"cost ${loam_says['cost_usd']} · call {raw.headers['x-loam-call-id']} · {took:.0f} ms"
    console.print(Panel(body, title=f"[bold]{question}", title_align="left", subtitle=foot, subtitle_align="right"))
    return len(loam_says["citations"])


def main() -> int:
    console = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="loam-demo-") as data:
        started = time.perf_counter()
        with running(parse({"data": data, "server": {"port": 0}})) as gateway:
            up = time.perf_counter() - started
            console.print(f"Loam answers at {gateway.url} ({up:.2f} s after it was started)")
            native = Gateway(gateway.url)
            count = take_in(native, HANDBOOK)
            console.print(
                f"{count} documents of the 18F handbook (public domain, CC0) are in the collection “handbook”\n"
            )
            client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="not-needed-on-this-machine")
            cited = [ask(client, question, console) for question in QUESTIONS]
            calls = native.get("/loam/v1/calls", limit=10)["calls"]
            done = sum(call["state"] == "done" for call in calls)
            console.print(
                f"\n{done} of {len(QUESTIONS)} calls are on record. Next: loam serve, loam ingest, loam ask --help"
            )
    return 0 if cited[0] > 0 and cited[-1] == 0 and done == len(QUESTIONS) else 1


if __name__ == "__main__":
    sys.exit(main())
