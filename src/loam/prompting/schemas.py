"""JSON Schemas: compiled once, then a value fits or there is a short list of what is wrong with it.

Knows the validator and nothing else of its kind. Invariant (P6): a value fits only where the client's own schema says
so, formats among it; a schema never makes Loam read a file or an address.
"""

import hashlib
from collections import OrderedDict
from typing import Any

import jsonschema_rs
import msgspec
from msgspec import Struct

from loam.core.errors import refuse
from loam.prompting.effort import effort

_LONGEST = 200  # characters of a problem's message; it quotes the value, which may be long
_BACKTRACKS = 100_000
_HERE = 100_000  # schemas that one may expand to at one place: some milliseconds
_LISTED = 4_000  # steps within which a list of what is wrong is made: it costs 0.1 ms a step where branches multiply


class Problem(Struct, frozen=True):
    """What is wrong at one place of a value; `at` is a JSON pointer, empty for the whole."""

    at: str
    message: str

    def __str__(self) -> str:
        return f"{self.at or 'the whole value'}: {self.message}"


class Schema:
    """A compiled schema. Raises ModelFailure (bad_request) for one that can't be compiled."""

    def __init__(self, schema: Any, param: str = "response_format.json_schema.schema") -> None:
        self.source = schema
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                validate_formats=True,
                offline=True,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
            )
            self._effort = effort(schema)
        except (ValueError, RecursionError) as error:
            what = str(error).partition("\n")[0][:_LONGEST]
            raise refuse("bad_request", f"{param} is no JSON Schema that can be used: {what}", param=param) from error
        if self._effort.here > _HERE:
            what = f"{param} expands to more than {_HERE} schemas at one place: refer to each once"
            raise refuse("bad_request", what, param=param)

    def fits(self, value: Any) -> bool:
        try:
            return self._validator.is_valid(value)
        except (ValueError, RecursionError):  # nested beyond what can be looked at
            return False

    def problems(self, value: Any, most: int = 10) -> tuple[Problem, ...]:
        """What is wrong, the first `most` places; empty where the value fits."""
        if self._effort.of(value) > _LISTED:
            return () if self.fits(value) else (Problem("", "it does not fit the schema (too deep to say where)"),)
        found: list[Problem] = []
        try:
            for error in self._validator.iter_errors(value):
                pointer = "".join(f"/{_escaped(step)}" for step in error.instance_path)
                found.append(Problem(pointer, _short(error.message)))
                if len(found) == most:
                    break
        except (ValueError, RecursionError) as error:
            found.append(Problem("", _short(str(error))))
        return tuple(found)


def _escaped(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


def _short(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"


class Schemas:
    """Compiled schemas by content, the `most` that were used last."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Schema] = OrderedDict()

    def get(self, schema: Any) -> Schema:
        """Raises ModelFailure (bad_request) for a schema that can't be compiled."""
        key = hashlib.sha256(msgspec.json.encode(schema)).digest()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Schema(schema)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known
