"""A chat template: messages in, the one text that the model was trained to read them as.

Knows Jinja as `transformers` sets it up (same block trimming, filters, functions and `{% generation %}` blocks), so the
same template gives the same text. Does not know tokens. A template comes with a checkpoint from anywhere, so it is
rendered in a sandbox that can change nothing; how long it may take is the matter of `rendering.py`.
Invariant: whatever a template does, it ends as text or as a ModelFailure.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from msgspec import Struct

from loam.core.errors import EngineError, refuse

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which templates look for what an assistant thought."""

_TAG = "CONTINUE_FINAL_MESSAGE_TAG "


class Rendering(Struct, frozen=True):
    """One wish for a text. `variables` are the tokenizer's special tokens and what the caller adds."""

    template: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    variables: dict[str, Any] = {}
    add_generation_prompt: bool = True
    continue_final_message: bool = False


def render(wish: Rendering) -> str:
    """The text of a conversation, equal to `apply_chat_template(..., tokenize=False)` of transformers.

    Raises EngineError for a template that is none, ModelFailure for messages that it refuses.
    """
    if wish.continue_final_message and wish.add_generation_prompt:
        raise refuse(
            "bad_request",
            "an answer can be continued or begun anew, not both; leave add_generation_prompt out",
            param="add_generation_prompt",
        )
    messages = [_aliased(message) for message in wish.messages]
    if wish.continue_final_message:
        messages = _tagged(messages)
    try:
        text = _compiled(wish.template).render(
            messages=messages,
            tools=wish.tools,
            documents=None,
            add_generation_prompt=wish.add_generation_prompt,
            **wish.variables,
        )
    except TemplateSyntaxError as error:
        raise EngineError(f"the chat template is not valid Jinja (line {error.lineno}): {error.message}") from error
    except SecurityError as error:
        raise refuse("bad_request", f"the chat template does what no template may: {error}") from error
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        said = str(error) or type(error).__name__
        raise refuse("bad_request", f"the chat template refuses these messages: {said}", param="messages") from error
    return _untagged(text) if wish.continue_final_message else text


def template_of(folder: Path, configuration: Mapping[str, Any], *, tools: bool = False) -> str:
    """The template of a checkpoint's folder, empty where it has none: `chat_template.jinja`, else the configuration's.

    `configuration` is what tokenizer_config.json says; where it names several templates, `tools` takes "tool_use".
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"{file} cannot be read: {error}") from error
    given = configuration.get("chat_template")
    if isinstance(given, str):
        return given
    named: dict[str, str] = {}
    if isinstance(given, list):
        # [{"name": "default", "template": "…"}, {"name": "tool_use", "template": "…"}]
        named = {entry["name"]: entry["template"] for entry in given if isinstance(entry, dict)}  # pyright: ignore
    return (named.get("tool_use") if tools else None) or named.get("default", "")


def _aliased(message: dict[str, Any]) -> dict[str, Any]:
    """Without fields that are None, and with its reasoning under each name that templates know."""
    plain = {name: value for name, value in message.items() if value is not None}
    thought = next((plain[name] for name in REASONING if name in plain), None)
    return plain if thought is None else {"thinking": thought, **plain, "reasoning_content": thought}


def _tagged(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    last = messages[-1] if messages else {}
    if not isinstance(last.get("content"), str):
        raise refuse("bad_request", "there is no final message with a text that could be continued", param="messages")
    return [*messages[:-1], {**last, "content": last["content"] + _TAG}]


def _untagged(text: str) -> str:
    """The text up to where the final message ends; templates may have trimmed what stood before the tag."""
    place = text.rfind(_TAG.strip())
    if place < 0:
        raise refuse(
            "bad_request", "the chat template leaves parts of the final message out, so it cannot be continued",
            param="continue_final_message",
        )  # fmt: skip
    kept = text[:place]
    return kept if text.startswith(_TAG, place) else kept.rstrip()


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`: marks what the assistant said; here the text is shown, no more."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare an extension's tags

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict(…)`, without a class from which attributes lead anywhere."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """Jinja's `namespace(…)`, whose names may not begin with an underscore."""

    def __init__(*arguments: Any, **named: Any) -> None:
        self, rest = arguments[0], arguments[1:]
        values: dict[str, Any] = dict(*rest, **named)
        for name in values:
            _checked(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _checked(name)
        super().__setitem__(name, value)


def _checked(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names may not begin with an underscore")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes HTML, which a model has never seen."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - templates write the reader's local date, as transformers does


@lru_cache(16)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson  # pyright: ignore[reportUnknownMemberType]
    environment.globals |= {  # pyright: ignore[reportUnknownMemberType]
        "raise_exception": _raise,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)
