"""What a fake model is told to say, as data: lines that a test or loam.toml writes.

Invariant: a line says everything about one answer, so that the same script always plays the same way.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from loam.core.calls import Finish
from loam.core.errors import Kind

Seconds = Annotated[float, Meta(ge=0)]


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the model asks for."""

    name: Annotated[str, Meta(description="The tool's name.", min_length=1)]
    arguments: Annotated[dict[str, Any], Meta(description="Its arguments.")] = {}


class Line(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One answer, or one failure."""

    text: Annotated[str, Meta(description="What it says; `{question}` stands for the last user message.")] = ""
    thinking: Annotated[str, Meta(description="What it thinks before.")] = ""
    tools: tuple[Asked, ...] = ()
    finish: Annotated[Finish | None, Meta(description="Why it ends; without it as usual.")] = None
    usage: Annotated[tuple[int, int] | None, Meta(description="Tokens in and out to report; else counted.")] = None
    first_pause: Annotated[Seconds, Meta(description="Seconds before anything comes.")] = 0.0
    pause: Annotated[Seconds, Meta(description="Seconds before each piece.")] = 0.0
    fail: Annotated[Kind | None, Meta(description="The kind of failure that it ends with.")] = None
    after: Annotated[int, Meta(description="Pieces that come before the failure.", ge=0)] = 0
    message: Annotated[str, Meta(description="The failure's text.")] = ""
    status: Annotated[int, Meta(description="The failure's HTTP status.", ge=400, le=599)] | None = None
    retry_after: Annotated[float, Meta(description="Seconds that the failure asks to wait.", ge=0)] | None = None
