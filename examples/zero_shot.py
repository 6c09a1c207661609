"""Zero-shot: the question as it stands, with the linter's report on the instructions.

The first half holds a model in Python; the second asks a gateway with the official OpenAI client. No key is needed.
"""

import tempfile

import openai

import loam
from loam.config import parse
from loam.providers.scripted import Scripted
from loam.serving import running

SCRIPT = ["Lima is the capital of Peru."]
QUESTION = "What is the capital of Peru?"


def in_python() -> str:
    return loam.ask(loam.zero_shot(Scripted(SCRIPT)), QUESTION).text


def over_http() -> tuple[str, int]:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            answer = client.chat.completions.create(
                model="fake/any",
                messages=[
                    {"role": "system", "content": "Give a good answer in JSON."},
                    {"role": "user", "content": QUESTION},
                ],
                extra_body={"loam": {"technique": {"name": "zero_shot", "lint": True}, "metadata": True}},
            )
    (report,) = (answer.model_extra or {})["loam"]["techniques"]
    return answer.choices[0].message.content or "", len(report["findings"])


if __name__ == "__main__":
    assert in_python() == SCRIPT[0]
    text, findings = over_http()
    assert text == SCRIPT[0]
    assert findings > 0
    print(f"{text} The linter has {findings} remarks on the instructions.")
