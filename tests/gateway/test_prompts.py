"""Prompts on the shelf: versions never change, labels move whole and leave a trace, and a call becomes its prompt."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Controls, Output, Sampling
from loam.core.errors import ModelFailure, SettingsError
from loam.core.messages import say
from loam.gateway import prompt_shelf
from loam.gateway.prompt_shelf import FOLDER, Move, NewVersion, PromptShelf, read_folder
from loam.gateway.prompted import Prompted
from loam.providers.scripted import Scripted
from loam.storage.database import Database
from tests.gateway.records import StillClock

pytestmark = pytest.mark.anyio

ONE = '+++\nmodel = "fast"\ntemperature = 0.2\nmax_tokens = 90\n+++\nAnswer in one sentence.\n'
TWO = ONE.replace("one sentence", "two sentences")


class Shelved:
    def __init__(self, path: Path, database: Database, clock: StillClock, shelf: PromptShelf) -> None:
        self.path, self.database, self.clock, self.shelf = path, database, clock, shelf


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Shelved]:
    path = tmp_path / "loam.db"
    database, clock = await Database.open(path, prompt_shelf.MIGRATIONS), StillClock()
    yield Shelved(path, database, clock, await PromptShelf.open(database, clock))
    await database.close()


async def pushed(shelf: PromptShelf, text: str = ONE, **more: Any) -> str:
    return (await shelf.push(NewVersion(name="support", text=text, **more), by="ada")).hash


async def test_the_same_content_is_the_same_version(here: Shelved) -> None:
    first = await pushed(here.shelf)
    here.clock.move(60)
    again = await here.shelf.push(NewVersion(name="support", text=ONE.replace("\n", "\r\n")), by="bob")
    assert (again.hash, again.by) == (first, "ada")
    second = await pushed(here.shelf, TWO)
    assert [one.hash for one in here.shelf.versions("support")] == [second, first]


async def test_a_label_moves_with_its_history_and_outlives_the_program(here: Shelved) -> None:
    one, two = await pushed(here.shelf, label="prod"), await pushed(here.shelf, TWO)
    assert here.shelf.find("support").hash == one
    here.clock.move(60)
    moved = await here.shelf.move("support", "prod", Move(to=two[:8], expected=one), by="bob")
    assert (moved.from_hash, moved.to_hash, moved.by, moved.at) == (one, two, "bob", here.clock.at)
    assert here.shelf.find("support@prod").hash == two
    again = await PromptShelf.open(here.database, here.clock)
    assert again.find("support").hash == two
    assert again.version("support", "prod").text == TWO
    assert [(m.by, m.from_hash, m.to_hash) for m in await again.history("support")] == [
        ("bob", one, two),
        ("ada", "", one),
    ]


async def test_of_two_who_expect_the_same_one_moves(here: Shelved) -> None:
    one, two = await pushed(here.shelf, label="prod"), await pushed(here.shelf, TWO)
    three = await pushed(here.shelf, ONE.replace("one", "three"))
    moves = [here.shelf.move("support", "prod", Move(to=to, expected=one), by="x") for to in (two, three)]
    results = await asyncio.gather(*moves, return_exceptions=True)
    [lost] = [result for result in results if isinstance(result, ModelFailure)]
    assert lost.failure.kind == "conflict"
    assert here.shelf.find("support@prod").hash == two
    assert len(await here.shelf.history("support")) == 2


async def test_a_label_can_go_away_and_what_it_named_is_refused(here: Shelved) -> None:
    await pushed(here.shelf, label="staging")
    await here.shelf.move("support", "staging", Move(to=""), by="ada")
    with pytest.raises(ModelFailure, match="no label 'staging'"):
        here.shelf.find("support@staging")
    assert here.shelf.labels("support") == {}
    assert (await here.shelf.history("support"))[0].to_hash == ""


@pytest.mark.parametrize(
    ("wanted", "kind", "said"),
    [
        ("nobody", "not_found", "no prompt 'nobody'"),
        ("support", "not_found", "no label 'prod'; it has: staging"),
        ("support@beta", "not_found", "no label 'beta'"),
        ("support@00000000", "not_found", "no version"),
    ],
)
async def test_what_is_not_there_is_told(here: Shelved, wanted: str, kind: str, said: str) -> None:
    await pushed(here.shelf, label="staging")
    with pytest.raises(ModelFailure) as caught:
        here.shelf.find(wanted)
    assert caught.value.failure.kind == kind
    assert said in str(caught.value)


@pytest.mark.parametrize("label", ["deadbeef", "Prod", "a b", ""])
async def test_a_label_cannot_look_like_a_hash(here: Shelved, label: str) -> None:
    digest = await pushed(here.shelf)
    with pytest.raises(ModelFailure, match="is no label"):
        await here.shelf.move("support", label, Move(to=digest), by="ada")


async def test_a_folder_moves_its_label_only_when_a_file_changes(here: Shelved, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "support.md").write_text(ONE)
    (folder / "Broken Name.md").write_text(ONE)
    [problem] = await here.shelf.take(read_folder(str(folder)), "prod")
    assert "Broken Name" in problem
    one = here.shelf.find("support").hash
    by_hand = await pushed(here.shelf, TWO, label="prod")
    assert len(await here.shelf.take(read_folder(str(folder)), "prod")) == 1
    assert here.shelf.find("support").hash == by_hand
    (folder / "support.md").write_text(ONE.replace("one", "four"))
    await here.shelf.take(read_folder(str(folder)), "prod")
    assert here.shelf.find("support").hash not in (one, by_hand)
    assert (await here.shelf.history("support"))[0].by == FOLDER
    with pytest.raises(SettingsError, match="no folder"):
        read_folder(str(tmp_path / "nowhere"))


def call(model: str = "prompt:support", **fields: Any) -> Call:
    return Call(**{"id": "call_1", "model": model, "messages": (say("user", "Hello?"),), **fields})


async def test_a_call_becomes_its_prompt_and_says_which(here: Shelved) -> None:
    digest = await pushed(here.shelf, label="prod")
    model = Scripted(["Hi."])
    asked = call(sampling=Sampling(temperature=0.9), controls=Controls(tags={"prompt": "forged", "env": "test"}))
    assert (await collect(Prompted(model, here.shelf.find).answer(asked))).text == "Hi."
    [made] = model.calls
    assert made.model == "fast"
    assert [(m.role, m.text) for m in made.messages] == [("system", "Answer in one sentence."), ("user", "Hello?")]
    assert (made.sampling.temperature, made.sampling.max_tokens) == (0.9, 90)
    assert made.controls.tags == {
        "env": "test", "prompt": "support", "prompt_hash": digest, "prompt_label": "prod",
    }  # fmt: skip


async def test_the_prompts_schema_holds_unless_the_client_brings_one(here: Shelved) -> None:
    await pushed(here.shelf, "+++\nmodel = 'm'\nschema = '{\"type\":\"object\"}'\n+++\nGive JSON.", label="prod")
    model = Scripted(["{}"])
    own = Output("schema", {"type": "array"})
    for output in (None, own):
        await collect(Prompted(model, here.shelf.find).answer(call(output=output)))
    assert [made.output for made in model.calls] == [Output("schema", {"type": "object"}, name="answer"), own]


@pytest.mark.parametrize("task", ["complete", "embed"])
async def test_a_prompt_is_for_chats(here: Shelved, task: Any) -> None:
    await pushed(here.shelf, label="prod")
    with pytest.raises(ModelFailure, match="in a chat only"):
        await collect(Prompted(Scripted(), here.shelf.find).answer(call(task=task, inputs=("x",))))


async def test_a_version_is_asked_by_its_hash(here: Shelved) -> None:
    one = await pushed(here.shelf)
    await pushed(here.shelf, TWO, label="prod")
    model = Scripted(["Hi."])
    await collect(Prompted(model, here.shelf.find).answer(call(f"prompt:support@{one[:10]}")))
    assert model.calls[0].messages[0].text == "Answer in one sentence."
    assert model.calls[0].controls.tags["prompt_label"] == ""


async def test_the_last_message_stands_where_the_prompt_places_it(here: Shelved) -> None:
    text = '+++\nmodel = "m"\n+++\nBe brief.\n+++ user\nThe question: {{input}}\nAnswer in one word.'
    await pushed(here.shelf, text, label="prod")
    model = Scripted(["Hi."])
    talk = (say("user", "First"), say("assistant", "Second"), say("user", "Third {{input}}"))
    await collect(Prompted(model, here.shelf.find).answer(call(messages=talk)))
    assert [m.text for m in model.calls[0].messages] == [
        "Be brief.",
        "First",
        "Second",
        "The question: Third {{input}}\nAnswer in one word.",
    ]
    with pytest.raises(ModelFailure, match="needs a user message"):
        await collect(Prompted(model, here.shelf.find).answer(call(messages=talk[:2])))


async def test_the_clients_own_instructions_follow_the_prompts(here: Shelved) -> None:
    await pushed(here.shelf, '+++\nmodel = "m"\n+++\nBe brief.\n+++ user\nOne?\n+++ assistant\nTwo.', label="prod")
    model = Scripted(["Hi."])
    talk = (say("system", "Be kind."), say("user", "Three?"))
    await collect(Prompted(model, here.shelf.find).answer(call(messages=talk)))
    assert [m.text for m in model.calls[0].messages] == ["Be brief.", "Be kind.", "One?", "Two.", "Three?"]


async def test_variables_without_a_prompt_are_refused(here: Shelved) -> None:
    with pytest.raises(ModelFailure, match="belong to a prompt"):
        await collect(
            Prompted(Scripted(), here.shelf.find).answer(call("fast", controls=Controls(variables={"a": "b"})))
        )


async def test_a_call_without_a_prompt_passes_as_it_is(here: Shelved) -> None:
    model, plain = Scripted(["Hi."]), call("fast")
    await collect(Prompted(model, here.shelf.find).answer(plain))
    assert model.calls == [plain]
