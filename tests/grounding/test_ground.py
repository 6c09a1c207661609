from collections.abc import AsyncGenerator

import msgspec
import pytest

from loam.core.answers import collect
from loam.core.calls import Call, Controls, Delta, Head, Output, Sampling, Tool, ToolDelta, Usage
from loam.core.errors import ModelFailure, fail, refuse
from loam.core.messages import say
from loam.core.trace import Attempt
from loam.grounding.ground import Ground, GroundSettings, collection_of
from loam.grounding.index import Index
from loam.grounding.prompt import DECLINED
from loam.grounding.reader import Reader

pytestmark = pytest.mark.anyio

QUESTION = (say("user", "When does award leave expire?"),)
PLAIN = Call(id="call_1", model="gpt-4o", messages=QUESTION)
BY_MODEL = Call(id="call_1", model="rag:handbook", messages=QUESTION)
BY_CONTROLS = Call(id="call_1", model="loam/reader", messages=QUESTION, controls=Controls(collection="handbook"))
ANY = Call(id="call_1", model="gpt-4o", messages=QUESTION, controls=Controls(collection="handbook"))
BARE = GroundSettings(repair=False)


class Plays:
    """An inner model that plays its entries, one a call: deltas, or a failure; it notes when a stream is closed."""

    def __init__(self, *entries: list[Delta] | ModelFailure) -> None:
        self._entries = list(entries)
        self.calls: list[Call] = []
        self.closed = 0

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.calls.append(call)
        entry = self._entries.pop(0) if len(self._entries) > 1 else self._entries[0]
        try:
            if isinstance(entry, ModelFailure):
                raise entry
            for delta in entry:
                yield delta
        finally:
            self.closed += 1


def said(text: str) -> list[Delta]:
    return [Delta(text=text), Delta(finish="stop"), Delta(usage=Usage(input=7, output=3))]


def ground(inner: Plays | Reader, index: Index, settings: GroundSettings = BARE) -> Ground:
    return Ground(inner, lambda asides: index, settings, shelf=index)


async def test_a_call_without_a_collection_passes_untouched(handbook: Index) -> None:
    inner = Plays(said("ab"))
    assert (await collect(ground(inner, handbook).answer(PLAIN))).text == "ab"
    assert inner.calls[0] is PLAIN


@pytest.mark.parametrize("asked", [BY_MODEL, BY_CONTROLS])
async def test_the_reader_gets_passages_and_no_prompt(handbook: Index, asked: Call) -> None:
    inner = Plays(said("x"))
    await collect(ground(inner, handbook, GroundSettings(passages=3)).answer(asked))
    (call,) = inner.calls
    assert call.model == "loam/reader"
    assert call.passages == await handbook.search("handbook", "When does award leave expire?", 3)
    assert call.messages == QUESTION


async def test_the_reader_answers_behind_it(handbook: Index) -> None:
    answer = await collect(ground(Reader(), handbook).answer(BY_MODEL))
    assert "one year" in answer.text
    (choice,) = answer.choices
    assert choice.citations[0].quote == answer.text
    assert (choice.checks[0].verdict, choice.checks[0].tier) == ("supported", 0)


async def test_any_model_answers_and_its_sentence_is_cited(handbook: Index) -> None:
    def id_of(call: Call) -> str:
        return call.messages[-1].text.partition("expires one year after")[0].rpartition("[")[2].partition("]")[0]

    asked = Plays(said("x"))
    await collect(ground(asked, handbook).answer(ANY))
    prompt = asked.calls[0].messages[-1].text
    assert prompt.startswith("<documents ")
    assert prompt.endswith("When does award leave expire?")
    assert asked.calls[0].messages[0].role == "system"
    line = next(line for line in prompt.splitlines() if "one year" in line)
    id, _, quote = line.removeprefix("[").partition("] ")
    inner = Plays([Delta(head=Head(model="gpt-4o")), *said(f"{quote} [{id}]\nThe moon is made of cheese. [{id}]")])
    answer = await collect(ground(inner, handbook).answer(ANY))
    assert answer.text == quote
    assert [check.verdict for check in answer.choices[0].checks] == ["supported", "unsupported"]
    assert answer.usage == Usage(input=7, output=3)


async def test_a_system_message_and_a_conversation_stay(handbook: Index) -> None:
    inner = Plays(said("x"))
    talk = (say("system", "Be brief."), say("user", "Hi"), say("assistant", "Hello"), *QUESTION)
    await collect(ground(inner, handbook).answer(msgspec.structs.replace(ANY, messages=talk)))
    system, *rest = inner.calls[0].messages
    assert system.text.endswith("Be brief.")
    assert [message.role for message in rest] == ["user", "assistant", "user"]
    assert rest[0] is talk[1]


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"model": "rag:nowhere"}, "not_found", "there is no collection 'nowhere'; there are: handbook"),
        ({"model": "rag:"}, "not_found", "there are: handbook"),
        ({"controls": Controls(collection="other")}, "bad_request", "name one"),
        ({"messages": (say("user", " "),)}, "bad_request", "there is no question"),
        ({"messages": ()}, "bad_request", "there is no question"),
        ({"task": "embed"}, "unsupported", "chat calls only"),
        ({"output": Output("json")}, "unsupported", "JSON answer"),
        ({"sampling": Sampling(n=2)}, "unsupported", "n = 1"),
    ],
)
async def test_what_it_cannot_ground_it_refuses_before_anyone_is_asked(
    handbook: Index, changes: dict[str, object], kind: str, told: str
) -> None:
    inner = Plays(said("x"))
    with pytest.raises(ModelFailure, match=told) as caught:
        await collect(ground(inner, handbook).answer(msgspec.structs.replace(BY_MODEL, **changes)))
    assert caught.value.failure.kind == kind
    assert inner.calls == []


