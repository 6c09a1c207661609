"""Text from tokens, and asks from a request: what stands between the words of a call and the ids of the engine.

Knows tokenizers, templates, stop strings, tool calls and the shape of log probabilities; knows no model and no wire.
Invariant: the text of an answer is the same whatever pieces it is heard in, and nothing behind a stop string is given.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from loam.core.calls import Delta, Finish, Usage
from loam.core.errors import Failure, refuse
from loam.engine.asks import Ask, Likely, Said
from loam.engine.detokenizer import Detokenizer
from loam.engine.drawing import draw_of
from loam.engine.protocol import Drawing, Request, Shape
from loam.engine.stops import StopStrings
from loam.engine.tokenizer import Tokenizer
from loam.engine.tool_calls import Form, Parts, form_of

_MOST_ANSWERS = 512
_MOST_STOPS = 64


class Voice(Struct, frozen=True, kw_only=True):
    """What is needed of a checkpoint to speak with it. `grammar` is `loam.engine.constrain.grammar_of`."""

    tokenizer: Tokenizer
    context: int
    vocabulary: int
    stop_tokens: frozenset[int]
    defaults: Drawing
    grammar: Callable[..., str]
    adapters: tuple[str, ...] = ()

    @property
    def form(self) -> Form:
        return form_of(self.tokenizer.template(tools=True))


class Prompt(Struct, frozen=True):
    """Ids to continue; `text` is what they were made of; `thinking` says that they end inside a thought."""

    tokens: tuple[int, ...]
    text: str = ""
    thinking: bool = False


def prompts_of(voice: Voice, request: Request) -> list[Prompt]:
    """What is to be continued. Raises ModelFailure for what the template refuses, and for what exceeds the context."""
    if request.messages is not None:
        text = voice.tokenizer.prompt(request.messages, request.tools, **request.variables)
        tokens = voice.tokenizer.encode(text)
        prompts = [Prompt(tuple(tokens), text, text.rstrip("\n").endswith("<think>"))]
    else:
        prompts = [_continued(voice, given, special=request.special) for given in request.inputs]
    for prompt in prompts:
        _check(voice, prompt)
    return prompts


def _continued(voice: Voice, given: str | Sequence[int], *, special: bool) -> Prompt:
    if isinstance(given, str):
        return Prompt(tuple(voice.tokenizer.encode(given, special=special)), given)
    wrong = next((token for token in given if not 0 <= token < voice.vocabulary), None)
    if wrong is not None:
        raise refuse(
            "bad_request", f"prompt: {wrong} is no token id of this model; they go to {voice.vocabulary - 1}",
            param="prompt",
        )  # fmt: skip
    return Prompt(tuple(given), voice.tokenizer.decode(given))


def _check(voice: Voice, prompt: Prompt) -> None:
    if not prompt.tokens:
        raise refuse("bad_request", "prompt: it comes to no token at all; write something to continue", param="prompt")
    if len(prompt.tokens) >= voice.context:
        raise refuse(
            "context_window",
            f"the prompt has {len(prompt.tokens)} tokens, and this model reads {voice.context} in all, answer and "
            "prompt together; shorten it, or ask a model with a larger context",
            param="messages" if not prompt.text else "prompt",
            code="context_length_exceeded",
        )


class Answering:
    """One request on its way: `asks` go to the engine, what it says comes to `hear`, deltas come out.

    `cancelled` collects asks that are to be cancelled: their answer has ended before the engine knew. `failure` is set
    where one of the answers failed, which ends them all. Raises ModelFailure for a request that makes no sense.
    """

    def __init__(self, voice: Voice, request: Request) -> None:
        _sensible(voice, request)
        self.id = request.id
        self._voice = voice
        self._request = request
        prompts = prompts_of(voice, request)
        grammar = _grammar(voice, request)
        self.asks: list[Ask] = []
        self.cancelled: list[str] = []
        self.failure: Failure | None = None
        self._choices: dict[str, _Choice] = {}
        for place, prompt in enumerate(prompts):
            for number in range(request.n):
                index = place * request.n + number
                ask = self._ask(prompt, f"{request.id}/{index}", number, grammar)
                self.asks.append(ask)
                self._choices[ask.id] = _Choice(voice, request, prompt, index)
        self._input = sum(len(prompt.tokens) for prompt in prompts)

    def _ask(self, prompt: Prompt, ask_id: str, number: int, grammar: str) -> Ask:
        request, voice = self._request, self._voice
        room = voice.context - len(prompt.tokens)
        stops = frozenset(request.stop_tokens) | (frozenset[int]() if request.ignore_end else voice.stop_tokens)
        # the prompt's own probabilities are wanted where it is given out with them
        scored = request.logprobs if request.echo else request.prompt_logprobs
        return Ask(
            id=ask_id,
            prompt=prompt.tokens,
            max_tokens=room if request.max_tokens is None else min(request.max_tokens, room),
            draw=draw_of(request.draw, voice.defaults, vocabulary=voice.vocabulary, choice=number),
            stop_tokens=stops,
            logprobs=request.logprobs,
            prompt_logprobs=scored if number == 0 or request.echo else None,
            grammar=grammar,
            close_grammar=bool(grammar),
            adapter=request.adapter,
        )

    @property
    def done(self) -> bool:
        return self.failure is not None or all(choice.finish is not None for choice in self._choices.values())

    def hear(self, said: Said) -> list[Delta]:
        """What a token adds; with the last of all, the usage."""
        choice = self._choices.get(said.ask)
        if choice is None or choice.finish is not None or self.failure is not None:
            return []
        if said.ending == "failed":
            self.failure = said.failure or Failure(kind="internal", message="the engine gave up without a reason")
            self.cancelled += [ask for ask, other in self._choices.items() if other.finish is None and ask != said.ask]
            return []
        deltas = list(choice.hear(said))
        if choice.finish is not None and said.ending is None:
            self.cancelled.append(said.ask)
        return [*deltas, Delta(usage=self.usage)] if self.done else deltas

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far; a prompt counts once, however many answers it gets."""
        choices = list(self._choices.values())
        return Usage(
            input=self._input,
            output=sum(choice.written for choice in choices),
            cached=sum(choice.cached for choice in choices[:: self._request.n]),
            reasoning=sum(choice.thought for choice in choices),
        )


