"""Reasoning apart from the answer: never in its text, hidden or shown, however the stream is cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import collect
from loam.core.calls import Answer, Controls, Delta, Sampling, Usage, Words
from loam.core.messages import say
from loam.prompting.around import Around
from loam.prompting.chain_of_thought import ASKED, ChainOfThought, Options
from loam.prompting.reasoning import Split
from tests.gateway.virtual import Scripted, call, hear, text, virtual_time

anyio_backend = virtual_time

THOUGHT = "Two bolts and one bolt.\n\nSo three. "


async def ask(*pieces: str, **options: Any) -> Answer:
    return await collect(ChainOfThought(Scripted(text(*pieces)), Options(**options)).answer(call()))


@pytest.mark.anyio
async def test_the_reader_gets_the_answer_and_the_reasoning_only_where_it_asked() -> None:
    hidden = await ask(THOUGHT, "<answer>3 bolts</answer>")
    assert (hidden.text, hidden.thinking) == ("3 bolts", "")
    shown = await ask(THOUGHT, "<answer>3 bolts</answer>", visible=True)
    assert (shown.text, shown.thinking) == ("3 bolts", THOUGHT)
    assert shown.usage is not None
    assert shown.usage.reasoning > 0
    assert shown.steps[-1].details == {"marked": True, "visible": True}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "options", "answer"),
    [
        ("I add.\nThe answer is 3.", {}, "3."),
        ("I add.\n\nThree bolts, then.", {}, "Three bolts, then."),
        ("I add, so it is $3.00 in all", {"extract": "number"}, "3"),
        ("<answer>It is $3.00</answer>", {"extract": "number"}, "3"),
        ("Not A. <answer>(B)</answer>", {"extract": "choice"}, "B"),
        ("<answer>never closed", {}, "never closed"),
    ],
)
async def test_answers_without_the_marks_are_found(said: str, options: dict[str, Any], answer: str) -> None:
    assert (await ask(said, **options)).text == answer


@pytest.mark.anyio
async def test_an_answer_that_was_cut_off_shows_no_reasoning() -> None:
    cut = [Delta(text=THOUGHT), Delta(finish="length"), Delta(usage=Usage(input=1, output=9))]
    answer = await collect(ChainOfThought(Scripted(cut)).answer(call()))
    assert (answer.text, answer.choices[0].finish) == ("", "length")


@pytest.mark.anyio
async def test_the_answer_streams_and_probabilities_do_not_spell_the_reasoning_out() -> None:
    said = [
        Delta(text="hm ", logprobs=[{"token": "hm"}]),
        *text("<ans", "wer>one", " two three four", " five</answer>"),
    ]
    heard = await hear(ChainOfThought(Scripted(said)), call())
    pieces = [delta.text for delta in heard.deltas if delta.text]
    assert "".join(pieces) == "one two three four five"
    assert len(pieces) > 1
    assert not any(delta.logprobs for delta in heard.deltas)


@pytest.mark.anyio
async def test_whoever_watches_hears_how_far_hidden_reasoning_is() -> None:
    said = [*(Words(text="word ") for _ in range(100)), *text("<answer>3</answer>")]
    watching = call(stream=True, controls=Controls(metadata=True))
    heard = await hear(ChainOfThought(Scripted(said)), watching)
    told = [delta.step.details["pieces"] for delta in heard.deltas if delta.step and delta.step.event == "reasoning"]
    assert told == [8, 16, 32, 64]
    assert "word" not in str([delta.step for delta in heard.deltas])
    assert len((await hear(ChainOfThought(Scripted(said)), call(stream=True))).answer().steps) == 1


@pytest.mark.anyio
async def test_the_wish_stands_at_the_end_of_the_system_message() -> None:
    model = Scripted(text("<answer>3</answer>"))
    asked = call(messages=(say("system", "Be brief."), say("user", "hi")))
    await collect(ChainOfThought(model).answer(asked))
    assert [message.text for message in model.calls[0].messages] == [f"Be brief.\n\n{ASKED}", "hi"]
    await collect(ChainOfThought(model).answer(call()))
    assert [message.role for message in model.calls[1].messages] == ["system", "user"]


@pytest.mark.anyio
@pytest.mark.parametrize("asked", [call(sampling=Sampling(reasoning_effort="high")), call(model="thinker")])
async def test_a_model_that_reasons_by_itself_is_left_alone(asked: Any) -> None:
    model = Scripted(text("3"))
    around = Around(reasons=lambda call: call.model == "thinker")
    answer = await collect(ChainOfThought(model, Options(), around).answer(asked))
    assert (answer.text, model.calls[0].messages) == ("3", asked.messages)
    assert "skipped" in answer.steps[0].details
    await collect(ChainOfThought(model, Options(force=True), around).answer(asked))
    assert ASKED in model.calls[1].messages[0].text


@given(
    st.text(alphabet="ab<>/answer \n", max_size=40).filter(lambda said: "<answer>" not in said),
    st.text(alphabet="xyz<>/ \n", max_size=30).filter(lambda said: said.strip() != ""),
    st.lists(st.integers(1, 7), min_size=1, max_size=20),
)
def test_however_it_is_cut_the_two_never_mix(thought: str, answer: str, sizes: list[int]) -> None:
    whole = f"{thought}<answer>{answer}</answer>after"
    split, shown, said, at = Split(visible=True, extract="text"), "", "", 0
    while at < len(whole):
        size = sizes[at % len(sizes)]
        shown += split.thought(whole[at : at + size])
        said += split.answer()
        at += size
    said += split.end(whole=True)
    assert (shown, said) == (thought, answer.strip())
