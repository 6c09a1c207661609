"""The road: settings in, an app out. The only file that knows every room.

Invariant: the order of the stages is written down once, in `ROAD`; a test holds it against the README's picture.
"""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct

from loam import __version__
from loam.agents import agency
from loam.agents.agency import Given, open_agents
from loam.agents.answering import AgentModels
from loam.config import Settings
from loam.core.calls import Call
from loam.core.clock import Clock, SystemClock, new_id
from loam.core.operations import Operation
from loam.core.ports import Model
from loam.engine import inspection
from loam.engine.operations import Checkpoints, engine_operations
from loam.gateway import allowances, calls, conversations, feedback, keyring, prompt_shelf
from loam.gateway.allowances import Allowances
from loam.gateway.app import App, Gateway
from loam.gateway.bodies import Bodies
from loam.gateway.budget import Budget
from loam.gateway.budget_operations import budget_operations
from loam.gateway.cache import Cache
from loam.gateway.cache_store import MemoryStore
from loam.gateway.calls import CallLog
from loam.gateway.conversations import Conversations
from loam.gateway.dispatch import Dispatch
from loam.gateway.door import Door
from loam.gateway.endpoint import Endpoint
from loam.gateway.fallback import Fallback
from loam.gateway.feedback import Feedback
from loam.gateway.health import Health
from loam.gateway.history import CallHistory
from loam.gateway.keyring import Keyring
from loam.gateway.keys import Keys
from loam.gateway.ledger import Ledger
from loam.gateway.listing import ModelList
from loam.gateway.metrics import Metrics
from loam.gateway.native import native_app
from loam.gateway.operations import call_operations, key_operations, state_operations, unwritable
from loam.gateway.paths import data_path, remembers
from loam.gateway.prompt_operations import prompt_operations
from loam.gateway.prompt_shelf import PromptShelf, read_folder
from loam.gateway.prompted import Prompted
from loam.gateway.retention import Retention
from loam.gateway.retry import Retry
from loam.gateway.route import Route, RouteTable
from loam.grounding.encoder.choice import open_encoder
from loam.grounding.encoder.settings import Opened
from loam.grounding.ground import Ground, collection_of
from loam.grounding.library import open_library
from loam.grounding.mirrors import Mirrors
from loam.grounding.operations import operations as grounding_operations
from loam.grounding.reach import Reach
from loam.grounding.reader import Reader
from loam.grounding.searching import Searching
from loam.grounding.store import Library
from loam.grounding.verify import Checkers
from loam.kinds import READER, kind_of, prices_of, providers_of, table_of
from loam.offer import Offer
from loam.planners.prices import PriceBook
from loam.prompting.around import Around
from loam.prompting.capabilities import Capabilities
from loam.prompting.technique import Techniques
from loam.providers.fetching import HttpWeb
from loam.provision import provide
from loam.storage.database import Database
from loam.storage.folder import DataFolder
from loam.surroundings import Surroundings, datasets_of, embedding
from loam.wire.border import Border

ROAD = ("keys", "ledger", "cache", "technique", "grounding", "route", "fallback", "budget", "retry", "provider")
"""The stages in the order that a call passes them. Order is meaning: see docs/road.md."""

MIGRATIONS = (
    *calls.MIGRATIONS,
    *feedback.MIGRATIONS,
    *keyring.MIGRATIONS,
    *allowances.MIGRATIONS,
    *conversations.MIGRATIONS,
    *prompt_shelf.MIGRATIONS,
    *agency.MIGRATIONS,
)


class House(Struct, frozen=True):
    """An open gateway. `admin_key` is set only by the first start in a data folder; `notes` say what it lacks."""

    app: Gateway
    operations: tuple[Operation, ...]
    admin_key: str
    notes: tuple[str, ...] = ()


class Parts(Struct, frozen=True, kw_only=True):
    """What the road and the operations are made of."""

    settings: Settings
    clock: Clock
    models: Mapping[str, Model]
    capabilities: Capabilities
    table: RouteTable
    prices: PriceBook
    index: Library
    opened: Opened
    keyring: Keyring
    prompts: PromptShelf
    allowances: Allowances
    log: CallLog
    history: CallHistory
    feedback: Feedback
    metrics: Metrics
    database: Database
    checkpoints: Checkpoints
    notes: tuple[str, ...]


