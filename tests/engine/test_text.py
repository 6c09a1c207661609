"""Text around the engine: stop strings, log probabilities, tool calls, thoughts, and what is refused."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.answers import Collector
from loam.core.calls import Answer, Delta
from loam.core.errors import ModelFailure
from loam.engine.asks import Likely, Said
from loam.engine.protocol import Drawing, Request, Shape
from loam.engine.stops import StopStrings
from loam.engine.text import Answering, Voice
from loam.engine.tokenizer import Tokenizer
from loam.engine.tool_calls import Parts, form_of, read_calls
from tests.engine import vocabularies

TEMPLATES = Path(__file__).parent / "templates"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER = [{"role": "user", "content": "weather?"}]


def _grammar(**given: Any) -> str:
    return repr(given)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Voice] = {}

    def voice(shape: str = "chatml", **more: Any) -> Voice:
        if shape not in made:
            folder = vocabularies.byte_level(tmp_path_factory.mktemp(shape))
            (folder / "chat_template.jinja").write_text((TEMPLATES / f"{shape}.jinja").read_text())
            (folder / "tokenizer_config.json").write_text('{"bos_token": "<|begin|>", "eos_token": "<|end|>"}')
            tokenizer = Tokenizer.open(folder)
            made[shape] = Voice(
                tokenizer=tokenizer, context=2000, vocabulary=tokenizer.vocabulary, stop_tokens=tokenizer.stop_tokens,
                defaults=Drawing(), grammar=_grammar,
            )  # fmt: skip
        return made[shape]

    yield voice
    for one in made.values():
        one.tokenizer.close()


def heard(voice: Voice, request: Request, texts: list[str], *, ending: str = "stop", top: int = 0) -> list[list[Delta]]:
    """What comes of a request whose answers are these texts, token by token."""
    answering = Answering(voice, request)
    assert len(answering.asks) == len(texts)
    events: list[list[Said]] = []
    for ask, text in zip(answering.asks, texts, strict=True):
        tokens = voice.tokenizer.encode(text)
        said = [
            Said(
                ask.id, token, -0.5 if ask.logprobs is not None else None, tuple(Likely(t, -t / 9) for t in range(top))
            )
            for token in tokens
        ]
        last = Said(ask.id, -1, ending="stop", stop=1) if ending == "stop" else None
        events.append([*said, last] if last else [*said[:-1], Said(ask.id, tokens[-1], -0.5, ending="length")])
    order = random.Random(1)
    out: list[list[Delta]] = []
    while any(events):
        waiting = [one for one in events if one]
        out.append(answering.hear(order.choice(waiting).pop(0)))
    assert answering.done
    return out


def collected(pieces: list[list[Delta]]) -> Answer:
    collector = Collector()
    for deltas in pieces:
        for delta in deltas:
            collector.add(delta)
    return collector.answer()


def test_an_answer_streams_and_is_counted(make: Any) -> None:
    request = Request(id="r", messages=USER, n=2)
    pieces = heard(make(), request, ["the quick brown fox", "日本語 👍🏽"])
    answer = collected(pieces)
    assert [choice.text for choice in answer.choices] == ["the quick brown fox", "日本語 👍🏽"]
    assert [choice.finish for choice in answer.choices] == ["stop", "stop"]
    assert answer.usage is not None
    encode = make().tokenizer.encode
    assert answer.usage.output == len(encode("the quick brown fox")) + len(encode("日本語 👍🏽")) + 2
    assert answer.usage.input == len(make().tokenizer.chat(USER))
    assert sum(bool(delta.text) for deltas in pieces for delta in deltas) > 4


def test_answers_have_seeds_of_their_own(make: Any) -> None:
    answering = Answering(make(), Request(id="r", inputs=["a"], n=3, draw=Drawing(seed=2**63 - 1, temperature=0.5)))
    assert [ask.draw.seed for ask in answering.asks] == [2**63 - 1, 0, 1]
    assert len({ask.prompt for ask in answering.asks}) == 1


@given(
    text=st.text("abc", max_size=30), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), data=st.data()
)
def test_stop_strings_are_found_however_the_text_comes(text: str, stops: list[str], data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ours, slow = StopStrings(stops), _slowly(text, stops)
    said = ""
    for piece in pieces:
        said += ours.add(piece)
        assert slow.startswith(said), "what was given out cannot be taken back"
    said += ours.end()
    assert said == slow
    assert bool(ours.hit) == (slow != text)


def _slowly(text: str, stops: list[str]) -> str:
    """The twin: letter by letter, until a stop string stands at the end."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def test_a_stop_string_across_tokens_ends_the_answer(make: Any) -> None:
    request = Request(id="r", messages=USER, stop=["brown fox", "never"], logprobs=0)
    answering = Answering(make(), request)
    (ask,) = answering.asks
    said: list[Delta] = []
    for token in make().tokenizer.encode("the quick brown fox jumps over"):
        said += answering.hear(Said(ask.id, token, -1.0))
    answer = collected([said])
    assert answer.text == "the quick "
    assert (answer.choices[0].finish, answer.choices[0].stop_sequence) == ("stop", "brown fox")
    assert answering.cancelled == [ask.id]
    assert answering.done
    told = answer.choices[0].logprobs or []
    # the last token told may reach into the stop string, but begins before it
    assert "the quick ".startswith("".join(entry["token"] for entry in told[:-1]))
    assert len("".join(entry["token"] for entry in told)) >= len("the quick ")
    keeping = StopStrings(["own"], keep=True)
    assert [keeping.add("a bro"), keeping.add("wn fox")] == ["a br", "own"]


