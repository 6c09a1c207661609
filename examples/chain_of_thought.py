"""Chain of thought: the model reasons, and the reader gets the answer; the reasoning apart, where it is wanted.

The first half holds a model in Python; the second asks a gateway with the official OpenAI client. No key is needed.
"""

import tempfile

import openai

import loam
from loam.config import parse
from loam.providers.scripted import Scripted
from loam.serving import running

REASONING = "Two bolts of blue and half of two, one bolt, of white make three."
SCRIPT = [f"{REASONING} <answer>3</answer>"]
QUESTION = "A robe takes 2 bolts of blue fibre and half that much white. How many bolts in all?"


def in_python() -> tuple[str, str]:
    hidden = loam.ask(loam.chain_of_thought(Scripted(SCRIPT)), QUESTION)
    shown = loam.ask(loam.chain_of_thought(Scripted(SCRIPT), visible=True), QUESTION)
    assert (hidden.text, hidden.thinking) == ("3", "")
    return shown.text, shown.thinking


def over_http() -> str:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            stream = client.chat.completions.create(
                model="fake/any",
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
                extra_body={"loam": {"technique": "chain_of_thought"}},
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


if __name__ == "__main__":
    text, reasoning = in_python()
    assert (text, reasoning.strip()) == ("3", REASONING)
    assert over_http() == "3"
    print(f"{text}, because: {reasoning}")
