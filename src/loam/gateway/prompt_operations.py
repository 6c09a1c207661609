"""What the native API can do with prompts: push, list, show, and move labels; nothing is ever changed or deleted."""

from typing import Annotated

from msgspec import Meta, Struct

from loam.core.operations import Asked, Operation
from loam.gateway.prompt_shelf import Move, Moved, NewVersion, PromptShelf, Version

_PATH = "/loam/v1/prompts"


class PromptRow(Struct, frozen=True):
    """A prompt: where its labels stand, and how its newest version came."""

    name: str
    description: str
    model: str
    labels: dict[str, str]
    versions: int
    newest: str
    at: float
    by: str


class PromptRows(Struct, frozen=True):
    prompts: list[PromptRow]


class VersionRow(Struct, frozen=True):
    """A version without its text, which is asked for by its hash."""

    hash: str
    at: float
    by: str
    labels: list[str]


class PromptState(Struct, frozen=True):
    """A prompt's versions, the newest first, and the moves of its labels, the latest first."""

    name: str
    labels: dict[str, str]
    versions: list[VersionRow]
    moves: list[Moved]


class History(Struct, frozen=True):
    moves: Annotated[int, Meta(ge=0, le=10_000, description="How many moves of labels to show.")] = 100


def prompt_operations(shelf: PromptShelf) -> tuple[Operation, ...]:
    """Pushing, listing and showing prompts, and moving their labels."""

    def row(name: str) -> PromptRow:
        versions = shelf.versions(name)
        newest = versions[0]
        prompt = shelf.find(f"{name}@{newest.hash}").prompt
        return PromptRow(
            name, prompt.description, prompt.model, shelf.labels(name), len(versions), newest.hash, newest.at, newest.by
        )

    async def every(asked: Asked) -> PromptRows:
        return PromptRows([row(name) for name in shelf.names()])

    async def push(asked: Asked) -> Version:
        return await shelf.push(asked.body, by=_who(asked))

    async def one(asked: Asked) -> PromptState:
        name = asked.path["name"]
        moves = await shelf.history(name, limit=asked.query.moves)
        versions = [VersionRow(one.hash, one.at, one.by, one.labels) for one in shelf.versions(name)]
        return PromptState(name, shelf.labels(name), versions, moves)

    async def version(asked: Asked) -> Version:
        return shelf.version(asked.path["name"], asked.path["ref"])

    async def label(asked: Asked) -> Moved:
        return await shelf.move(asked.path["name"], asked.path["label"], asked.body, by=_who(asked))

    path = _PATH + "/{name}"
    return (
        Operation(method="GET", path=_PATH, summary="List prompts", run=every, answer=PromptRows),
        Operation(
            method="POST", path=_PATH, summary="Push a version of a prompt", run=push, body=NewVersion, answer=Version,
            status=201,
        ),
        Operation(
            method="GET", path=path, summary="Show a prompt's versions and the history of its labels", run=one,
            query=History, answer=PromptState,
        ),
        Operation(
            method="GET", path=path + "/versions/{ref}", summary="Show the version that a label or hash names",
            run=version, answer=Version,
        ),
        Operation(
            method="POST", path=path + "/labels/{label}", summary="Move a label, or take it away", run=label,
            body=Move, answer=Moved,
        ),
    )  # fmt: skip


def _who(asked: Asked) -> str:
    """The key's user, else the key."""
    return asked.principal.user or asked.principal.key_id or "local"
