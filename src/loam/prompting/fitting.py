"""A provider as an answer with a schema meets it: by its own means where it has them, in words where it has none.

Knows what a provider enforces only through its row of `capabilities.toml`. Invariant: whatever is left out of a schema
here is named, and nothing is taken out of what the answer is checked against: that is the client's own schema.
"""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct, structs

from loam.core.calls import Call, Delta, Output, Step
from loam.core.errors import ModelFailure
from loam.core.ports import Model
from loam.prompting.capabilities import Capabilities, Capability
from loam.prompting.instructing import instructed

NAME = "structured"
REFUSED = "grammar"
"""The code of a refusal by a model that can't be held to a schema exactly, and says so before it answers."""
JSON_ONLY = "Answer with a JSON value and nothing else: no words around it, no code block."
_SCHEMA = "It must fit this JSON Schema: "

Mode = Literal["native", "offered", "json", "prompted"]
"""native: the provider holds the answer to the schema. offered: it got the schema, and may pass it over. json: it holds
the answer to JSON of any shape. prompted: the model is told in words."""


class Fit(Struct, frozen=True):
    """How one provider is asked; `dropped` are words of the schema that it would refuse."""

    output: Output | None
    mode: Mode
    instruction: str = ""
    dropped: tuple[str, ...] = ()


class Fitted:
    """A provider of `kind`, asked for structured answers as it can give them. `lacks` are fields that it refuses."""

    def __init__(self, inner: Model, kind: str, capabilities: Capabilities, lacks: Collection[str] = ()) -> None:
        self._inner = inner
        self._kind = kind
        self._capabilities = capabilities
        self._mute = "response_format" in lacks

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._inner.answer(call) if call.output is None else self._run(call, call.output)

    async def _run(self, call: Call, output: Output) -> AsyncGenerator[Delta, None]:
        model = call.target.model if call.target is not None else call.model
        row = self._capabilities.find(self._kind, model)
        alone = bool(call.tools) and not row.tools and output.mode != "native"
        fit = fit_of(output, structs.replace(row, enforces="none") if self._mute or alone else row)
        if fit.output is not None and not row.streams:
            call = structs.replace(call, stream=False)
        if fit.dropped:
            call.trace.warn(f"{call.target or model} takes a schema without {', '.join(fit.dropped)}; Loam checks them")
        begun = False
        try:
            async with aclosing(self._asked(call, fit)) as deltas:
                async for delta in deltas:
                    begun = begun or delta.has_content
                    yield delta
        except ModelFailure as error:
            if begun or error.failure.code != REFUSED or fit.mode == "prompted" or output.mode == "native":
                raise
            call.trace.warn(f"{call.target or model} can't be held to this schema, so it was told in words")
        else:
            return
        async with aclosing(self._asked(call, fit_of(structs.replace(output, mode="prompted"), row))) as deltas:
            async for delta in deltas:
                yield delta

    async def _asked(self, call: Call, fit: Fit) -> AsyncGenerator[Delta, None]:
        asked = structs.replace(call, output=fit.output)
        if fit.instruction:
            asked = instructed(asked, fit.instruction)
        yield Delta(step=Step(NAME, "mode", {"mode": fit.mode, "dropped": list(fit.dropped)}))
        async with aclosing(self._inner.answer(asked)) as deltas:
            async for delta in deltas:
                yield delta


def fit_of(output: Output, row: Capability) -> Fit:
    """How a provider with such a row is asked for such an answer."""
    if output.kind == "json" or output.schema is None:
        if row.enforces == "none" or output.mode == "prompted":
            return Fit(None, "prompted", JSON_ONLY)
        return Fit(output, "json")
    schema_in_words = "" if output.told else f" {_SCHEMA}{msgspec.json.encode(output.schema).decode()}"
    written = JSON_ONLY + schema_in_words
    if output.mode == "prompted" or (row.enforces == "none" and output.mode != "native"):
        return Fit(None, "prompted", written)
    if row.enforces == "json" and output.mode != "native":
        return Fit(Output("json"), "json", written)
    dropped: set[str] = set()
    schema = output.schema
    if row.drops and (output.strict or not row.strict):
        schema = cast("dict[str, Any]", relaxed(schema, frozenset(row.drops), dropped))
    sent = structs.replace(output, schema=schema)
    sure = row.sure and (bool(output.strict) or not row.strict)
    known = row.sees or output.told
    return Fit(sent, "native" if sure else "offered", "" if known else written, tuple(sorted(dropped)))


def _weaker(word: str, schema: dict[str, Any], drops: frozenset[str], dropped: set[str]) -> dict[str, Any]:
    """What may stand for a dropped word and allows all that it allows, in words that the schema does not have yet."""
    value: Any = schema[word]
    if word == "oneOf" and isinstance(value, list):
        said = {"anyOf": [relaxed(one, drops, dropped) for one in cast("list[Any]", value)]}
    elif word == "allOf" and isinstance(value, list) and len(cast("list[Any]", value)) == 1:
        only = relaxed(value[0], drops, dropped)
        said = cast("dict[str, Any]", only) if isinstance(only, dict) else {}
    else:
        said = {}
    return {name: what for name, what in said.items() if name not in schema}


MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMAS = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip


def relaxed(schema: Any, drops: frozenset[str], dropped: set[str]) -> Any:
    """The schema without the words `drops`, where they are words of it and not names of members or plain data."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for word, value in cast("dict[str, Any]", schema).items():
        if word in drops:
            dropped.add(word)
            kept |= _weaker(word, cast("dict[str, Any]", schema), drops, dropped)
        elif word in MAPS and isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            kept[word] = {name: relaxed(one, drops, dropped) for name, one in inner.items()}
        elif word in LISTS and isinstance(value, list):
            kept[word] = [relaxed(one, drops, dropped) for one in cast("list[Any]", value)]
        else:
            kept[word] = relaxed(value, drops, dropped) if word in SCHEMAS else value
    return kept