def test_log_probabilities_have_openais_shape(make: Any) -> None:
    answer = collected(heard(make(), Request(id="r", messages=USER, logprobs=2), ["日 fox"], top=2))
    told = answer.choices[0].logprobs or []
    assert b"".join(bytes(entry["bytes"]) for entry in told).decode() == "日 fox"
    assert all(set(entry) == {"token", "logprob", "bytes", "top_logprobs"} for entry in told)
    assert any(entry["token"].startswith("bytes:\\x") for entry in told), "a part of a letter is told as its bytes"
    assert [top["logprob"] for top in told[0]["top_logprobs"]] == [0.0, -1 / 9]


def test_a_prompt_is_echoed_with_its_worth(make: Any) -> None:
    voice = make()
    request = Request(id="r", inputs=["the quick"], echo=True, logprobs=1, max_tokens=0)
    answering = Answering(voice, request)
    (ask,) = answering.asks
    assert (ask.prompt_logprobs, ask.max_tokens) == (1, 0)
    prompt = tuple((Likely(token, -0.25), Likely(3, -0.1)) for token in ask.prompt[1:])
    answer = collected([answering.hear(Said(ask.id, -1, ending="length", prompt=prompt))])
    assert answer.text == "the quick"
    told = answer.choices[0].logprobs or []
    assert len(told) == len(ask.prompt)
    assert [entry["logprob"] for entry in told] == [None, *[-0.25] * (len(told) - 1)]
    offsets = [entry["text_offset"] for entry in told]
    assert offsets == sorted(offsets)
    assert {top["logprob"] for top in told[1]["top_logprobs"]} == {-0.25, -0.1}
    assert (answer.usage.output if answer.usage else None) == 0


def test_a_text_continues_with_its_space(make: Any) -> None:
    answer = collected(heard(make(), Request(id="r", inputs=["the", [5, 6]]), [" quick", " brown"], ending="length"))
    assert [choice.text for choice in answer.choices] == [" quick", " brown"]
    assert [choice.finish for choice in answer.choices] == ["length", "length"]


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


def test_calls_of_tools_are_told_from_text(make: Any) -> None:
    request = Request(id="r", messages=USER, tools=[WEATHER])
    answer = collected(heard(make("qwen_tools"), request, [f"Let me see.\n{CALL}\n{CALL}"]))
    assert answer.text.strip() == "Let me see."
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("weather", '{"city": "Köln"}')] * 2
    assert len({call.id for call in answer.tool_calls}) == 2
    assert answer.choices[0].finish == "tool_calls"


@pytest.mark.parametrize(
    ("shape", "said", "calls"),
    [
        ("llama3", '{"name": "weather", "parameters": {"city": "x"}}', 1),
        ("llama3", '<|python_tag|>{"name": "a", "parameters": {}}; {"name": "b", "parameters": {}}', 2),
        (
            "mistral",
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "x"}}, {"name": "b", "arguments": {}}]',
            2,
        ),
        ("qwen_tools", CALL, 1),
        ("llama3", '{"name": "weather"', 0),
        ("llama3", '{"an": "object"}', 0),
        ("llama3", "just text", 0),
        ("qwen_tools", "<tool_call>not json</tool_call> and more", 0),
        ("qwen_tools", "<tool_call>{", 0),
        ("qwen_tools", "less < than", 0),
        ("mistral", "[TOOL_CALLS] [", 0),
    ],
)
def test_each_form_is_read_and_nothing_is_lost(make: Any, shape: str, said: str, calls: int) -> None:
    answer = collected(heard(make(shape), Request(id="r", messages=USER, tools=[WEATHER]), [said]))
    assert len(answer.tool_calls) == calls
    assert answer.choices[0].finish == ("tool_calls" if calls else "stop")
    assert answer.text == ("" if calls else said)


@given(text=st.text("<>/tolca_ {}k\nx", max_size=40), cut=st.integers(0, 40))
def test_text_without_calls_comes_out_letter_for_letter(text: str, cut: int) -> None:
    parts = Parts("a", 0, form="hermes")
    deltas = [*parts.add(text[:cut]), *parts.add(text[cut:]), *parts.end()]
    assert "".join(delta.text for delta in deltas) == text


