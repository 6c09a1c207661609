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

DECLINED = "The documents do not say."
HANDBOOK = Path(loam.__file__).parent / "grounding" / "handbook"
QUESTIONS = (
    ("How many weeks of paid parental leave am I entitled to?", "12 weeks"),
    ("How many hours of annual leave can I carry over to the next year?", "240"),
    ("How much sick leave do federal employees earn each pay period?", "four hours"),
    ("How many days of military leave do I receive per year?", "15"),
    ("How many hours off may I take to vote?", "4 hours"),
    ("Do credit hours expire?", "never expire"),
    ("How long does it take to review a voucher?", "3-5 business days"),
    ("Should I turn off my computer if I see suspicious activity?", "DO NOT"),
    ("Does GSA provide desk chairs for remote workers?", "does not provide"),
    ("By when must I submit my Tock timecard each week?", "Friday"),
    ("What is the monthly premium of the dental plan?", DECLINED),
    ("What is the airspeed velocity of an unladen swallow?", DECLINED),
)
"""What is asked, and what a right answer holds."""
INVENTED = "Grandparents get 20 weeks on top."
FABULIST = (
    f"You are entitled to 12 weeks of paid time off for the birth, adoption or placement of a new child. {INVENTED}"
)
"""What a model says that knows the answer and adds to it."""


def take_in(gateway: Gateway, folder: Path) -> int:
    files = sorted(folder.rglob("*.md"))
    for start in track(range(0, len(files), 25), description="Taking in the 18F handbook", transient=True):
        documents = [
            {"name": str(file.relative_to(folder)), "text": file.read_text("utf-8")}
            for file in files[start : start + 25]
        ]
        gateway.send("POST", "/loam/v1/collections/handbook/documents", {"documents": documents})
    return len(files)


def ask(client: openai.OpenAI, question: str, console: Console, *, model: str = "rag:handbook") -> str:
    """Asks, prints, and returns the answer; one that declines carries no citation, any other does."""
    started = time.perf_counter()
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        extra_body={"loam": {"metadata": True, "collection": "handbook"}},
    )
    took = (time.perf_counter() - started) * 1000
    completion = raw.parse()
    loam_says = (completion.model_extra or {})["loam"]
    answer = completion.choices[0].message.content or ""
    body = Text(answer)
    for number, citation in enumerate(loam_says["citations"], 1):
        body.append(f"\n\n[{number}] {citation['title']} › {citation['section']}", "bold cyan")
        body.append(f"\n    “{citation['quote']}”", "italic")
        body.append(f"\n    {citation['url']}, characters {citation['start']}–{citation['end']}", "dim")
    foot = f"cost ${loam_says['cost_usd']} · call {raw.headers['x-loam-call-id']} · {took:.0f} ms"
    console.print(Panel(body, title=f"[bold]{question}", title_align="left", subtitle=foot, subtitle_align="right"))
    return answer if bool(loam_says["citations"]) == (answer != DECLINED) else ""


def main(console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="loam-demo-") as data:
        started = time.perf_counter()
        providers = {"fabulist": {"kind": "scripted", "script": [{"text": FABULIST}]}}
        with running(parse({"data": data, "server": {"port": 0}, "providers": providers})) as gateway:
            up = time.perf_counter() - started
            console.print(f"Loam answers at {gateway.url} ({up:.2f} s after it was started)")
            native = Gateway(gateway.url)
            count = take_in(native, HANDBOOK)
            console.print(
                f"{count} documents of the 18F handbook (public domain, CC0) are in the collection “handbook”\n"
            )
            client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="not-needed-on-this-machine")
            right = sum(expected in ask(client, question, console) for question, expected in QUESTIONS)
            console.print(f"\nNow a model that knows the answer and adds “{INVENTED}”, which no document says:\n")
            checked = ask(client, QUESTIONS[0][0], console, model="fabulist/any")
            calls = native.get("/loam/v1/calls", limit=50)["calls"]
            done = sum(call["state"] == "done" for call in calls)
            console.print(
                f"\n{right} of {len(QUESTIONS)} as they should be; the addition was "
                f"{'left out' if INVENTED not in checked else 'LET THROUGH'}. {done} calls are on record. "
                "Next: loam serve, loam ingest, loam ask --help"
            )
    held = bool(checked) and INVENTED not in checked
    return 0 if right == len(QUESTIONS) and held and done == len(QUESTIONS) + 1 else 1


if __name__ == "__main__":
    sys.exit(main(Console(width=110)))
