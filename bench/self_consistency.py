"""What a vote over recorded solutions is worth: GSM8K problems, four written solutions each, right or wrong by label.

    python -m bench.self_consistency [--data FILE] [--write bench/SELF_CONSISTENCY.md]

Measures the answer extractor against the labels, the vote of four against the mean single solution, and the samples
that the exact stop saves. The votes are Loam's own: the technique runs over a Model that plays the recorded solutions.
"""

import argparse
import asyncio
import itertools
import json
import lzma
import re
import statistics
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from loam.core.answers import collect, deltas_of
from loam.core.calls import Answer, Call, Choice, Delta, Usage
from loam.core.messages import Text, say
from loam.evaluation.intervals import wilson
from loam.prompting.answers import canonical
from loam.prompting.self_consistency import Options, SelfConsistency
from loam.prompting.votes import Stop

DATA = Path(__file__).parents[2] / "shared" / "data" / "math" / "gsm8k-model-samples-odd.jsonl.xz"
EXTRACTION = ("extractor", "agrees with the label", "share (95 %)", "right ones lost", "wrong ones taken")
_MARK = re.compile(r"\n?A:[^\n]*\Z")
STOPS: tuple[Stop, ...] = ("none", "exact", "beta")


class Problem(Struct, frozen=True):
    """One question, its right answer, and the solutions that four models wrote, each labelled by people."""

    question: str
    answer: str
    samples: tuple[dict[str, Any], ...]


class Recorded:
    """Plays one problem's solutions, in an order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = iter(texts)

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        choice = Choice((Text(next(self._texts)),), "stop")
        for delta in deltas_of(Answer((choice,), Usage(input=1, output=1))):
            yield delta


class Voted(Struct, frozen=True):
    right: bool
    used: int
    share: float


def problems(path: Path) -> list[Problem]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Problem(row["question"], row["answer"], tuple(row["samples"])) for row in rows]


# ---- the extractor


def last_raw(text: str) -> str:
    """What most scripts do: the last run of digits, as it stands."""
    words = [word for word in text.replace("$", " ").split() if any(sign.isdigit() for sign in word)]
    return words[-1] if words else ""


def extraction(found: Sequence[Problem]) -> list[list[str]]:
    ways = {
        "last word with a digit, as it stands": last_raw,
        "last number, canonical": lambda text: canonical("\n" + text.replace(":", " "), "number") or "",
        "Loam: marked answer, canonical": lambda text: canonical(text, "number") or "",
        "Loam, the marked line taken away": lambda text: canonical(_MARK.sub("", text.rstrip()), "number") or "",
    }
    rows: list[list[str]] = []
    for name, way in ways.items():
        agree = lost = gained = 0
        for problem in found:
            right = canonical(problem.answer, "number")
            for sample in problem.samples:
                same = way(sample["text"]) == right
                agree += same == sample["correct"]
                lost += sample["correct"] and not same
                gained += same and not sample["correct"]
        total = sum(len(problem.samples) for problem in found)
        sure = wilson(agree, total)
        rows.append(
            [
                name,
                f"{agree}/{total}",
                f"{100 * agree / total:.2f} % ({100 * sure.low:.2f}-{100 * sure.high:.2f})",
                str(lost),
                str(gained),
            ]
        )
    return rows


# ---- the vote


async def vote(problem: Problem, order: Sequence[int], stop: Stop) -> Voted:
    texts = [problem.samples[place]["text"] for place in order]
    model = SelfConsistency(Recorded(texts), Options(n=len(texts), stop=stop, normalise="number"))
    answer = await collect(model.answer(Call(id="", model="m", messages=(say("user", problem.question),))))
    (report,) = [step.details for step in answer.steps if step.event == "done"]
    winner = report["votes"][0]["answer"] if report["votes"] else None
    return Voted(winner == canonical(problem.answer, "number"), report["samples_used"], report["share"])


async def votes(found: Sequence[Problem], n: int, stop: Stop) -> list[Voted]:
    """Over every order of n of the four solutions: who is first decides ties."""
    return [await vote(problem, order, stop) for problem in found for order in itertools.permutations(range(4), n)]


def singles(found: Sequence[Problem]) -> Iterator[tuple[str, float]]:
    for place, name in enumerate(sample["model"] for sample in found[0].samples):
        yield name, statistics.mean(problem.samples[place]["correct"] for problem in found)


def auroc(voted: Sequence[Voted]) -> float:
    """How often a right vote has the larger share than a wrong one; ties count half."""
    right = [one.share for one in voted if one.right]
    wrong = [one.share for one in voted if not one.right]
    counts = {share: sum(other == share for other in wrong) for share in set(wrong)}
    wins = sum(
        sum(count * ((share > other) + 0.5 * (share == other)) for other, count in counts.items()) for share in right
    )
    return wins / (len(right) * len(wrong))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def page(found: Sequence[Problem]) -> str:
    single = dict(singles(found))
    mean = statistics.mean(single.values())
    rows = [[f"one solution of {name}", f"{100 * share:.1f} %", "1", ""] for name, share in single.items()]
    rows.append(["one solution, mean of the four", f"{100 * mean:.1f} %", "1", ""])
    for n in (3, 4):
        for stop in STOPS:
            voted = asyncio.run(votes(found, n, stop))
            share = statistics.mean(one.right for one in voted)
            used = statistics.mean(one.used for one in voted)
            saved = f"{100 * (1 - used / n):.1f} %"
            rows.append([f"vote of {n}, stop: {stop}", f"{100 * share:.1f} %", f"{used:.2f}", saved])
            if n == 4 and stop == "none":
                sure = auroc(voted)
    head = ["way", "right", "samples", "saved"]
    return f"""# Self-consistency over recorded solutions

Printed by `python -m bench.self_consistency`. {len(found)} problems of GSM8K's test set (the odd ones), each with four
solutions of four models of 2021 (6B and 175B, fine-tuned, with and without a verifier), labelled right or wrong. The
votes are the shipped technique's, over every order of the solutions, since the first of equals wins a tie.

## Reading the answer

{table(EXTRACTION, extraction(found))}

## Voting

{table(head, rows)}

The share of the votes tells right from wrong with an AUROC of {sure:.3f}. It is no probability: calibrate it before it
is shown as one. The four models differ, so a vote of theirs is below the best of them; against the mean single
solution, which is what a vote over samples of one model is compared with, it gains. All solutions end in a marked
answer (`A: 3`), so reading them is easy here; the row without that line is the harder question. 29 right ones were lost
there until they were read one by one; of the 6 that are left 4 say something else in their last sentence, and 2 end in
a number that counts nothing ("5 deer that are 8 points"). tests/prompting/test_answers.py
holds the hard ways of writing a number.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    text = page(problems(chosen.data))
    print(text)
    if chosen.write:
        chosen.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
