"""Search and ingestion on somebody's behalf: within what they reach, and on their bill where a provider makes vectors.

Knows how an encoder is reached, not how it computes; what money and records are, the models that it is handed know.
Invariant (P1, P2): a text leaves for a provider's encoder through a model that reserves and records: as an attempt of
the call that is being answered, else as a call of its own in the name of whoever searches, or of the ingestion.
"""

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from loam.core.calls import Call, Delta, Principal
from loam.core.ports import Model, Retriever
from loam.grounding.aside import Asides, Within
from loam.grounding.encoder.settings import Opened
from loam.grounding.reach import Reach, Reached
from loam.grounding.retrieve import Retrieval
from loam.grounding.search_settings import SearchSettings
from loam.grounding.store import Store

if TYPE_CHECKING:
    from loam.grounding.encoder.port import Encoder

INGESTION = Principal(key_id="ingestion", user="ingestion", redaction="full")
"""In whose name documents are embedded. The ledger keeps no text of these calls: it stands in the collection."""


class Errands:
    """A Model that makes every call a call of its own, in somebody's name."""

    def __init__(self, model: Model, principal: Principal, new_id: Callable[[], str]) -> None:
        self._model = model
        self._principal = principal
        self._new_id = new_id

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        return self._model.answer(structs.replace(call, id=self._new_id(), principal=self._principal))


class Searching(Struct, frozen=True, kw_only=True):
    """`paid` answers within a call that is on record, `recorded` puts what it answers on record itself."""

    store: Store
    reach: Reach
    opened: Opened
    settings: SearchSettings
    paid: Model
    recorded: Model
    new_id: Callable[[], str]

    def within(self, asides: Asides) -> Retriever:
        """The search of a call that is being answered."""
        return self._through(Within(asides, self.paid))

    def of(self, principal: Principal) -> Retriever:
        """The search of somebody who asks for nothing else."""
        return self._through(Errands(self.recorded, principal, self.new_id))

    def ingestion(self) -> "Encoder | None":
        """What makes the vectors of documents."""
        return self.opened.through(Errands(self.recorded, INGESTION, self.new_id))

    def _through(self, model: Model) -> Retriever:
        found = Retrieval(self.store, self.opened.through(model), self.opened.heads, self.settings)
        return Reached(found, self.reach)
