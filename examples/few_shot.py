"""Few-shot: the model is shown good answers first; here the two whose questions are nearest.

The first half holds a model in Python; the second asks a gateway with the official OpenAI client. No key is needed.
"""

import tempfile
from collections.abc import Sequence

import openai

import loam
from loam.config import parse
from loam.prompting.around import Around
from loam.providers.scripted import Scripted
from loam.serving import running

EXAMPLES = [
    {"id": "refund", "input": "I want my money back", "output": "billing"},
    {"id": "crash", "input": "The app crashes when it starts", "output": "technical"},
    {"id": "invoice", "input": "My invoice shows the wrong amount of money", "output": "billing"},
]
QUESTION = "Where is the money of my refund?"
SCRIPT = ["billing"]


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """Stands in for an encoder: a text points at the words it holds. On the road it is the one of your collections."""
    words = ("money", "app", "invoice")
    vectors = [[1.0 + 9.0 * (word in text.lower()) for word in words] for text in texts]
    return [[value / sum(v * v for v in vector) ** 0.5 for value in vector] for vector in vectors]


def in_python() -> tuple[str, list[str]]:
    model = loam.few_shot(Scripted(SCRIPT), examples=EXAMPLES, k=2, select="knn", around=Around(embed=embed))
    answer = loam.ask(model, QUESTION)
    return answer.text, answer.steps[0].details["ids"]


def over_http() -> tuple[str, list[str]]:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            answer = client.chat.completions.create(
                model="fake/any",
                messages=[{"role": "user", "content": QUESTION}],
                extra_body={"loam": {"technique": {"name": "few_shot", "examples": EXAMPLES}, "metadata": True}},
            )
    (report,) = (answer.model_extra or {})["loam"]["techniques"]
    return answer.choices[0].message.content or "", report["ids"]


if __name__ == "__main__":
    text, ids = in_python()
    assert (text, sorted(ids)) == ("billing", ["invoice", "refund"])
    assert over_http() == ("billing", ["refund", "crash", "invoice"])
    print(f"{text}, after the examples {', '.join(ids)}")
