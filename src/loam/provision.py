"""Builds the providers of the settings, with what they need of other rooms.

Knows the providers' kinds, how each can be asked for structured answers, and grounding's encoder; beside `assemble.py`,
because it looks into several rooms. Invariant: whatever is opened here is closed with the stack that is handed in.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import Struct, structs

from loam.config import Settings
from loam.core.clock import Clock
from loam.core.errors import LoamError, refuse
from loam.core.ports import Model
from loam.engine.fleet import Fleet
from loam.grounding.encoder.choice import open_encoder
from loam.grounding.encoder.settings import Opened
from loam.kinds import encode_with, fleets_of, kind_of, providers_of
from loam.prompting.capabilities import Capabilities
from loam.prompting.fitting import Fitted
from loam.providers.provider import Vectors
from loam.providers.transport import HttpTransport


class Provided(Struct, frozen=True):
    """`models` by provider name, `fleets` those of them that hold checkpoints."""

    models: dict[str, Model]
    fleets: dict[str, Fleet]


async def provide(
    settings: Settings, capabilities: Capabilities, clock: Clock, stack: AsyncExitStack, folder: Path
) -> Provided:
    """Every provider, asked for structured answers as it can give them; checkpoints to be there from the start are
    opened. Raises LoamError.
    """
    built: dict[str, Model] = {}
    models: dict[str, Model] = {}
    for name, provider in providers_of(settings).items():
        transport = HttpTransport(name, ca_file=provider.ca_file, max_connections=provider.max_connections)
        stack.push_async_callback(transport.close)
        kind = kind_of(name, provider)
        built[name] = kind.build(name, provider, transport, clock)
        models[name] = Fitted(built[name], kind.name, capabilities, lacks=provider.lacks)
    fleets = fleets_of(built)
    encode_with(built, _encoders(settings, folder, stack))
    for fleet in fleets.values():
        stack.push_async_callback(fleet.close)
        await fleet.open_first()
    return Provided(models, fleets)


def _encoders(settings: Settings, folder: Path, stack: AsyncExitStack) -> Vectors:
    """Embeddings by the sentence-transformers folders among the checkpoints, each opened when it is first asked."""
    opened: dict[Path, Opened] = {}

    async def vectors(path: Path, texts: Sequence[str]) -> list[list[float]]:
        if path not in opened:
            try:
                found = open_encoder(structs.replace(settings.grounding.encoder, name=str(path)), folder)
            except LoamError as error:
                raise refuse("unsupported", str(error), param="model") from error
            opened[path] = found
            stack.callback(found.close)
        encoder = opened[path].encoder
        if encoder is None:
            raise refuse("unavailable", f"{path.name} cannot embed: {opened[path].notice}")
        return (await encoder.embed(texts)).tolist()

    return vectors
