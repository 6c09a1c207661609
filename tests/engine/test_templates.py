"""Chat templates: the text that transformers gives, for the shapes that real models have; and hostile ones, bounded."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from loam.core.errors import EngineError, ModelFailure
from loam.engine.rendering import Renderer
from loam.engine.templates import Rendering, render
from loam.engine.tokenizer import Tokenizer
from tests.engine import vocabularies

SHAPES = {file.stem: file.read_text() for file in sorted((Path(__file__).parent / "templates").glob("*.jinja"))}
SPECIALS = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city, in °C & words",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TALKS: dict[str, list[dict[str, Any]]] = {
    "one": [{"role": "user", "content": "Hello <b>there</b> & 'you'"}],
    "system": [{"role": "system", "content": "  Be brief. "}, {"role": "user", "content": " Grüße, 日本 \n"}],
    "turns": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
        {"role": "user", "content": "c"},
    ],
    "thought": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "because"},
        {"role": "user", "content": "c"},
    ],
    "tools": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "id": "call00001", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
            ],
        },
        {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": '{"t": 12}'},
    ],
}


@pytest.fixture(scope="module")
def renderer() -> Generator[Renderer, None, None]:
    renderer = Renderer(seconds=0.7)
    yield renderer
    renderer.close()


def expected(template: str, messages: list[dict[str, Any]], tools: Any, **more: Any) -> str:
    """As `apply_chat_template` of transformers."""
    (text,), _ = render_jinja_template([messages], tools=tools, chat_template=template, **SPECIALS, **more)
    return text


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tools", [None, [WEATHER]], ids=["plain", "tools"])
def test_a_conversation_reads_as_transformers_writes_it(
    renderer: Renderer, shape: str, talk: str, tools: list[dict[str, Any]] | None
) -> None:
    template, messages = SHAPES[shape], TALKS[talk]
    for prompted in (True, False):
        wish = Rendering(template, messages, tools, dict(SPECIALS), prompted)
        try:
            text = expected(template, messages, tools, add_generation_prompt=prompted)
        except (jinja2.TemplateError, TypeError) as error:
            refused = str(error)
        else:
            assert render(wish) == text
            assert renderer.render(wish) == text
            continue
        with pytest.raises(ModelFailure, match="refuses these messages") as caught:
            renderer.render(wish)
        assert refused in str(caught.value)


def test_the_shapes_are_those_that_models_have() -> None:
    assert set(SHAPES) == {"chatml", "gemma", "llama3", "mistral", "qwen_tools", "think", "generation"}


def test_variables_of_the_caller_reach_the_template(renderer: Renderer) -> None:
    template, messages = SHAPES["think"], TALKS["one"]
    quiet = renderer.render(Rendering(template, messages, None, {**SPECIALS, "enable_thinking": False}))
    assert quiet == expected(template, messages, None, add_generation_prompt=True, enable_thinking=False)
    assert quiet != renderer.render(Rendering(template, messages, None, dict(SPECIALS)))


@pytest.mark.parametrize("shape", ["chatml", "llama3", "qwen_tools"])
def test_an_answer_can_be_continued(renderer: Renderer, shape: str) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "So it "}]
    wish = Rendering(SHAPES[shape], messages, None, dict(SPECIALS), False, True)
    text = renderer.render(wish)
    assert text == expected(SHAPES[shape], messages, None, continue_final_message=True)
    assert text.rstrip().endswith("So it")
    with pytest.raises(ModelFailure, match="not both"):
        render(Rendering(SHAPES[shape], messages, None, {}, True, True))
    with pytest.raises(ModelFailure, match="no final message"):
        render(Rendering(SHAPES[shape], [{"role": "assistant", "content": None}], None, {}, False, True))


HOSTILE = {
    "a loop without an end": "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
    "a loop in C": "{{ range(99999)|map('string')|list|sum(start=[]) }}{{ 9**9**9 }}",
    "a text that doubles": "{% set n = namespace(x='aaaaaaaa') %}"
    "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x|length }}",
    "a wide text": "{{ 'a'.ljust(9000000000)|length }}",
    "a huge text": "{% for i in range(9999) %}{{ 'aaaaaaaaaa' * 999 }}{% endfor %}",
    "calls without an end": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_template_takes_neither_the_time_nor_the_memory(renderer: Renderer, template: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ModelFailure) as caught:
        renderer.render(Rendering(template, TALKS["one"]))
    assert caught.value.failure.kind == "bad_request"
    assert time.perf_counter() - start < 10
    # and the next one is served
    assert renderer.render(Rendering("{{ messages[0].role }}", TALKS["one"])) == "user"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages.clear() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ tojson.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ dict.__class__ }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ strftime_now.__func__.__code__ }}",
    ],
)
def test_a_template_reaches_nothing(template: str) -> None:
    try:
        text = render(Rendering(template, TALKS["one"]))
    except ModelFailure as error:
        text = error.failure.kind
    assert text in ("", "None", "bad_request")  # an attribute that is not there is nothing, as ever in Jinja


def test_a_template_that_is_none_is_the_checkpoints_fault(renderer: Renderer) -> None:
    with pytest.raises(EngineError, match="line 2"):
        renderer.render(Rendering("{{ 1 }}\n{% if %}", TALKS["one"]))


def test_a_conversation_becomes_ids(tmp_path: Path) -> None:
    folder = vocabularies.byte_level(tmp_path)
    with pytest.raises(ModelFailure, match="has no chat template") as caught:
        Tokenizer.open(folder).chat(TALKS["one"])
    assert caught.value.failure.kind == "unsupported"
    (folder / "tokenizer_config.json").write_text('{"chat_template": "old", "bos_token": {"content": "<|begin|>"}}')
    (folder / "chat_template.jinja").write_text(SHAPES["chatml"])
    tokenizer = Tokenizer.open(folder)
    tokens = tokenizer.chat(TALKS["system"], add_generation_prompt=True)
    text = expected(SHAPES["chatml"], TALKS["system"], None, add_generation_prompt=True)
    assert tokenizer.decode(tokens, special=True) == text
    assert tokens.count(tokenizer.id_of("<|im_start|>")) == 3
    tokenizer.close()


def test_a_folder_may_name_several_templates(tmp_path: Path) -> None:
    folder = vocabularies.byte_level(tmp_path)
    named = '[{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]'
    (folder / "tokenizer_config.json").write_text(f'{{"chat_template": {named}}}')
    tokenizer = Tokenizer.open(folder)
    assert tokenizer.prompt(TALKS["one"]) == "plain"
    assert tokenizer.prompt(TALKS["one"], [WEATHER]) == "tools"
    assert tokenizer.prompt(TALKS["one"], chat_template="mine") == "mine"
    tokenizer.close()