async def test_without_checks_a_json_answer_passes(handbook: Index) -> None:
    inner = Plays(said('{"a": 1}'))
    asked = msgspec.structs.replace(
        ANY, output=Output("json"), controls=Controls(collection="handbook", grounding="off")
    )
    assert (await collect(ground(inner, handbook).answer(asked))).text == '{"a": 1}'


async def test_leaving_early_closes_the_inner_stream(handbook: Index) -> None:
    inner = Plays([Delta(head=Head(model="m")), *said("x")])
    stream = ground(inner, handbook).answer(ANY)
    assert (await anext(stream)).head is not None
    await stream.aclose()
    assert inner.closed == 1


async def test_a_model_that_fails_before_its_first_word_leaves_the_answer_to_the_reader(handbook: Index) -> None:
    class Chain:
        def __init__(self) -> None:
            self.failing = Plays(fail("overloaded", "o", "busy"))

        def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
            return (Reader() if call.model == "loam/reader" else self.failing).answer(call)

    answer = await collect(Ground(Chain(), lambda asides: handbook, BARE, shelf=handbook).answer(ANY))
    assert "one year" in answer.text
    assert any("fell back" in warning for warning in ANY.trace.warnings)


@pytest.mark.parametrize("failure", [refuse("budget", "spent"), fail("bad_request", "o", "no")])
async def test_what_the_reader_cannot_mend_is_told(handbook: Index, failure: ModelFailure) -> None:
    with pytest.raises(ModelFailure, match=failure.failure.message):
        await collect(ground(Plays(failure), handbook).answer(ANY))


async def test_only_sentences_and_tool_calls_leave_in_strict(handbook: Index) -> None:
    loud = [
        Delta(head=Head(model="m", extra={"note": "the office is closed"})),
        Delta(thinking="the office is closed"),
        Delta(refusal="the office is closed", logprobs=[{"token": "x"}]),
        Delta(extra={"reasoning_content": "the office is closed"}),
        Delta(tool=ToolDelta(0, "t", "look", '{"at": "the office is closed"}')),
        *said("The office is closed. [1.1]"),
    ]
    answer = await collect(ground(Plays(loud), handbook).answer(ANY))
    (choice,) = answer.choices
    assert answer.text == DECLINED
    assert (answer.thinking, choice.refusal) == ("", "")
    assert (choice.logprobs, choice.extra, answer.head.extra) == (None, None, None)
    assert not answer.tool_calls
    asked = msgspec.structs.replace(ANY, tools=(Tool("look"),))
    assert (await collect(ground(Plays(loud), handbook).answer(asked))).tool_calls


async def test_a_sentence_that_broke_off_does_not_leave(handbook: Index) -> None:
    passages = await handbook.search("handbook", "When does award leave expire?", 8)
    words = passages[0].text.split(" ")[:5]
    cut = [Delta(text=" ".join(words)), Delta(finish="length")]
    answer = await collect(ground(Plays(cut), handbook).answer(ANY))
    assert answer.text == DECLINED


async def test_asides_are_in_the_account_of_the_call(handbook: Index) -> None:
    class Costs:
        async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
            number = len(call.trace.attempts) + 1
            call.trace.attempts = [*call.trace.attempts, Attempt(number, "o", call.model, 0.0)]
            call.trace.cost = (call.trace.cost or 0) + 5
            for delta in said("The moon is made of cheese. [1.1]"):
                yield delta

    asked = msgspec.structs.replace(ANY, trace=type(ANY.trace)())
    answer = await collect(Ground(Costs(), lambda asides: handbook, GroundSettings(), shelf=handbook).answer(asked))
    assert answer.usage == Usage(input=14, output=6)
    assert asked.trace.cost == 10
    assert [attempt.number for attempt in asked.trace.attempts] == [1, 2]


async def test_a_follow_up_is_searched_for_with_what_it_leans_on(handbook: Index) -> None:
    inner = Plays(said("x"))
    talk = (*QUESTION, say("assistant", "One year after."), say("user", "And who approves it?"))
    await collect(ground(inner, handbook).answer(msgspec.structs.replace(BY_MODEL, messages=talk)))
    assert inner.calls[0].question == "And who approves it? (award leave expire)"


async def test_a_count_has_the_prompt_in_it(handbook: Index) -> None:
    inner = Plays([Delta(usage=Usage(input=900))])
    asked = msgspec.structs.replace(ANY, task="count")
    assert (await collect(ground(inner, handbook).answer(asked))).usage == Usage(input=900)
    assert "<documents " in inner.calls[0].messages[-1].text


def test_the_collection_of_a_call() -> None:
    assert collection_of(PLAIN) == ""
    assert collection_of(BY_MODEL) == collection_of(BY_CONTROLS) == "handbook"
