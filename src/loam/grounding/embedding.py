"""Makes the vectors that a collection will need, before it changes.

Knows a store and an encoder by their ports. Invariant: every vector is staged as soon as it is made, under what it is
the vector of, so a run that is broken off is taken up where it was, and no text is read twice by one encoder.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loam.grounding.store import Store, Text

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Encoder

_BATCH = 64
"""Texts of like length that the encoder gets at a time."""
_ROUND = 2000
"""Texts of older documents that are looked up at a time."""


async def embed(
    store: Store, encoder: "Encoder", texts: Sequence[Text], on_progress: Callable[[int, int], None]
) -> None:
    """Stages a vector for each text that has none yet, long texts first, so that what is left only goes faster.

    `on_progress` gets the texts done and all there are. Raises ModelFailure where the encoder fails.
    """
    by_digest = {text.digest: text.text for text in texts}
    lacking: set[str] = set()
    digests = list(by_digest)
    for start in range(0, len(digests), _ROUND):
        lacking |= await store.unstaged(encoder.id, digests[start : start + _ROUND])
    order = sorted(lacking, key=lambda digest: (-len(by_digest[digest]), digest))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        await store.stage(encoder.id, batch, await encoder.embed([by_digest[digest] for digest in batch]))
        on_progress(start + len(batch), len(order))


async def embed_stored(
    store: Store, encoder: "Encoder", collection: str, on_progress: Callable[[int, int], None]
) -> bool:
    """Stages what passages that are already stored lack: all of them, where the encoder is another one than before.

    Gives whether anything was lacking.
    """
    found = False
    while texts := await store.unembedded(collection, encoder.id, _ROUND):
        await embed(store, encoder, texts, on_progress)
        found = True
    return found
