"""What a Python program holds in its hands: techniques around a model of its own, questions, and typed values."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pydantic
import pytest

import loam
from loam.core.errors import LoamError, ModelFailure
from loam.providers.scripted import Scripted


class City(pydantic.BaseModel):
    name: str
    people: int

    @pydantic.field_validator("people")
    @classmethod
    def counted(cls, people: int) -> int:
        if people % 2:
            raise ValueError("people come in pairs")
        return people


class Town(msgspec.Struct):
    name: str
    people: int


@dataclass
class Village:
    name: str
    people: int


GOOD = '{"name": "Lima", "people": 10}'


def test_a_technique_is_a_model_around_a_model() -> None:
    model = Scripted(["5", "A: 7", "7.0", "7"])
    answer = loam.ask(loam.self_consistency(model, n=5, normalise="number"), "6 + 1?")
    assert answer.text == "A: 7"
    assert answer.steps[-1].details["samples_used"] == 4
    nested = loam.few_shot(
        loam.chain_of_thought(Scripted(["So. <answer>4</answer>"])), examples=[{"input": "1", "output": "1"}]
    )
    assert loam.ask(nested, "2 + 2?", temperature=0.0).text == "4"
    assert loam.ask(loam.zero_shot(Scripted(["hi"])), "hello").text == "hi"
    assert loam.ask(loam.structured(Scripted(["so: [1]"]), schema={"type": "array"}), "list").text == "[1]"
    with pytest.raises(ModelFailure, match="n: Expected `int` >= 1"):
        loam.self_consistency(model, n=0)


def test_a_name_where_a_model_is_wanted_is_said_so() -> None:
    for door in (loam.ask, loam.self_consistency):
        with pytest.raises(LoamError, match="'small' is a model's name, and a Model is wanted here"):
            door("small", *(["hello"] if door is loam.ask else []))  # pyright: ignore[reportArgumentType]
    assert {"ask", "extract", "few_shot", "agent"} <= set(dir(loam))


@pytest.mark.parametrize("shape", [City, Town, Village])
def test_a_value_has_the_type_that_was_asked_for(shape: type) -> None:
    found = loam.extract(shape, "Lima has ten people.", model=Scripted(["hm", GOOD]))
    assert found == shape(name="Lima", people=10)


def test_a_schema_gives_plain_data() -> None:
    assert loam.extract({"type": "array"}, "one, two", model=Scripted(["[1, 2]"])) == [1, 2]


def test_rules_that_a_schema_has_no_words_for_are_asked_again_too() -> None:
    model = Scripted([GOOD.replace("10", "11"), GOOD])
    assert loam.extract(City, "Lima", model=model).people == 10
    assert "people come in pairs" in model.calls[1].messages[-1].text
    with pytest.raises(ModelFailure, match="people come in pairs") as raised:
        loam.extract(City, "Lima", model=Scripted([GOOD.replace("10", "11")]), max_attempts=2)
    details = raised.value.failure.details
    assert details is not None
    assert len(details["attempts"]) == 2
    assert details["usage"]["output_tokens"] > 0


@pytest.mark.anyio
async def test_values_grow_and_the_last_one_is_whole() -> None:
    text = '{"name": "' + "la " * 30 + '", "people": 10}'
    values = [value async for value in loam.partials(Town, "Lima", model=Scripted([text]))]
    assert len(values) > 3
    assert values[0]["name"].startswith("la")
    assert values[-1] == Town("la " * 30, 10)


@pytest.mark.anyio
async def test_in_a_running_loop_one_awaits() -> None:
    assert (await loam.aask(Scripted(["hi"]), "hello")).text == "hi"
    assert await loam.aextract(Town, "Lima", model=Scripted([GOOD])) == Town("Lima", 10)
    with pytest.raises(LoamError, match=r"await loam\.aask"):
        loam.ask(Scripted(["hi"]), "hello")
    assert asyncio.get_running_loop()


def test_a_model_by_its_name_is_asked_through_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "loam.toml"
    script = f"script = [{{text = 'hm'}}, {{text = '{GOOD}'}}]"
    settings.write_text(f'data = "{tmp_path / "data"}"\n[providers.fake]\nkind = "scripted"\n{script}\n', "utf-8")
    monkeypatch.setenv("LOAM_CONFIG", str(settings))
    monkeypatch.delenv("LOAM_URL", raising=False)
    assert loam.extract(Town, "Lima has ten people.", model="fake/any") == Town("Lima", 10)


def test_importing_loam_is_light() -> None:
    code = "import sys, loam; print([name for name in sys.modules if name.startswith('loam.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = loam.magic
