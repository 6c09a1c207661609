"""Which collections somebody reaches: those that their key may ask, and of which they may read a document.

Knows a store and principals. Invariant: to a key that is no administrator's, a collection that it does not reach looks
like one that is not there, in what is listed and counted, in what is searched, and in what is refused.
"""

from loam.core.calls import RAG, Principal
from loam.core.errors import ModelFailure
from loam.core.ports import AS_USUAL, NOBODY, Found, Retriever, SearchOptions
from loam.grounding.store import Collection, Store, missing, scope_of

_NAMED = 20


class Reach:
    """Asks the store on a principal's behalf."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def listed(self, principal: Principal) -> tuple[Collection, ...]:
        """The collections that a principal reaches, by name, counted as far as it may read them."""
        found = await self._store.collections(scope=scope_of(principal))
        return tuple(one for one in found if _asks(principal, one.name))

    async def check(self, name: str, principal: Principal) -> None:
        """Raises ModelFailure (not_found), with the names of those that there are for this principal."""
        if _asks(principal, name) and await self._store.readable(name, scope=scope_of(principal)):
            return
        if not principal.admin:
            raise await self.missing(name, principal)

    async def missing(self, name: str, principal: Principal) -> ModelFailure:
        """That there is no such collection, as this principal sees it."""
        return missing(name, [one.name for one in (await self.listed(principal))[:_NAMED]])


def _asks(principal: Principal, name: str) -> bool:
    return principal.admin or principal.may_ask(RAG + name)


class Reached:
    """A Retriever that finds nothing, and tells nothing, of what its asker does not reach.

    What is found is within the asker's scope, so a search that finds something is not asked for twice.
    """

    def __init__(self, inner: Retriever, reach: Reach) -> None:
        self._inner = inner
        self._reach = reach

    async def look(
        self,
        collection: str,
        question: str,
        limit: int,
        *,
        principal: Principal = NOBODY,
        options: SearchOptions = AS_USUAL,
    ) -> Found:
        try:
            found = await self._inner.look(collection, question, limit, principal=principal, options=options)
        except ModelFailure as error:
            if error.failure.kind == "not_found" and not principal.admin:
                raise await self._reach.missing(collection, principal) from error
            raise
        if not found.passages or not _asks(principal, collection):
            await self._reach.check(collection, principal)
        return found

    async def revision(self, collection: str, *, principal: Principal | None = None) -> str:
        if principal is not None:
            await self._reach.check(collection, principal)
        return await self._inner.revision(collection, principal=principal)
