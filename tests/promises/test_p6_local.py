"""P6 on the local engine: a model that knows nothing answers in the client's form, or fails and says so.

The checkpoint is random, so every character that fits was written under the grammar.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jsonschema_rs
import openai
import pytest

from loam.serving import Running, running
from tests.engine import checkpoints
from tests.native.conftest import settings_for

ASKED: Any = [{"role": "user", "content": "Give me one."}]
HELD: list[Any] = [
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 40}}, "required": ["n"], "additionalProperties": False},  # noqa: E501 - a schema a line
    {"enum": ["red", "green", None]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"anyOf": [{"const": {"kind": "cat"}}, {"type": "array", "prefixItems": [{"const": 1}], "items": False, "minItems": 1}]},  # noqa: E501 - a schema a line
    {"type": "object", "properties": {"größe": {"enum": ["S", "M"]}, "on": {"type": "string", "format": "date"}}, "required": ["größe", "on"], "additionalProperties": False},  # noqa: E501 - a schema a line
]  # fmt: skip
REFUSED = {"type": "object", "properties": {"a": {"type": "integer"}}, "not": {"required": ["b"]}}


def asking(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Generator[openai.OpenAI, None, None]:
    folder: Path = tmp_path_factory.mktemp("p6")
    tiny = checkpoints.make(folder / "tiny")
    local = {"kind": "local", "engine": {"paths": {"tiny": str(tiny)}, "threads": 1}}
    with running(settings_for(folder / "data", providers={"here": local})) as gateway:
        yield from _client(gateway)


def _client(gateway: Running) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("number", range(len(HELD)))
@pytest.mark.parametrize("stream", [False, True])
def test_the_first_answer_fits(client: openai.OpenAI, number: int, stream: bool) -> None:
    schema = HELD[number]
    asked: Any = {
        "model": "here/tiny", "messages": ASKED, "max_tokens": 120, "response_format": asking(schema),
        "extra_body": {"loam": {"metadata": True}},
    }  # fmt: skip
    if stream:
        chunks = list(client.chat.completions.create(stream=True, **asked))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        loam = (chunks[-1].model_extra or {})["loam"]
    else:
        answer = client.chat.completions.create(**asked)
        text, loam = answer.choices[0].message.content or "", (answer.model_extra or {})["loam"]
    assert jsonschema_rs.is_valid(schema, json.loads(text), validate_formats=True)
    (report,) = loam["techniques"]
    assert (report["mode"], len(report["attempts"])) == ("native", 1)


def test_what_the_engine_cannot_hold_to_is_told_in_words_and_checked(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(
            model="here/tiny", messages=ASKED, max_tokens=20, response_format=asking(REFUSED)
        )
    body: Any = raised.value.body
    assert body["code"] == "invalid_output"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="here/tiny", messages=ASKED, max_tokens=20, response_format=asking(REFUSED),
            extra_body={"loam": {"technique": {"name": "structured", "mode": "native"}}},
        )  # fmt: skip
