"""Which providers there are, and what the settings make of them: targets of names, and prices.

Knows every kind of provider, and the names and prices in the settings; opens nothing. Invariant: a provider's kind is
known from the settings alone, so that `loam config check` finds what is wrong before anything runs.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from loam.config import Settings, load
from loam.core.errors import SettingsError
from loam.gateway.route import RouteTable
from loam.grounding.library import check_address
from loam.planners.prices import PriceBook
from loam.providers import anthropic, compatible, groq, openai, scripted, together
from loam.providers.provider import ProviderKind, ProviderSettings

PROVIDERS: tuple[ProviderKind, ...] = (
    openai.KIND,
    anthropic.KIND,
    groq.KIND,
    together.KIND,
    compatible.KIND,
    scripted.KIND,
)
"""One row a provider; the first that owns a model's name is asked for it."""

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


def kind_of(name: str, provider: ProviderSettings) -> ProviderKind:
    """What a provider is: its `kind`, else its own name, else an OpenAI-compatible server. Raises SettingsError."""
    kinds = {kind.name: kind for kind in PROVIDERS}
    if name == READER:
        raise SettingsError(f"[providers.{READER}] is the name of the reader that ships; choose another")
    wanted = provider.kind or (name if name in kinds else compatible.KIND.name)
    if wanted not in kinds:
        raise SettingsError(f"[providers.{name}] kind is {wanted!r}; there are: {', '.join(kinds)}")
    return kinds[wanted]


def table_of(settings: Settings) -> RouteTable:
    """What every model name stands for. Raises SettingsError."""
    providers = {name: provider.models for name, provider in settings.providers.items()}
    owns = {name: kind_of(name, provider).owns for name, provider in settings.providers.items()}
    return RouteTable(
        settings.routes,
        providers={**providers, READER: ("reader",)},
        owns=owns,
        closed=(READER,),
        default=settings.default_route,
    )


def prices_of(settings: Settings) -> PriceBook:
    """The price list, with the settings' own names and prices. Raises SettingsError."""
    listed = {name: provider.prices or kind_of(name, provider).prices for name, provider in settings.providers.items()}
    return PriceBook.load(
        settings.prices,
        free={READER, *(name for name, known_as in listed.items() if known_as == FREE)},
        listed_as={name: known_as for name, known_as in listed.items() if known_as not in ("", FREE)},
    )
