"""The price list against its source: genai-prices is the slow, obvious twin of every figure."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import genai_prices.types
import msgspec
import pytest
from genai_prices.data import providers as listed_providers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from loam.core.calls import Usage
from loam.core.errors import SettingsError
from loam.core.ports import Prices
from loam.planners.prices import PriceBook, PriceOverride
from loam.planners.tariff import Tariff

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
OURS = PriceBook.load()
AT_MOST = Decimal(
    "1.0001"
)  # micro-dollars; a few list prices are thirds with 17 digits, and Loam keeps nine, rounded up


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage as a provider may report it: the kinds of input do not overlap, nor do those of output."""
    size = st.integers(0, draw(st.sampled_from([10, 5_000, 150_000, 600_000])))
    cached, write, long, audio, plain = (draw(size) for _ in range(5))
    reasoning, spoken, said = (draw(size) for _ in range(3))
    return Usage(
        input=plain + cached + write + long + audio,
        output=said + reasoning + spoken,
        cached=cached,
        cache_write=write + long,
        cache_write_1h=long,
        reasoning=reasoning,
        audio_input=audio,
        audio_output=spoken,
        searches=draw(st.integers(0, 3)),
    )


moments = st.integers(1_700_000_000, 1_820_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def theirs(usage: Usage) -> genai_prices.types.Usage:
    """The overlaps that their price list knows and Loam's usage does not are said to be zero."""
    overlaps = ("cache_audio_read_tokens", "output_audio_reasoning_tokens", "cache_audio_write_tokens")
    return genai_prices.types.Usage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.cache_write,
        cache_write_1h_tokens=usage.cache_write_1h,
        output_reasoning_tokens=usage.reasoning,
        input_audio_tokens=usage.audio_input,
        output_audio_tokens=usage.audio_output,
        web_searches=usage.searches,
        **dict.fromkeys(overlaps, 0),
    )


def countable(model: genai_prices.types.ModelInfo) -> bool:
    prices = model.prices if isinstance(model.prices, list) else [model.prices]
    known = ("input_mtok", "output_mtok", "requests_kcount")
    every = [getattr(price, "prices", price) for price in prices]
    return model.id.endswith(":free") or all(any(getattr(price, name) is not None for name in known) for price in every)


def contexts(model: genai_prices.types.ModelInfo) -> Iterator[tuple[str, dict[str, str]]]:
    yield "", {}
    yield "unheard-of", {"service_tier": "unheard-of"}
    for variant in model.price_variants or ():
        (key, value), *others = variant.when.items()
        if not others and key in ("processing", "service_tier", "speed"):
            yield value, variant.when


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking would take minutes
@given(usages(), moments)
def test_every_model_costs_what_the_source_says(usage: Usage, moment: datetime) -> None:
    now = moment.timestamp()
    for provider in listed_providers:
        for listed in provider.models:
            model = provider.find_model(listed.id, all_providers=listed_providers)
            price = OURS.find(provider.id, listed.id)
            if model is None or not countable(model):
                assert price is None, listed.id
                continue
            assert price is not None, listed.id
            for tier, context in contexts(model):
                expected = model.calc_price(
                    theirs(usage), provider, genai_request_timestamp=moment, price_context=context
                ).total_price
                off = price.cost(usage, tier=tier, now=now) - expected * 1_000_000
                assert 0 <= off < AT_MOST, (provider.id, model.id, tier, usage, expected)


def names(match: object) -> Iterator[str]:
    """Names that a rule is about, and each as another client writes it with a date."""
    for clause in getattr(match, "or_", None) or getattr(match, "and_", None) or [match]:
        for attribute in ("equals", "starts_with", "ends_with", "contains"):
            text = getattr(clause, attribute, None)
            if text is not None:
                yield from (text, f"{text.upper()}-20251211")


def test_every_name_finds_the_model_that_the_source_finds() -> None:
    one = Usage(input=1000, output=1000, cached=100)
    for provider in listed_providers:
        for listed in provider.models:
            for name in names(listed.match):
                model = provider.find_model(name, all_providers=listed_providers)
                price = OURS.find(provider.id, name)
                assert (price is None) == (model is None or not countable(model)), (provider.id, name)
                if model is not None and price is not None:
                    moment = datetime.fromtimestamp(NOW, UTC)
                    cost = model.calc_price(theirs(one), provider, genai_request_timestamp=moment).total_price
                    assert 0 <= price.cost(one, now=NOW) - cost * 1_000_000 < AT_MOST, (provider.id, name)


