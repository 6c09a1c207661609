"""Which providers there are, and what the settings make of them: targets of names, and prices.

Knows every kind of provider, and the names and prices in the settings; opens nothing. Invariant: a provider's kind is
known from the settings alone, so that `loam config check` finds what is wrong before anything runs.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from loam.config import Settings, load
from loam.core.errors import SettingsError
from loam.core.ports import Model
from loam.engine.fleet import Fleet, is_checkpoint
from loam.engine.pocket import FOLDER
from loam.gateway.route import RouteTable
from loam.grounding.library import check_address
from loam.planners.prices import PriceBook
from loam.providers import anthropic, compatible, groq, local, openai, scripted, together
from loam.providers.local import Local
from loam.providers.provider import ProviderKind, ProviderSettings, Vectors

PROVIDERS: tuple[ProviderKind, ...] = (
    openai.KIND,
    anthropic.KIND,
    groq.KIND,
    together.KIND,
    compatible.KIND,
    scripted.KIND,
    local.KIND,
)
"""One row a provider; the first that owns a model's name is asked for it."""

HERE = local.KIND.name
"""The provider that is always there: the checkpoints on this machine, as `local/NAME`."""

POCKET = "pocket"
"""The small model that ships, as a name that needs no path."""

READER = "loam"
"""The provider name of the reader that ships: its model is called `loam/reader`."""

FREE = "free"
"""What a provider's `prices` says where its answers cost nothing."""


def configured(environment: Mapping[str, str], *, file: Path | None = None) -> Settings:
    """The settings, with API keys from the environment where they name none. Raises SettingsError.

    A key of a kind that no section names makes a provider of that kind; a section of a kind at its own address without
    a key takes it.
    """
    settings = load(environment, file=file)
    providers = dict(settings.providers)
    kinds = {name: kind_of(name, provider) for name, provider in providers.items()}
    for name, kind in kinds.items():
        key = environment.get(kind.key_variable, "") if kind.key_variable else ""
        if key and not providers[name].api_key and not providers[name].base_url:
            providers[name] = structs.replace(providers[name], api_key=key)
    for kind in PROVIDERS:
        if kind not in kinds.values() and kind.key_variable and environment.get(kind.key_variable):
            providers[kind.name] = ProviderSettings(api_key=environment[kind.key_variable])
    return structs.replace(settings, providers=providers)


def check(settings: Settings) -> None:
    """Builds what can be built without opening anything. Raises SettingsError."""
    table_of(settings).chains("fallback.context_fallbacks", settings.fallback.context_fallbacks)
    prices_of(settings)
    check_address(settings.grounding.store.url)
    for name, agent in settings.agents.items():
        agent.check(name)


def kind_of(name: str, provider: ProviderSettings) -> ProviderKind:
    """What a provider is: its `kind`, else its own name, else an OpenAI-compatible server. Raises SettingsError."""
    kinds = {kind.name: kind for kind in PROVIDERS}
    if name == READER:
        raise SettingsError(f"[providers.{READER}] is the name of the reader that ships; choose another")
    # a server of one's own is often called local
    known = name in kinds and not (name == HERE and provider.base_url)
    wanted = provider.kind or (name if known else compatible.KIND.name)
    if wanted not in kinds:
        raise SettingsError(f"[providers.{name}] kind is {wanted!r}; there are: {', '.join(kinds)}")
    return kinds[wanted]


def providers_of(settings: Settings) -> dict[str, ProviderSettings]:
    """The providers of the settings, and the one that is always there, whose checkpoints lie in the data folder."""
    providers = {**settings.providers}
    providers.setdefault(HERE, ProviderSettings())
    for name, provider in providers.items():
        if kind_of(name, provider) is local.KIND and not provider.engine.folder:
            engine = structs.replace(provider.engine, folder=str(Path(settings.data) / "models"))
            providers[name] = structs.replace(provider, engine=engine)
    return providers


def named(model: str) -> Path | None:
    """The checkpoint that a model's name is the path of, with `local/` before it or without; None: it is a name."""
    if model.removeprefix(f"{HERE}/") == POCKET and is_checkpoint(FOLDER):
        return FOLDER
    for given in (model, model.removeprefix(f"{HERE}/")):
        path = Path(given).expanduser()
        if given and is_checkpoint(path):
            return path.resolve()
    return None


def asked_as(model: str) -> str:
    """The name by which a gateway is asked for a model: a checkpoint's path becomes `local/NAME`."""
    path = named(model)
    return model if path is None else f"{HERE}/{path.stem if path.is_file() else path.name}"


def with_checkpoint(settings: Settings, model: str, *, at_start: bool = True) -> tuple[Settings, str]:
    """The settings with one checkpoint more, by its path or by its name in the models' folder; and its name to ask by.

    Raises SettingsError where there is none such.
    """
    provider = providers_of(settings)[HERE]
    if kind_of(HERE, provider) is not local.KIND:
        raise SettingsError(f"[providers.{HERE}] is a server elsewhere; give it another name to serve checkpoints here")
    path = named(model)
    name = model.removeprefix(f"{HERE}/") if path is None else path.stem if path.is_file() else path.name
    engine = provider.engine
    if name == FOLDER.name and name not in Fleet(HERE, engine).paths:
        path = FOLDER  # the small one that ships
    if path is not None:
        engine = structs.replace(engine, paths={**engine.paths, name: str(path)})
    if name not in Fleet(HERE, engine).paths:
        raise SettingsError(
            f"there is no checkpoint {model!r}: neither a folder with config.json, nor a .gguf file, nor a name in "
            f"{engine.folder} (`loam models list` shows what is there, `loam models pull` fetches one)"
        )
    if at_start:
        engine = structs.replace(engine, at_start=tuple(dict.fromkeys((*engine.at_start, name))))
    more = structs.replace(provider, engine=engine, models=tuple(dict.fromkeys((*provider.models, name))))
    return structs.replace(settings, providers={**settings.providers, HERE: more}), f"{HERE}/{name}"


def fleets_of(models: Mapping[str, Model]) -> dict[str, Fleet]:
    """The checkpoints of every provider that holds some, by the provider's name."""
    return {name: model.fleet for name, model in models.items() if isinstance(model, Local)}


def encode_with(models: Mapping[str, Model], vectors: Vectors) -> None:
    """Gives those providers that hold checkpoints what makes embeddings, which they cannot reach themselves."""
    for model in models.values():
        if isinstance(model, Local):
            model.vectors = vectors


def table_of(settings: Settings) -> RouteTable:
    """What every model name stands for. Raises SettingsError."""
    kinds = {name: kind_of(name, provider) for name, provider in providers_of(settings).items()}
    providers = {name: provider.models for name, provider in providers_of(settings).items()}
    return RouteTable(
        settings.routes,
        providers={**providers, READER: ("reader",)},
        owns={name: kind.owns for name, kind in kinds.items()},
        closed=(READER,),
        aside=tuple(name for name, kind in kinds.items() if kind is local.KIND),
        default=settings.default_route,
    )


def prices_of(settings: Settings) -> PriceBook:
    """The price list, with the settings' own names and prices. Raises SettingsError."""
    providers = providers_of(settings)
    listed = {name: provider.prices or kind_of(name, provider).prices for name, provider in providers.items()}
    return PriceBook.load(
        settings.prices,
        free={READER, *(name for name, known_as in listed.items() if known_as == FREE)},
        listed_as={name: known_as for name, known_as in listed.items() if known_as not in ("", FREE)},
    )
