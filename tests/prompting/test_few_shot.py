"""Examples: which are shown, that they are on record, and that the question's own answer is never among them."""

from collections.abc import Sequence
from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.calls import Answer, Output
from loam.core.errors import ModelFailure
from loam.core.messages import say
from loam.prompting.around import Around
from loam.prompting.examples import Example, ExampleSet, read_examples
from loam.prompting.few_shot import FewShot, Options
from tests.gateway.virtual import Scripted, call, text

pytestmark = pytest.mark.anyio

COLOURS = {"hill": [0.7, -0.714], "lake": [0.95, 0.3], "sea": [0.99, 0.14], "sky": [1.0, 0.0], "hi": [0.98, -0.2]}
SET = tuple(Example(word, f"about {word}") for word in ("hill", "lake", "sea", "sky"))


async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    return [COLOURS[one] for one in texts]


async def ask(question: str = "hi", around: Around | None = None, **options: Any) -> tuple[Answer, Scripted]:
    model = Scripted(text("fine"))
    fields = {"output": options.pop("output", None)}
    asked = call(messages=(say("system", "Be brief."), say("user", question)), **fields)
    shown = FewShot(model, Options(**options), around or Around(embed=embed))
    return await collect(shown.answer(asked)), model


def turns(model: Scripted) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in model.calls[0].messages]


async def test_examples_are_earlier_turns_after_the_system_message_and_on_record() -> None:
    given = (Example("1+1", 2, id="one"), Example("a list", {"b": [1]}))
    answer, model = await ask(examples=given)
    assert turns(model) == [
        ("system", "Be brief."),
        ("user", "1+1"),
        ("assistant", "2"),
        ("user", "a list"),
        ("assistant", '{"b":[1]}'),
        ("user", "hi"),
    ]
    report = answer.steps[0].details
    assert report["ids"][0] == "one"
    assert report["tokens"] > 0
    assert "few_shot showed one, " in model.calls[0].trace.warnings[0]


@pytest.mark.parametrize(
    ("select", "shown"),
    [("fixed", ["hill", "lake"]), ("knn", ["sea", "sky"]), ("mmr", ["hill", "sky"])],
)
async def test_the_nearest_are_chosen_or_those_that_say_something_new(select: Any, shown: list[str]) -> None:
    _, model = await ask(examples=SET, k=2, select=select)
    assert [said for role, said in turns(model) if role == "user"] == [*shown, "hi"]


@pytest.mark.parametrize("question", ["sky", "  SKY? ", "“Sky”."])
@pytest.mark.parametrize("select", ["fixed", "knn"])
async def test_the_question_itself_is_never_an_example(question: str, select: Any) -> None:
    async def near(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [COLOURS.get(one, [1.0, 0.0]) for one in texts]

    answer, model = await ask(question, Around(embed=near), examples=SET, k=3, select=select)
    assert "about sky" not in str(turns(model))
    assert len(answer.steps[0].details["left_out"]) == 1


async def test_an_example_that_breaks_the_schema_is_refused() -> None:
    output = Output("schema", {"type": "object", "required": ["n"]})
    await ask(examples=(Example("1+1", {"n": 2}), Example("x", '{"n": 1}')), output=output)
    for bad in ({"m": 2}, "two"):
        with pytest.raises(ModelFailure, match="does not fit the answer's schema"):
            await ask(examples=(Example("1+1", bad),), output=output)


async def test_sets_have_names_and_their_vectors_are_made_once() -> None:
    made: list[int] = []

    async def counted(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        made.append(len(texts))
        return await embed(texts)

    around = Around(datasets={"colours": ExampleSet(SET, counted)})
    for _ in range(2):
        await ask(around=around, dataset="colours", select="knn", k=1)
    assert made == [4, 1, 1]
    with pytest.raises(ModelFailure, match="no set of examples is called 'x'"):
        await ask(around=around, dataset="x")
    with pytest.raises(ModelFailure, match="encoder"):
        await ask(around=Around(), examples=SET, select="knn", k=1)


def test_a_file_of_examples_is_read_and_its_faults_are_placed() -> None:
    assert read_examples('{"input": "a", "output": 1}\n\n{"input": "b", "output": "c", "id": "x"}') == (
        Example("a", 1),
        Example("b", "c", "x"),
    )
    with pytest.raises(ValueError, match="line 2"):
        read_examples('{"input": "a", "output": 1}\n{"input": "b"}')
