"""Structured output: an answer that fits the schema, or an error that tells every try.

The first half holds a model in Python; the second asks a gateway with the official OpenAI client, which knows nothing
of Loam. No key is needed.
"""

import tempfile

import openai
from pydantic import BaseModel, Field

import loam
from loam.config import parse
from loam.core.errors import ModelFailure
from loam.providers.scripted import Scripted
from loam.serving import running


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


WRONG = '{"name": "Lima", "people": -1}'
SCRIPT = [WRONG, 'Mended:\n```json\n{"name": "Lima", "people": 10000000}\n```']
TEXT = "Lima has ten million people."


def in_python() -> City:
    try:
        loam.extract(City, TEXT, model=Scripted([WRONG]), max_attempts=2)
    except ModelFailure as error:
        print(f"{error.failure.code} after {len((error.failure.details or {})['attempts'])} tries", end="; then ")
    return loam.extract(City, TEXT, model=Scripted(SCRIPT))


def over_http() -> City | None:
    provider = {"kind": "scripted", "script": [{"text": text} for text in SCRIPT]}
    with tempfile.TemporaryDirectory() as folder:
        settings = parse({"data": folder, "server": {"port": 0}, "providers": {"fake": provider}})
        with running(settings) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-") as client:
            answer = client.chat.completions.parse(
                model="fake/any", messages=[{"role": "user", "content": TEXT}], response_format=City
            )
    return answer.choices[0].message.parsed


if __name__ == "__main__":
    city = in_python()
    assert city == over_http() == City(name="Lima", people=10_000_000)
    print(city)
