"""Self-consistency: several samples, compared in one form, until the leader can't be overtaken.

The first half holds a model in Python; the second asks a gateway with the official OpenAI client. No key is needed.
"""

import tempfile
from typing import Any

import openai

import loam
from loam.config import parse
from loam.providers.scripted import Scripted
from loam.serving import running

SCRIPT = ["3 x 3 x 60 = 540", "He runs 180 meters.", "The answer is $540.00", "Answer: 540"]
QUESTION = "James runs 3 sprints of 60 meters 3 times a week. How many meters are that?"


def in_python() -> tuple[str, dict[str, Any]]:
    answer = loam.ask(loam.self_consistency(Scripted(SCRIPT), n=5, normalise="number"), QUESTION)
    return answer.text, answer.steps[-1].details


def over_http() -> dict[str, Any]:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            technique = {"name": "self_consistency", "n": 5, "normalise": "number", "max_cost_usd": 0.05}
            answer = client.chat.completions.create(
                model="fake/any",
                messages=[{"role": "user", "content": QUESTION}],
                extra_body={"loam": {"technique": technique, "metadata": True}},
            )
    (report,) = (answer.model_extra or {})["loam"]["techniques"]
    return report


if __name__ == "__main__":
    text, report = in_python()
    assert text == SCRIPT[0]
    assert [(vote["answer"], vote["count"]) for vote in report["votes"]] == [("540", 3), ("180", 1)]
    assert over_http()["samples_used"] == report["samples_used"] == 4
    print(f"{report['votes'][0]['answer']} with {report['share']:.0%} of {report['samples_used']} samples")