def test_thoughts_are_told_from_the_answer(make: Any) -> None:
    voice = make("think")
    answer = collected(heard(voice, Request(id="r", messages=USER), ["<think>\nhm, so\n</think>\n\nIt is <b>."]))
    assert (answer.thinking, answer.text) == ("hm, so\n", "It is <b>.")
    assert answer.usage is not None
    assert 0 < answer.usage.reasoning < answer.usage.output
    plain = collected(heard(voice, Request(id="r", messages=USER), ["<thin air"]))
    assert (plain.thinking, plain.text) == ("", "<thin air")
    begun = Request(id="r", messages=USER, variables={"chat_template": "{{ '<think>\n' }}"})
    inside = collected(heard(voice, begun, ["so\n</think>\n\nYes"]))
    assert (inside.thinking, inside.text) == ("so\n", "Yes")


def test_a_demanded_call_is_a_grammar(make: Any) -> None:
    request = Request(id="r", messages=USER, tools=[WEATHER], must_call="*")
    answering = Answering(make("chatml"), request)
    assert "weather" in answering.asks[0].grammar
    answer = collected(heard(make("chatml"), request, ['{"name": "weather", "arguments": {"city": "x"}}']))
    assert [call.name for call in answer.tool_calls] == ["weather"]
    with pytest.raises(ModelFailure, match="none of the tools"):
        Answering(make(), Request(id="r", messages=USER, tools=[WEATHER], must_call="other"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Shape("json"), "{'schema': {'type': 'object'}}"),
        (Shape("schema", {"type": "string"}), "{'schema': {'type': 'string'}}"),
        (Shape("regex", "a+"), "{'regex': 'a+'}"),
        (Shape("lark", "start: 'x'"), "lark"),
        (Shape("choice", ["yes", 'a"b']), r'start: "yes" | "a\\"b"'),
    ],
)
def test_a_shape_is_a_grammar(make: Any, shape: Shape, said: str) -> None:
    ask = Answering(make(), Request(id="r", messages=USER, shape=shape)).asks[0]
    assert said in ask.grammar.replace("\\\\", "\\\\")
    assert ask.close_grammar


@pytest.mark.parametrize(
    ("wrong", "kind", "param"),
    [
        ({"draw": Drawing(temperature=-1)}, "bad_request", "temperature"),
        ({"draw": Drawing(temperature=float("nan"))}, "bad_request", "temperature"),
        ({"draw": Drawing(top_p=0.0)}, "bad_request", "top_p"),
        ({"draw": Drawing(top_p=1.5)}, "bad_request", "top_p"),
        ({"draw": Drawing(top_k=-2)}, "bad_request", "top_k"),
        ({"draw": Drawing(min_p=float("inf"))}, "bad_request", "min_p"),
        ({"draw": Drawing(repetition_penalty=0.0)}, "bad_request", "repetition_penalty"),
        ({"draw": Drawing(logit_bias={"x": 1.0})}, "bad_request", "logit_bias"),
        ({"draw": Drawing(logit_bias={"99999": 1.0})}, "bad_request", "logit_bias"),
        ({"draw": Drawing(logit_bias={"1": 101.0})}, "bad_request", "logit_bias"),
        ({"stop": [""]}, "bad_request", "stop"),
        ({"n": 1000}, "bad_request", "n"),
        ({"tools": [WEATHER]}, "unsupported", "tools"),
        ({"adapter": "none"}, "not_found", "model"),
        ({"messages": None, "inputs": [[99999]]}, "bad_request", "prompt"),
        ({"messages": None, "inputs": [[]]}, "bad_request", "prompt"),
        ({"messages": None, "inputs": ["word " * 3000]}, "context_window", "prompt"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "context_window", "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, wrong: dict[str, Any], kind: str, param: str) -> None:
    with pytest.raises(ModelFailure) as caught:
        Answering(make(), Request(**{"id": "r", "messages": USER, **wrong}))
    assert (caught.value.failure.kind, caught.value.failure.param) == (kind, param)


def test_an_answer_takes_what_the_context_leaves(make: Any) -> None:
    (ask,) = Answering(make(), Request(id="r", messages=USER)).asks
    assert ask.max_tokens == 2000 - len(ask.prompt)
    (ask,) = Answering(make(), Request(id="r", messages=USER, max_tokens=99_999)).asks
    assert ask.max_tokens == 2000 - len(ask.prompt)
    assert ask.stop_tokens == make().stop_tokens
    (free,) = Answering(make(), Request(id="r", messages=USER, ignore_end=True, stop_tokens=[7])).asks
    assert free.stop_tokens == {7}


def test_forms_are_known_by_their_templates() -> None:
    forms = {file.stem: form_of(file.read_text()) for file in TEMPLATES.glob("*.jinja")}
    assert forms == {
        "chatml": "", "gemma": "", "generation": "", "think": "",
        "llama3": "llama", "mistral": "mistral", "qwen_tools": "hermes",
    }  # fmt: skip
    assert read_calls('{"name": "f", "arguments": "{}"}')
    assert read_calls("[1]") is None