class _Choice:
    """One answer while it is written."""

    def __init__(self, voice: Voice, request: Request, prompt: Prompt, index: int) -> None:
        self.index = index
        self.finish: Finish | None = None
        self.written = self.cached = self.thought = 0
        self._voice = voice
        self._request = request
        self._prompt = prompt
        chats = request.messages is not None
        self._shown = request.tools is not None and voice.form == "mistral"  # whose mark of a call is a control token
        self._text: Detokenizer = voice.tokenizer.stream(special=self._shown, begun=not chats)
        self._stops = StopStrings(request.stop, keep=request.keep_stop)
        self._parts = _parts_of(voice, request, prompt, index) if chats else None
        self._length = self._given = 0  # letters decoded, letters given out or on their way to be
        self._entries: list[tuple[int, dict[str, Any]]] = []  # log probabilities, with where their text begins
        self._begun = False

    def hear(self, said: Said) -> Iterator[Delta]:
        if not self._begun:
            self._begun = True
            self.cached = said.cached
            yield from self._prelude(said)
        text = self._decoded(said)
        text = self._stops.add(text)
        if not self._stops.hit and said.ending is not None:
            text += self._stops.add(self._text.end())
            text += "" if self._stops.hit else self._stops.end()
        self._given += len(text)
        ends = bool(self._stops.hit) or said.ending is not None
        yield from self._told(text, ends=ends)
        if ends:
            yield self._finished(said)

    def _decoded(self, said: Said) -> str:
        self.written += said.token >= 0 or said.stop is not None
        if said.token < 0:
            return ""
        self.thought += self._parts is not None and self._parts.thinking
        start = self._length
        text = self._text.add(said.token)
        self._length += len(text)
        if self._request.logprobs is not None and said.logprob is not None:
            self._entries.append((start, self._entry(said.token, said.logprob, said.top, at=start)))
        return text

    def _told(self, text: str, *, ends: bool) -> Iterator[Delta]:
        """The text as deltas, with the log probabilities of the tokens whose text has begun to be given."""
        deltas = [Delta(choice=self.index, text=text)] if text else []
        if self._parts is not None:
            deltas = [*self._parts.add(text), *(self._parts.end() if ends else ())]
        cut = self._given if self._stops.hit or not ends else float("inf")
        ready = [entry for start, entry in self._entries if start < cut]
        self._entries = [] if ends else self._entries[len(ready) :]
        if ready:
            yield Delta(choice=self.index, logprobs=ready, text=deltas.pop(0).text if deltas and deltas[0].text else "")
        yield from deltas

    def _finished(self, said: Said) -> Delta:
        self.finish = "length" if said.ending == "length" and not self._stops.hit else "stop"
        if self.finish == "stop" and self._parts is not None and self._parts.calls:
            self.finish = "tool_calls"
        return Delta(choice=self.index, finish=self.finish, stop_sequence=self._stops.hit or None)

    def _prelude(self, said: Said) -> Iterator[Delta]:
        """The prompt, where it is to be echoed, and what it is worth."""
        request, prompt = self._request, self._prompt
        if request.echo:
            scored = None if request.logprobs is None else self._scored(said.prompt or ())
            self._length = self._given = len(prompt.text)
            yield Delta(choice=self.index, text=prompt.text, logprobs=scored)
        elif request.prompt_logprobs is not None and said.prompt is not None:
            yield Delta(choice=self.index, extra={"choice.prompt_logprobs": self._ranked(said.prompt)}, family="openai")

    def _scored(self, prompt: Sequence[Sequence[Likely]]) -> list[dict[str, Any]]:
        stream = self._voice.tokenizer.stream()
        entries: list[dict[str, Any]] = []
        at = 0
        for place, token in enumerate(self._prompt.tokens):
            itself, *top = prompt[place - 1] if 0 < place <= len(prompt) else (Likely(token, 0.0),)
            entries.append(self._entry(token, itself.logprob if place else None, top, at=at))
            at += len(stream.add(token))
        return entries

    def _ranked(self, prompt: Sequence[Sequence[Likely]]) -> list[Any]:
        """VLLM's shape: for each prompt token but the first, log probabilities by id."""
        read = self._voice.tokenizer.token_bytes

        def row(place: Sequence[Likely]) -> dict[str, Any]:
            ranked = {one.token: one.logprob for one in reversed(place)}
            return {
                str(token): {"logprob": logprob, "decoded_token": shown(read(token))}
                for token, logprob in ranked.items()
            }

        return [None, *map(row, prompt)]

    def _entry(self, token: int, logprob: float | None, top: Sequence[Likely], *, at: int) -> dict[str, Any]:
        """One token as OpenAI tells it. Where a text is continued, with its place; the drawn one is then in `top`."""
        read = self._voice.tokenizer.token_bytes
        told = list(top)
        place: dict[str, Any] = {}
        if self._request.messages is None:
            place = {"text_offset": at}
            if logprob is not None and told and token not in [one.token for one in told]:
                told.append(Likely(token, logprob))
        return {**_written(read(token), logprob), "top_logprobs": _all(read, told), **place}


