"""How well each word piece of a sentence is matched by one of its evidence, by the encoder's vectors in context.

Pure. It sees a paraphrase that shares no word; it is nearly blind to a changed number or a "not", which is why it never
decides alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loam.grounding.encoder.port import States


def alignment(sentence: "States", evidence: "Sequence[States]") -> float:
    """The mean over the sentence's pieces of the best cosine with a piece of the evidence; 0 without any piece."""
    best = [
        (sentence.vectors @ one.vectors.T).max(axis=1) for one in evidence if len(one.spans) and len(sentence.spans)
    ]
    if not best:
        return 0.0
    most = best[0]
    for other in best[1:]:
        most = most.clip(min=other)
    return float(most.mean())
