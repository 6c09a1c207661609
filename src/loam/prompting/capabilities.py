"""What providers can do that a technique has to know, as dated rows of `capabilities.toml`.

Knows kinds of providers by name only through the rows. Invariant: every model of every kind has a row.
"""

import tomllib
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Literal

import msgspec
from msgspec import Struct


class Capability(Struct, frozen=True, forbid_unknown_fields=True):
    """One row; `capabilities.toml` says what each field means."""

    kind: str
    models: tuple[str, ...]
    date: str
    source: str
    enforces: Literal["schema", "json", "none"]
    verified: bool = True
    sure: bool = False
    sees: bool = True
    strict: bool = False
    streams: bool = True
    tools: bool = True
    drops: tuple[str, ...] = ()
    choices: bool = False
    reasoning: tuple[str, ...] = ()
    calling: Literal["yes", "no", "template"] = "yes"

    @property
    def takes(self) -> str:
        """In words, what becomes of a schema there."""
        if self.enforces != "schema":
            return {"json": "JSON mode; the schema is told in words", "none": "the schema is told in words"}[
                self.enforces
            ]
        kept = "keeps to the schema" if self.sure else "is offered the schema"
        return f"{kept}{', if strict' * self.strict}{'' if self.sees else ', which is told in words too'}"

    @property
    def limits(self) -> str:
        """In words, what a call that is held to a shape can't have besides."""
        return " or ".join(["a stream"] * (not self.streams) + ["tools"] * (not self.tools))

    def reasons(self, model: str) -> bool:
        """Whether the model reasons by itself before it answers."""
        return any(fnmatchcase(model.lower(), pattern) for pattern in self.reasoning)


class _Table(Struct, frozen=True):
    row: tuple[Capability, ...]


class Capabilities:
    """The rows, the first that fits first."""

    def __init__(self, rows: tuple[Capability, ...]) -> None:
        self.rows = rows

    @classmethod
    def load(cls) -> "Capabilities":
        text = files("loam.prompting").joinpath("capabilities.toml").read_text("utf-8")
        return cls(msgspec.convert(tomllib.loads(text), _Table).row)

    def find(self, kind: str, model: str) -> Capability:
        low = model.lower()
        return next(
            row
            for row in self.rows
            if fnmatchcase(kind, row.kind) and any(fnmatchcase(low, pattern) for pattern in row.models)
        )