@given(usages(), st.integers(0, 5000), st.integers(0, 5000), st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_worst(
    usage: Usage, more_in: int, more_out: int, data: st.DataObject
) -> None:
    provider, model, tier = data.draw(
        st.sampled_from(
            [
                ("anthropic", "claude-sonnet-4-5", "batch"),
                ("google", "gemini-2.5-pro", ""),
                ("openai", "gpt-4.1", "priority"),
                ("deepseek", "deepseek-chat", ""),
                ("perplexity", "sonar", ""),
            ]
        )
    )
    price = OURS.find(provider, model)
    assert price is not None
    told = msgspec.structs.replace(usage, searches=0)
    worst = price.worst(usage.input + more_in, usage.output + more_out, tier=tier, now=NOW)
    assert price.cost(told, tier=tier, now=NOW) <= worst


def test_the_bundled_list_is_what_the_recipe_writes(tmp_path: Path) -> None:
    written = tmp_path / "prices.json"
    day = OURS.version.rpartition(", ")[2]
    command = [sys.executable, "recipes/prices.py", "--file", str(written), "--date", day]
    subprocess.run(command, cwd=ROOT, check=True)
    assert written.read_bytes() == (ROOT / "src/loam/planners/prices.json").read_bytes()


def cost(price: Tariff | None, usage: Usage) -> int:
    assert price is not None
    return price.cost(usage, now=NOW)


def test_an_unknown_model_has_no_price() -> None:
    book: Prices = OURS
    assert book.find("openai", "gpt-nobody") is None
    assert book.find("nobody", "gpt-4o") is None
    assert book.find("openai", "whisper-1") is None  # priced by the hour, which no usage tells


def test_small_prices_are_exact_and_only_the_sum_is_rounded_up() -> None:
    book = PriceBook.load((PriceOverride(model="m", input=Decimal("0.0375"), output=Decimal("0.000000001")),))
    assert cost(book.find("p", "m"), Usage(input=1_000_000)) == 37_500
    assert cost(book.find("p", "m"), Usage(input=80)) == 3
    assert cost(book.find("p", "m"), Usage(input=81)) == 4
    assert cost(book.find("p", "m"), Usage(output=1)) == 1


def test_cached_and_written_tokens_are_part_of_the_input() -> None:
    sonnet = OURS.find("anthropic", "claude-sonnet-5")
    assert cost(sonnet, Usage(input=1_000_000)) == 2_000_000
    assert cost(sonnet, Usage(input=1_000_000, cached=1_000_000)) == 200_000
    assert cost(sonnet, Usage(input=1_000_000, cache_write=1_000_000)) == 2_500_000
    assert cost(sonnet, Usage(input=1_000_000, cache_write=1_000_000, cache_write_1h=1_000_000)) == 4_000_000


def test_usage_that_does_not_add_up_is_never_charged_less() -> None:
    price = OURS.find("openai", "gpt-4.1")
    assert cost(price, Usage(input=10, cached=1000)) == cost(price, Usage(input=1000, cached=1000))
    assert cost(price, Usage(output=10, reasoning=1000)) == cost(price, Usage(output=1000, reasoning=1000))


def test_own_rows_stand_above_the_list_and_free_below_them() -> None:
    rows = (PriceOverride(model="gpt-4*", provider="open*", input=Decimal(1), output=Decimal(2)),)
    book = PriceBook.load(rows, free={"scripted", "openai"})
    own = book.find("openai", "gpt-4o")
    assert own is not None
    assert own.version == "loam.toml"
    assert cost(own, Usage(input=1_000_000, cached=500_000, output=1_000_000)) == 3_000_000
    free = book.find("scripted", "anything")
    assert free is not None
    assert free.version == "free"
    assert cost(free, Usage(input=10**9, output=10**9)) == 0


def test_a_provider_may_be_listed_under_another_name() -> None:
    book = PriceBook.load(listed_as={"mine": "azure"})
    mine, direct = book.find("mine", "gpt-4.1"), book.find("azure", "gpt-4.1")
    assert mine is not None
    assert direct is not None
    usage = Usage(input=12345, output=678)
    assert cost(mine, usage) == cost(direct, usage)
    assert book.provider_at("https://api.openai.com/v1") == "openai"
    assert book.provider_at("http://127.0.0.1:8000/v1") is None


@pytest.mark.parametrize("price", ["-1", "nan", "1e9", "0.0000000001"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    with pytest.raises(SettingsError, match="is not a price"):
        PriceBook.load((PriceOverride(model="m", input=Decimal(price), output=Decimal(1)),))


def test_prices_are_read_from_settings_as_text_or_number() -> None:
    for said in ("0.15", 0.15):
        row = msgspec.convert({"model": "m", "input": said, "output": 1}, PriceOverride)
        assert row.input == Decimal("0.15")


def test_only_what_is_asked_for_is_read_and_without_its_source() -> None:
    book = PriceBook.load()
    book.find("openai", "gpt-4o")
    assert set(book._providers) == {"openai"}
    code = "import sys, loam.planners.prices; sys.exit(any(n.startswith(('genai', 'pydantic')) for n in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_number_of_names_takes_bounded_memory() -> None:
    book = PriceBook.load()
    for number in range(5000):
        assert book.find("openai", f"made-up-{number}") is None
    assert len(book._found) < 4500
    assert book.find("openai", "gpt-4o") is not None


def test_context_windows_are_those_of_the_list() -> None:
    book = PriceBook.load()
    checked = 0
    for provider in listed_providers:
        for model in provider.models:
            if model.context_window is not None and provider.find_model(model.id) is model:
                assert book.window(provider.id, model.id) == model.context_window, (provider.id, model.id)
                checked += 1
    assert checked > 500
    assert book.window("openai", "no-such-model") is None
