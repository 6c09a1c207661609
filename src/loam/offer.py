"""What can be asked here, as each key sees it: routes, models, collections, prompts and agents, with what they cost.

Knows names, prices and who reaches which collection; beside `assemble.py`, because it looks into several rooms.
Invariant: a key is shown what it may ask and nothing else; an administrator's is shown every collection.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from loam.core.calls import AGENT, PROMPT, RAG, Principal, Target, Usage
from loam.core.clock import Clock
from loam.core.errors import ModelFailure
from loam.core.money import dollars
from loam.gateway.operations import ModelEntry
from loam.gateway.prompt_shelf import PromptShelf
from loam.gateway.route import RouteTable
from loam.grounding.reach import Reach
from loam.planners.prices import PriceBook


class Offer(Struct, frozen=True, kw_only=True):
    """`routes` are the names that the settings give to chains, `answers` is who answers from documents.

    `checkpoints` gives the names of what lies on this machine, which may change while the gateway runs; `agents` says
    which model each of them asks.
    """

    table: RouteTable
    routes: frozenset[str]
    prices: PriceBook
    reach: Reach
    answers: str
    clock: Clock
    prompts: PromptShelf
    checkpoints: Callable[[], Sequence[str]]
    agents: Mapping[str, str]

    async def names(self, principal: Principal) -> list[str]:
        """Every name that a principal may ask."""
        collections = [RAG + one.name for one in await self.reach.listed(principal)]
        prompts = [PROMPT + name for name in self.prompts.asked()]
        agents = [AGENT + name for name in self.agents]
        every = dict.fromkeys((*self.table.names(), *self._unlisted(), *collections, *prompts, *agents))
        return [name for name in every if principal.may_ask(name)]

    def _unlisted(self) -> list[str]:
        """Checkpoints that the settings do not list by a name of their own."""
        listed = {str(self.table.resolve(name).chain[0]) for name in self.table.names()}
        return [name for name in self.checkpoints() if name not in listed]

    async def entries(self, principal: Principal) -> list[ModelEntry]:
        """The same, with what answers and what it costs."""
        return [self._entry(name) for name in await self.names(principal)]

    def _entry(self, name: str) -> ModelEntry:
        agent = self.agents.get(name.removeprefix(AGENT)) if name.startswith(AGENT) else None
        if agent is not None:
            return structs.replace(self._entry(agent), name=name, kind="agent")
        asked = self.prompts.asked().get(name.removeprefix(PROMPT)) if name.startswith(PROMPT) else None
        known = name if asked is None else asked
        collection = known.startswith(RAG) and known not in self.table.names()
        try:
            chain = self.table.resolve(self.answers if collection else known).chain
        except ModelFailure:  # a prompt may name a model that is not there any more
            return ModelEntry(name, "prompt", [])
        kind = "collection" if collection else "route" if known in self.routes else "model"
        entry = ModelEntry(name, kind, [str(target) for target in chain], *self._per_million(chain[0]))
        return entry if asked is None else structs.replace(entry, kind="prompt")

    def _per_million(self, target: Target) -> tuple[str | None, str | None]:
        """What a million tokens in and out cost at a target, in dollars; small prompts where the size matters."""
        price = self.prices.find(target.provider, target.model)
        if price is None:
            return None, None
        now = self.clock.now()
        read, said = price.cost(Usage(input=10_000), now=now), price.cost(Usage(output=10_000), now=now)
        return dollars(100 * read), dollars(100 * said)
