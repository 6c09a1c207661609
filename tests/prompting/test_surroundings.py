"""What the road knows beside the techniques: worst prices over a chain, what providers can do, sets of examples."""

from pathlib import Path

import pytest

from loam.config import parse
from loam.core.calls import Controls, Sampling
from loam.core.clock import SystemClock
from loam.core.errors import SettingsError
from loam.core.messages import say
from loam.kinds import kind_of, prices_of, table_of
from loam.prompting.capabilities import Capabilities
from loam.surroundings import Surroundings, datasets_of
from tests.gateway.virtual import call

SETTINGS = parse(
    {
        "providers": {
            "openai": {"api_key": "x"},
            "other": {"kind": "anthropic", "api_key": "x"},
            "fake": {"kind": "scripted"},
        },
        "routes": {"both": {"chain": ["openai/m", "other/n"]}},
        "prices": [
            {"provider": "openai", "model": "m", "input": 1, "output": 1},
            {"provider": "other", "model": "n", "input": 2, "output": 2},
        ],
    }
)
BESIDE = Surroundings(
    table_of(SETTINGS),
    prices_of(SETTINGS),
    SystemClock(),
    kinds={name: kind_of(name, provider).name for name, provider in SETTINGS.providers.items()},
    capabilities=Capabilities.load(),
    rules=SETTINGS.lint,
)
LONG = Sampling(max_tokens=1_000_000)


def test_a_quote_is_the_worst_of_the_whole_chain_together() -> None:
    one = BESIDE.quote(call(model="openai/m", sampling=LONG))
    both = BESIDE.quote(call(model="both", sampling=LONG))
    assert one is not None
    assert both is not None
    assert one >= 1_000_000
    assert both == pytest.approx(3 * one, rel=0.01)
    fallbacks = Controls(fallbacks=("other/n",))
    assert BESIDE.quote(call(model="openai/m", sampling=LONG, controls=fallbacks)) == both


def test_there_is_no_quote_without_a_price_or_a_bound() -> None:
    assert BESIDE.quote(call(model="openai/unheard-of", sampling=LONG)) is None
    assert BESIDE.quote(call(model="openai/m")) is None
    assert BESIDE.quote(call(model="fake/m", sampling=LONG)) == 0


def test_several_answers_to_one_prompt_only_where_every_target_gives_them() -> None:
    assert BESIDE.draws(call(model="openai/m")) == 8
    assert BESIDE.draws(call(model="both")) == 1
    assert BESIDE.draws(call(model="openai/m", controls=Controls(collection="hr"))) == 1


def test_who_reasons_by_itself() -> None:
    assert BESIDE.reasons(call(model="openai/gpt-5-mini"))
    assert not BESIDE.reasons(call(model="openai/gpt-4o"))
    assert not BESIDE.reasons(call(model="nobody/at-all"))


def test_the_linter_reads_the_instructions() -> None:
    asked = call(messages=(say("system", "Write a good summary of the text. Answer in JSON."), say("user", "hi")))
    found = BESIDE.lint(asked)
    assert found
    assert {one["file"] for one in found} == {"system"}


def test_sets_of_examples_are_read_and_their_faults_are_settings_errors(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"input": "a", "output": "b"}\n', "utf-8")
    bad.write_text('{"input": "a"}\n', "utf-8")
    assert len(datasets_of({"colours": str(good)}, None)["colours"]) == 1
    for file in (bad, tmp_path / "none.jsonl"):
        with pytest.raises(SettingsError, match=r"\[techniques.datasets\] colours"):
            datasets_of({"colours": str(file)}, None)


def test_a_prompt_that_is_too_long_to_be_linted_in_a_call_is_not_and_the_record_says_so() -> None:
    asked = call(messages=(say("system", "Be nice. " * 3000), say("user", "x")))
    assert BESIDE.lint(asked) == []
    assert "was not looked at" in asked.trace.warnings[0]


def test_a_line_of_a_set_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"input": ' + "[" * 100_000)
    with pytest.raises(SettingsError, match=r"\[techniques\.datasets\] deep"):
        datasets_of({"deep": str(tmp_path / "set.jsonl")}, None)