def _all(read: Callable[[int], bytes], told: Sequence[Likely]) -> list[dict[str, Any]]:
    return [_written(read(one.token), one.logprob) for one in told]


def _written(data: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": shown(data), "logprob": logprob, "bytes": list(data)}


def shown(data: bytes) -> str:
    """A token's text; where it is a part of a letter its bytes, as OpenAI writes them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _parts_of(voice: Voice, request: Request, prompt: Prompt, index: int) -> Parts | None:
    """What tells an answer's thoughts and calls from its text; None where there is nothing to look for."""
    form: Form = voice.form if request.tools else ""
    thinks = "<think>" in voice.tokenizer.template() or voice.tokenizer.id_of("<think>") is not None
    forced = bool(request.must_call)
    if not (form or thinks or forced):
        return None
    free = request.shape is None and not forced
    answer = f"{request.id}/{index}"
    return Parts(answer, index, form=form, thinks=thinks and free, thinking=prompt.thinking and free, whole=forced)


def _grammar(voice: Voice, request: Request) -> str:
    """The grammar that the answer must follow, empty for none. Raises ModelFailure."""
    if request.must_call:
        return voice.grammar(schema=_call_schema(request))
    shape = request.shape
    match shape:
        case None:
            return ""
        case Shape(kind="json"):
            return voice.grammar(schema={"type": "object"})
        case Shape(kind="schema"):
            return voice.grammar(schema=shape.value)
        case Shape(kind="regex"):
            return voice.grammar(regex=shape.value)
        case Shape(kind="choice"):
            return voice.grammar(lark=f"start: {' | '.join(json.dumps(str(value)) for value in shape.value)}")
        case _:
            return voice.grammar(lark=shape.value)


def _call_schema(request: Request) -> dict[str, Any]:
    """A call of one of the tools that may be called, as an object with a name and arguments."""
    calls: list[dict[str, Any]] = []
    for tool in request.tools or ():
        function: dict[str, Any] = tool["function"]
        if request.must_call in ("*", function["name"]):
            arguments = function.get("parameters") or {"type": "object"}
            properties = {"name": {"const": function["name"]}, "arguments": arguments}
            calls.append(
                {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
            )
    if not calls:
        raise refuse(
            "bad_request", f"tool_choice names {request.must_call!r}, which is none of the tools", param="tool_choice"
        )
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _sensible(voice: Voice, request: Request) -> None:
    """Raises ModelFailure for what no checkpoint could do, and for what this one cannot."""
    prompts = 1 if request.messages is not None else len(request.inputs)
    if request.messages == [] or not prompts:
        raise refuse("bad_request", "messages: there is nothing to answer", param="messages")
    if prompts * request.n > _MOST_ANSWERS:
        raise refuse("bad_request", f"{prompts * request.n} answers at once; at most {_MOST_ANSWERS}", param="n")
    if len(request.stop) > _MOST_STOPS or not all(request.stop):
        raise refuse("bad_request", f"stop: at most {_MOST_STOPS} strings, none of them empty", param="stop")
    if request.tools and not voice.form and not request.must_call:
        raise refuse(
            "unsupported",
            "this checkpoint's chat template teaches no calls of tools, or in a form that Loam cannot read; "
            "leave the tools out, demand one by tool_choice, or have them called in text by the technique react",
            param="tools",
        )
    if request.adapter and request.adapter not in voice.adapters:
        there = ", ".join(voice.adapters) or "none"
        raise refuse("not_found", f"there is no adapter {request.adapter!r}; there are: {there}", param="model")