def road(parts: Parts, keys: Callable[[Model], Model]) -> Model:
    """All stages around the providers, the outermost first in `ROAD`."""
    settings, clock = parts.settings, parts.clock
    reach, searching, opened = Reach(parts.index), searching_of(parts), parts.opened

    async def revision(call: Call) -> str:
        collection = collection_of(call)
        if not collection:
            return ""
        await reach.check(collection, call.principal)
        return await parts.index.revision(collection, principal=call.principal)

    store = MemoryStore(settings.cache.max_bytes)
    fallback = settings.fallback
    health = Health(failures=fallback.failures, cooldown=fallback.cooldown, longest=fallback.longest_cooldown)
    around = around_of(parts)
    wider = parts.table.chains("fallback.context_fallbacks", fallback.context_fallbacks)
    stages: dict[str, Callable[[Model], Model]] = {
        "keys": keys,
        "ledger": lambda inner: ledger_of(parts, inner),
        "cache": lambda inner: Cache(inner, store, clock, settings.cache, revision=revision),
        "technique": lambda inner: Techniques(inner, around),
        "grounding": lambda inner: Ground(
            inner,
            searching.within,
            settings.grounding,
            shelf=parts.index,
            checkers=Checkers(opened.heads, opened.tokens),
        ),
        "route": lambda inner: Route(inner, parts.table, clock),
        "fallback": lambda inner: Fallback(
            inner,
            health,
            clock,
            fallback,
            window=lambda target: parts.prices.window(target.provider, target.model),
            wider=wider,
        ),
    }
    model = paid_of(parts)
    for name in reversed(ROAD[: ROAD.index("budget")]):
        model = stages[name](model)
    return model


def paid_of(parts: Parts) -> Model:
    """The end of the road, from the budget on, for calls that know their target."""
    settings, clock = parts.settings, parts.clock
    stages: dict[str, Callable[[Model], Model]] = {
        "budget": lambda inner: Budget(inner, parts.allowances, parts.prices, clock, settings.budget),
        "retry": lambda inner: Retry(inner, clock, random.random, settings.retry),
    }
    model: Model = Dispatch(parts.models)
    for name in reversed(ROAD[ROAD.index("budget") : -1]):
        model = stages[name](model)
    return model


def given_of(parts: Parts, model: Model) -> Given:
    """What agents have beside their tools; they ask the whole road."""
    return Given(
        model=model,
        quote=surroundings_of(parts).quote,
        calls=surroundings_of(parts).calling,
        search=searching_of(parts).of,
        web=HttpWeb(),
        environment=os.environ,
        database=parts.database,
        clock=parts.clock,
        active=lambda principal: parts.keyring.renew(principal, parts.clock.now()),
        keep_days=parts.settings.retention.run_days,
    )


def around_of(parts: Parts) -> Around:
    """What the techniques have beside their model."""
    embed = embedding(parts.opened.encoder)
    return surroundings_of(parts).around(embed, datasets_of(parts.settings.techniques.datasets, embed))


def surroundings_of(parts: Parts) -> Surroundings:
    kinds = {name: kind_of(name, provider).name for name, provider in providers_of(parts.settings).items()}
    return Surroundings(
        parts.table,
        parts.prices,
        parts.clock,
        kinds=kinds,
        capabilities=parts.capabilities,
        rules=parts.settings.lint,
    )


def ledger_of(parts: Parts, inner: Model) -> Model:
    return Ledger(inner, parts.log, parts.clock, parts.settings.ledger, observe=parts.metrics.record)


def searching_of(parts: Parts) -> Searching:
    """Search and ingestion, whose vectors a provider may make: no road but its end, for a chain would mix encoders."""
    paid = paid_of(parts)
    return Searching(
        store=parts.index,
        reach=Reach(parts.index),
        opened=parts.opened,
        settings=parts.settings.grounding.search,
        paid=paid,
        recorded=ledger_of(parts, paid),
        new_id=lambda: new_id("call", parts.clock.now()),
    )


