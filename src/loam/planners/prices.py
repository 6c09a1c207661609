"""The price list: which model of which provider costs what, from the bundled list and the settings' own rows.

Knows how a list names its models; the arithmetic is `loam.planners.tariff`'s. `prices.json` is written by
`recipes/prices.py`. Invariant: a model that nothing names has no price (`None`), never a price of zero.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, structs

from loam.core.errors import SettingsError
from loam.planners.tariff import Tariff, Terms

_FILE = Path(__file__).with_name("prices.json")
_REMEMBERED = 4096  # models; clients can name any number of them
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?=-|:|$)")
_FINEST = Decimal("0.000000001")
_FREE = Tariff((Terms(input=Decimal(0), output=Decimal(0)),), "free")

Dollars = Annotated[Decimal, Meta(description="Dollars per million tokens, as text or number.")]


class PriceOverride(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[prices]]` of loam.toml; it stands above the bundled list, and the first that fits counts.

    What is left out costs what it is a kind of: a cached or cache-writing token like an `input` token.
    """

    model: Annotated[str, Meta(description="Model name, or a pattern such as `llama-*`.")]
    provider: Annotated[str, Meta(description="Configured provider's name, or a pattern.")] = "*"
    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    reasoning: Dollars | None = None
    searches: Annotated[Decimal | None, Meta(description="Dollars per thousand web searches.")] = None


class _Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """Fits where one text of one list does; each entry of `all` is rules that must fit together. Lower case."""

    equals: frozenset[str] = frozenset()
    starts_with: tuple[str, ...] = ()
    ends_with: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()
    all: tuple[tuple["_Rule", ...], ...] = ()

    def fits(self, name: str) -> bool:
        return (
            name in self.equals
            or name.startswith(self.starts_with)
            or name.endswith(self.ends_with)
            or any(part in name for part in self.contains)
            or any(re.search(pattern, name) for pattern in self.regex)
            or any(all(rule.fits(name) for rule in rules) for rules in self.all)
        )


class _Row(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    match: _Rule
    terms: tuple[Terms, ...]
    window: int | None = None


class _Listed(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's models; `fallbacks` are the providers whose models it sells too, at their standard price."""

    models: tuple[_Row, ...]
    fallbacks: tuple[str, ...] = ()

    def row(self, name: str) -> _Row | None:
        return next((row for row in self.models if row.match.fits(name)), None)


class _List(Struct, frozen=True, forbid_unknown_fields=True):
    """The file; a provider's models stay undecoded until one of them is asked for."""

    version: str
    addresses: dict[str, str]
    providers: dict[str, Raw]


class PriceBook:
    """A `loam.core.ports.Prices`. Use `PriceBook.load`.

    ```python
    prices = PriceBook.load(free={"scripted"}, listed_as={"my-azure": "azure"})
    prices.find("openai", "gpt-4o")
    ```
    """

    def __init__(
        self, bundled: bytes, overrides: tuple[PriceOverride, ...], free: Collection[str], listed_as: Mapping[str, str]
    ) -> None:
        self._list = msgspec.json.decode(bundled, type=_List)
        self._overrides = overrides
        self._free = frozenset(free)
        self._listed_as = dict(listed_as)
        self._providers: dict[str, _Listed] = {}
        self._found: dict[tuple[str, str], Tariff | None] = {}

    @classmethod
    def load(
        cls,
        overrides: tuple[PriceOverride, ...] = (),
        *,
        free: Collection[str] = (),
        listed_as: Mapping[str, str] | None = None,
    ) -> "PriceBook":
        """The bundled list under `overrides`. Raises SettingsError for a price below zero or finer than nano-dollars.

        `free` names the configured providers that cost nothing; `listed_as` says under which name the list knows a
        configured provider that is called differently (`{"my-azure": "azure"}`).
        """
        for override in overrides:
            _check(override)
        return cls(_FILE.read_bytes(), overrides, free, listed_as or {})

    @property
    def version(self) -> str:
        """Which list it is, and of which day."""
        return self._list.version

    def find(self, provider: str, model: str) -> Tariff | None:
        """The price of a model at a configured provider; `None` when neither settings nor list know it."""
        key = (provider, model)
        try:
            return self._found[key]
        except KeyError:
            pass
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        found = self._found[key] = self._look_up(provider, model)
        return found

    def window(self, provider: str, model: str) -> int | None:
        """How many tokens of prompt and answer a model holds, as the list has it."""
        return next((row.window for row in self._rows(provider, model) if row.window), None)

    def provider_at(self, address: str) -> str | None:
        """The list's name of the provider whose API is at a URL: `provider_at("https://api.openai.com/v1")`."""
        addresses = self._list.addresses.items()
        return next((name for name, pattern in addresses if re.match(pattern, address)), None)

    def _look_up(self, provider: str, model: str) -> Tariff | None:
        for override in self._overrides:
            if fnmatchcase(provider, override.provider) and fnmatchcase(model, override.model):
                return Tariff((_terms(override),), "loam.toml")
        if provider in self._free:
            return _FREE
        found = next((row for row in self._rows(provider, model) if row.terms), None)
        return None if found is None else Tariff(found.terms, self._list.version)

    def _rows(self, provider: str, model: str) -> Iterator[_Row]:
        """What the list has on a model, by its name as given, then with the date in the list's own way of writing."""
        listed = self._provider(self._listed_as.get(provider, provider))
        if listed is not None:
            for name in (model.lower(), _COMPACT_DATE.sub(_dashed, model.lower())):
                row = self._row(listed, name)
                if row is not None:
                    yield row

    def _row(self, listed: _Listed, name: str) -> _Row | None:
        row = listed.row(name)
        if row is not None:
            return row
        for fallback in listed.fallbacks:
            other = self._provider(fallback)
            row = other.row(name) if other is not None else None
            if row is not None:
                standard = tuple(terms for terms in row.terms if not terms.tier)
                return structs.replace(row, terms=standard)
        return None

    def _provider(self, name: str) -> _Listed | None:
        listed = self._providers.get(name)
        raw = self._list.providers.get(name)
        if listed is None and raw is not None:
            listed = self._providers[name] = msgspec.json.decode(raw, type=_Listed)
        return listed


def _dashed(found: "re.Match[str]") -> str:
    """Some clients write -20251211 where the list says -2025-12-11."""
    year, month, day = found.groups()
    try:
        return f"-{date(int(year), int(month), int(day)).isoformat()}"
    except ValueError:
        return found.group()


def _terms(override: PriceOverride) -> Terms:
    return Terms(
        input=override.input,
        output=override.output,
        cached=override.cached,
        cache_write=override.cache_write,
        cache_write_1h=override.cache_write_1h,
        reasoning=override.reasoning,
        searches=override.searches,
    )


def _check(override: PriceOverride) -> None:
    terms = _terms(override)
    for name in ("input", "output", "cached", "cache_write", "cache_write_1h", "reasoning", "searches"):
        price = getattr(terms, name)
        if price is None:
            continue
        if not price.is_finite() or price < 0 or price > 1_000_000 or price % _FINEST:
            raise SettingsError(
                f"[[prices]] for {override.model!r}: {name} = {price} is not a price; "
                "write dollars per million tokens with at most nine decimal places"
            )
