"""Typed values out of text: `loam.extract(City, "Lima has ten million people.", model="gpt-5-mini")`.

Knows pydantic models by what they can do, dataclasses, TypedDicts and msgspec Structs, and JSON Schemas; a model by its
name is asked through the gateway. Invariant: what comes back is of the type that was asked for, or an error is raised.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast, overload

import msgspec
from msgspec import Struct, structs

from loam.cli.reach import gateway
from loam.core.answers import collect
from loam.core.calls import Call, Controls, Output
from loam.core.messages import Message, say
from loam.core.ports import Model
from loam.doors import call_of, held, waited
from loam.prompting.around import NOTHING, Around
from loam.prompting.schemas import Problem
from loam.prompting.structured import Options, Structured

T = TypeVar("T")
ASKED = "Extract what is asked for from the text. Take everything from the text and add nothing to it."


class Shape(Struct, frozen=True):
    """A type as a schema; `read` makes one of JSON text and raises ValueError where its own rules say no."""

    source: Any
    schema: dict[str, Any]

    def read(self, text: str) -> Any:
        if isinstance(self.source, dict):
            return json.loads(text)
        if hasattr(self.source, "model_validate_json"):
            return self.source.model_validate_json(text)
        return msgspec.json.decode(text, type=self.source)

    def also(self, text: str) -> Sequence[Problem]:
        """What the type's own rules find in JSON that fits the schema."""
        try:
            self.read(text)
        except ValueError as error:  # pydantic's and msgspec's errors are of this kind
            return [Problem("", " ".join(str(error).split())[:400])]
        return []


def shape_of(source: Any) -> Shape:
    """The schema of a JSON Schema, a pydantic model, or any type that msgspec knows."""
    if isinstance(source, dict):
        return Shape(cast("Any", source), cast("dict[str, Any]", source))
    if hasattr(source, "model_json_schema"):
        return Shape(source, source.model_json_schema())
    return Shape(source, msgspec.json.schema(source))


@overload
async def aextract(shape: type[T], text: str, *, model: Model | str, around: Around = ..., **options: Any) -> T: ...
@overload
async def aextract(
    shape: dict[str, Any], text: str, *, model: Model | str, around: Around = ..., **options: Any
) -> Any: ...
async def aextract(shape: Any, text: str, *, model: Model | str, around: Around = NOTHING, **options: Any) -> Any:
    """A value of `shape`, out of a text. `options` are those of structured output (`max_attempts`, `two_pass`, …).

    A `model` by its name is asked through the gateway that runs, or through one started for this. Raises ModelFailure
    (code `invalid_output`) with every try in `failure.details` where no answer fits, and LoamError from the gateway.
    """
    wanted = shape_of(shape)
    if isinstance(model, str):
        return await asyncio.to_thread(_asked, wanted, text, model, options)
    asked = Structured(model, msgspec.convert({"name": "structured", **options}, Options), around, also=wanted.also)
    answer = await collect(asked.answer(_call(wanted, text)))
    return wanted.read(answer.text)


@overload
def extract(shape: type[T], text: str, *, model: Model | str, around: Around = ..., **options: Any) -> T: ...
@overload
def extract(shape: dict[str, Any], text: str, *, model: Model | str, around: Around = ..., **options: Any) -> Any: ...
def extract(shape: Any, text: str, *, model: Model | str, around: Around = NOTHING, **options: Any) -> Any:
    """As `aextract`, for programs without a loop of their own."""
    return waited(aextract(shape, text, model=model, around=around, **options))


async def partials(shape: Any, text: str, *, model: Model, **options: Any) -> AsyncGenerator[Any, None]:
    """Values as they grow, in plain data; the last one is whole, checked, and of `shape`."""
    wanted = shape_of(shape)
    settings = msgspec.convert({"name": "structured", "stream": "held", **options}, Options)
    said: list[str] = []
    async with aclosing(Structured(held(model), settings, also=wanted.also).answer(_call(wanted, text))) as deltas:
        async for delta in deltas:
            said.append(delta.text)
            if delta.step is not None and delta.step.event == "partial":
                yield delta.step.details["value"]
    yield wanted.read("".join(said))


def _messages(text: str) -> list[Message]:
    return [say("system", ASKED), say("user", text)]


def _call(shape: Shape, text: str) -> Call:
    asked = call_of(_messages(text))
    output = Output("schema", shape.schema, name="extraction")
    return structs.replace(asked, output=output, stream=True, controls=Controls(metadata=True))


def _asked(shape: Shape, text: str, model: str, options: dict[str, Any]) -> Any:
    body = {
        "model": model,
        "messages": [{"role": message.role, "content": message.text} for message in _messages(text)],
        "response_format": {"type": "json_schema", "json_schema": {"name": "extraction", "schema": shape.schema}},
        "loam": {"technique": {"name": "structured", **options}},
    }
    with gateway() as reached:
        return shape.read(reached.send("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"])
