"""The estimate against counts of real vocabularies, and the bound against everything a call can hold."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam.core.calls import Call, Output, Tool
from loam.core.messages import (
    Audio,
    Document,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    say,
)
from loam.core.tokens import Bounds, counted_input, estimate, upper_bound

# text, and its tokens as GPT-4's and GPT-4o's vocabularies count them
COUNTED = {
    "prose": (
        "The gateway reserves what a call may cost before it leaves, and settles what it really cost when the answer "
        "has come. Nobody has to trust the provider's word alone: Loam counts for itself and keeps both figures side "
        "by side, so that a difference can be seen and explained.",
        57,
        57,
    ),
    "verse": (
        "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
        "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date;",
        43,
        43,
    ),
    "python": (
        'def dollars(amount: Money) -> str:\n    sign = "-" if amount < 0 else ""\n'
        '    whole, micros = divmod(abs(amount), MICRO)\n    return f"{sign}{whole}.{micros:06d}"\n',
        47,
        46,
    ),
    "json": (
        '{"id": "chatcmpl-123", "object": "chat.completion", "created": 1677652288, "choices": [{"index": 0, '
        '"message": {"role": "assistant", "content": "Hello there, how may I assist you today?"}, '
        '"finish_reason": "stop"}]}',
        68,
        68,
    ),
    "german": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
        "und sollen einander im Geist der Brüderlichkeit begegnen.",
        44,
        38,
    ),
    "russian": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
        "должны поступать в отношении друг друга в духе братства.",
        74,
        41,
    ),
    "chinese": ("人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。", 52, 37),
    "emoji": ("Great work everyone! 🎉🎉🚀 See you on Monday 👋", 19, 16),
}


@pytest.mark.parametrize("name", COUNTED)
def test_the_estimate_is_within_a_fifth_of_the_span_that_real_vocabularies_give(name: str) -> None:
    text, older, newer = COUNTED[name]
    assert min(older, newer) * 0.8 <= estimate(text) <= max(older, newer) * 1.2


@pytest.mark.parametrize("name", COUNTED)
def test_a_long_text_is_sampled_and_comes_out_alike(name: str) -> None:
    text, _, _ = COUNTED[name]
    assert estimate(text * 100) == pytest.approx(estimate(text) * 100, rel=0.15)


def test_a_long_text_of_two_kinds_is_looked_at_everywhere() -> None:
    prose, chinese = COUNTED["prose"][0] * 20, COUNTED["chinese"][0] * 120
    assert estimate(prose + chinese) == pytest.approx(estimate(prose) + estimate(chinese), rel=0.3)


@given(st.text() | st.text("éüł") | st.text(st.characters(max_codepoint=127)))
def test_the_estimate_never_exceeds_the_bound(text: str) -> None:
    assert 0 <= estimate(text) <= len(text.encode("utf-8", "surrogatepass"))
    call = ask(Text(text))
    assert counted_input(call) <= upper_bound(call)


def ask(*parts: Part) -> Call:
    return Call(id="c", model="m", messages=(Message("user", parts),))


@given(st.text())
def test_a_bound_covers_every_byte_of_the_text(text: str) -> None:
    assert upper_bound(ask(Text(text))) >= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("part", "at_least"),
    [
        (Thinking(text="a" * 100, signature="b" * 100), 200),
        (Thinking(redacted="b" * 100), 100),
        (ToolCall("i" * 50, "n" * 50, "a" * 100), 200),
        (ToolResult("i" * 50, (Text("a" * 100), Image(url="x"))), 50_150),
        (Image(data="aaaa", media_type="image/png"), 50_000),
        (Audio("a" * 300, "wav"), 300),
        (Document(text="a" * 100, title="b" * 10), 110),
        (Document(file_id="f"), 1_000_000),
        (Native("openai", {"a": "b" * 100}), 100),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_part_is_bounded(part: Part, at_least: int) -> None:
    bound = upper_bound(ask(part))
    assert at_least <= bound <= at_least * 1.2 + 100
    assert counted_input(ask(part)) <= bound


def test_bounds_of_pictures_and_files_can_be_set() -> None:
    call = ask(Image(url="x"), Document(url="y"))
    assert upper_bound(call, Bounds(image=10, file=20)) < 100


def test_tools_schemas_names_prompts_and_unknown_fields_count() -> None:
    plain = upper_bound(Call(id="c", model="m"))
    tool = Tool("find", "Finds things", {"type": "object", "title": "t" * 100})
    wired = Tool("", wire=msgspec.Raw(b'{"type":"web_search","x":"' + b"y" * 100 + b'"}'))
    for call in (
        Call(id="c", model="m", tools=(tool,)),
        Call(id="c", model="m", tools=(wired,)),
        Call(id="c", model="m", output=Output("schema", {"title": "t" * 100})),
        Call(id="c", model="m", messages=(Message("user", (), name="n" * 100),)),
        Call(id="c", model="m", inputs=("p" * 100,)),
        Call(id="c", model="m", inputs=((7,) * 100,)),
        Call(id="c", model="m", extra={"functions": "f" * 100}),
    ):
        assert upper_bound(call) >= plain + 100
        assert counted_input(call) <= upper_bound(call)


def test_a_typical_prompt_comes_out_as_a_provider_counts_it() -> None:
    call = Call(id="c", model="m", messages=(say("system", "You are a helpful assistant."), say("user", "Hello!")))
    assert counted_input(call) == pytest.approx(19, abs=4)  # GPT-4o says 19