@asynccontextmanager
async def open_house(settings: Settings, clock: Clock | None = None) -> AsyncGenerator[House, None]:
    """Opens the data folder and everything that stands on it; closes it in reverse. Raises LoamError."""
    clock = clock or SystemClock()
    table, prices = table_of(settings), prices_of(settings)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(Path(settings.data))).path
        database = await Database.open(folder / "loam.db", MIGRATIONS, durability=settings.durability)
        stack.push_async_callback(database.close)
        grounding = settings.grounding
        index = await open_library(grounding.store, folder / "documents.db", grounding.search)
        stack.push_async_callback(index.close)
        capabilities = Capabilities.load()
        provided = await provide(settings, capabilities, clock, stack, folder)
        models = provided.models
        bodies = Bodies(settings.ledger.largest_body)
        opened = open_encoder(grounding.encoder, folder, models)
        stack.callback(opened.close)
        models[READER] = Reader(opened.heads)
        prompts = await PromptShelf.open(database, clock)
        files = read_folder(settings.prompts.folder) if settings.prompts.folder else {}
        notes = await prompts.take(files, settings.prompts.label)
        parts = Parts(
            settings=settings,
            clock=clock,
            models=models,
            capabilities=capabilities,
            table=table,
            prices=prices,
            index=index,
            opened=opened,
            keyring=await Keyring.open(database, clock),
            prompts=prompts,
            allowances=await Allowances.open(database, clock),
            log=CallLog(database, bodies),
            history=CallHistory(database, bodies),
            feedback=Feedback(database),
            metrics=Metrics(),
            database=database,
            checkpoints=Checkpoints(provided.fleets),
            notes=((opened.notice, *notes) if opened.notice else (*notes,)),
        )
        stack.push_async_callback(parts.keyring.close)
        mirrors = mirrors_of(parts)
        stack.push_async_callback(mirrors.close)
        await parts.log.mark_lost()
        sweeping = asyncio.ensure_future(Retention(database, clock, settings.retention).run())
        stack.push_async_callback(_stop, sweeping)
        admin_key = await keyring.first_key(parts.keyring, folder)
        app, operations = await face_of(parts, mirrors, stack)
        yield House(app, operations, admin_key, parts.notes)


async def face_of(parts: Parts, mirrors: Mirrors, stack: AsyncExitStack) -> tuple[Gateway, tuple[Operation, ...]]:
    """The app and all that its native API can do; agents stop when the stack is closed."""
    keys, whole = way_of(parts)
    desk, agents = await open_agents(parts.settings.agents, given_of(parts, whole), stack)
    operations = (*operations_of(parts, mirrors), *agents)
    return app_of(parts, operations, keys, AgentModels(whole, desk, parts.clock)), operations


def operations_of(parts: Parts, mirrors: Mirrors) -> tuple[Operation, ...]:
    """Everything that the native API can do."""
    checkers = Checkers(parts.opened.heads, parts.opened.tokens)

    return (
        *state_operations(
            metrics=parts.metrics,
            models=offer_of(parts).entries,
            check=lambda: unwritable(parts.database),
            version=__version__,
            notes=parts.notes,
        ),
        *key_operations(parts.keyring),
        *budget_operations(parts.allowances),
        *prompt_operations(parts.prompts),
        *engine_operations(parts.checkpoints),
        *inspection.operations(parts.checkpoints.ask),
        *call_operations(parts.history, parts.feedback, parts.clock),
        *grounding_operations(parts.index, searching_of(parts).of, mirrors, checkers),
    )


def way_of(parts: Parts) -> tuple[Keys, Model]:
    """The whole road, with its first stage, which knows what a key has left."""
    stages: list[Keys] = []

    def keys(inner: Model) -> Model:
        stages.append(Keys(Prompted(inner, parts.prompts.find), parts.clock, parts.settings.keys))
        return stages[0]

    whole = road(parts, keys)
    return stages[0], whole


def app_of(parts: Parts, operations: tuple[Operation, ...], keys: Keys, whole: Model) -> Gateway:
    """The ASGI app: the data path's endpoints on the road, and the native API."""
    settings, clock = parts.settings, parts.clock
    door = Door(lambda secret: parts.keyring.identify(secret, clock.now()), settings.door, settings.server.host)
    memory = Conversations(parts.database, clock)

    def endpoint(border: Border) -> App:
        return Endpoint(
            border,
            whole,
            door=door,
            clock=clock,
            settings=settings.http,
            limits=keys.headers,
            memory=memory if remembers(border) else None,
        )

    listing = ModelList(offer_of(parts).names, door=door, since=clock.now())
    admin = native_app(operations, door=door, clock=clock, max_body=settings.http.max_body, version=__version__)
    outside = [operation.path for operation in operations if not operation.path.startswith("/loam/")]
    return Gateway(data_path(endpoint, listing), admin, outside=outside)


def mirrors_of(parts: Parts) -> Mirrors:
    return Mirrors(
        parts.index,
        new_id=lambda: new_id("run", parts.clock.now()),
        encoder=searching_of(parts).ingestion(),
        settings=parts.settings.grounding.ingest,
    )


def offer_of(parts: Parts) -> Offer:
    settings = parts.settings
    return Offer(
        table=parts.table,
        routes=frozenset(settings.routes),
        prices=parts.prices,
        reach=Reach(parts.index),
        answers=settings.grounding.model,
        clock=parts.clock,
        prompts=parts.prompts,
        checkpoints=parts.checkpoints.names,
        agents={name: agent.model for name, agent in settings.agents.items()},
    )


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
