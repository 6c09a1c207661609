"""Writes src/loam/planners/prices.json from the installed genai-prices package.

    python recipes/prices.py

The gateway reads this file because importing genai-prices costs it 0.4 s and 14 MB at the start. One model is one line,
so that a new price list can be reviewed as a diff. A model without any price that Loam's usage can be charged by (only
hours of sound, pages, characters, or nothing at all) stays in the list with no prices, which reads as unknown; only an
id that says `:free` makes nothing mean zero.
"""

import argparse
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import ROUND_UP, Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

FILE = Path(__file__).parents[1] / "src" / "loam" / "planners" / "prices.json"
NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "output_reasoning_mtok": "reasoning",
    "web_searches_kcount": "searches",
    "requests_kcount": "requests",
}
CHARGEABLE = {"input", "output", "requests"}
FINEST = Decimal("0.000000001")  # some prices are thirds of a cent with float dust behind; nothing real is finer


def rule(match: Any) -> dict[str, Any]:
    """A match as lists of texts of which one must fit; `all` holds rules that must fit together."""
    found: dict[str, list[Any]] = {}
    for clause in match.or_ if isinstance(match, ClauseOr) else [match]:
        match clause:
            case ClauseEquals():
                found.setdefault("equals", []).append(clause.equals.lower())
            case ClauseStartsWith():
                found.setdefault("starts_with", []).append(clause.starts_with.lower())
            case ClauseEndsWith():
                found.setdefault("ends_with", []).append(clause.ends_with.lower())
            case ClauseContains():
                found.setdefault("contains", []).append(clause.contains.lower())
            case ClauseRegex():
                found.setdefault("regex", []).append(clause.regex)
            case ClauseAnd():
                found.setdefault("all", []).append([rule(part) for part in clause.and_])
            case ClauseOr():
                for name, values in rule(clause).items():
                    found.setdefault(name, []).extend(values)
            case _:
                raise TypeError(f"genai-prices has a new kind of match: {clause!r}")
    return found


def rates(price: ModelPrice) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for theirs, ours in NAMES.items():
        value = getattr(price, theirs)
        if isinstance(value, TieredPrices):
            found[ours] = [[0, fine(value.base)], *([tier.start, fine(tier.price)] for tier in value.tiers)]
        elif value is not None:
            found[ours] = fine(value)
    return found


def fine(price: Decimal) -> Decimal:
    rounded = price.quantize(FINEST, ROUND_UP)
    return price if rounded == price else rounded


def condition(constraint: object) -> dict[str, Any]:
    match constraint:
        case None:
            return {}
        case StartDateConstraint():
            return {"since": constraint.start_date}
        case TimeOfDateConstraint():
            return {"minutes": [minute(constraint.start_time), minute(constraint.end_time)]}
        case _:
            raise TypeError(f"genai-prices has a new kind of condition: {constraint!r}")


def minute(moment: time) -> int:
    if moment.utcoffset() or moment.second:
        raise ValueError(f"{moment} is not a whole minute in UTC")
    return moment.hour * 60 + moment.minute


def tier(variant: PriceVariant) -> str:
    """The service tier that a variant is for; empty for what Loam's calls cannot say (a route, a kind of search)."""
    match variant.when:
        case {"processing": name} | {"service_tier": name} | {"speed": name} if len(variant.when) == 1:
            return name
        case _:
            return ""


def terms(model: ModelInfo) -> list[dict[str, Any]]:
    prices = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    standard = [rates(price.prices) | condition(price.constraint) for price in prices]
    if not all(CHARGEABLE & found.keys() for found in standard):
        return [{"input": Decimal(0), "output": Decimal(0)}] if model.id.endswith(":free") else []
    variants = [
        {"tier": tier(variant)} | rates(variant.prices) | condition(variant.constraint)
        for variant in model.price_variants or ()
        if tier(variant) and rates(variant.prices)
    ]
    return standard + variants


def row(model: ModelInfo) -> dict[str, Any]:
    window = {} if model.context_window is None else {"window": model.context_window}
    return {"id": model.id, "match": rule(model.match), **window, "terms": terms(model)}


def lines(today: date) -> Iterable[str]:
    encode = msgspec.json.Encoder(decimal_format="number").encode
    said = f"genai-prices {version('genai-prices')}, {today.isoformat()}"
    addresses = {provider.id: provider.api_pattern for provider in providers if provider.api_pattern}
    yield f'{{"version":{encode(said).decode()},"addresses":{encode(addresses).decode()},"providers":{{'
    for number, provider in enumerate(providers):
        fallbacks = encode(provider.fallback_model_providers or []).decode()
        yield f'{encode(provider.id).decode()}:{{"fallbacks":{fallbacks},"models":['
        yield ",\n".join(encode(row(model)).decode() for model in provider.models)
        yield "]}" if number == len(providers) - 1 else "]},"
    yield "}}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the price list that Loam ships.")
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date(), help="the day to note")
    parser.add_argument("--file", type=Path, default=FILE, help="where to write")
    arguments = parser.parse_args()
    arguments.file.write_text("\n".join(lines(arguments.date)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
