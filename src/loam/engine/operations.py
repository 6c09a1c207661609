"""What the native API can do with checkpoints: tokens of a text, texts of tokens, loading and putting away.

The shapes of the first three are vLLM's. Knows fleets by their provider's name. Invariant: a key sees the tokenizers of
the models that it may ask, and only an administrator moves models in and out of memory or names a path.
"""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from loam.core.calls import Principal
from loam.core.errors import refuse
from loam.core.operations import Asked, Operation
from loam.engine.fleet import Fleet, State
from loam.engine.protocol import Question

ENGINE = "/loam/v1/engine"
_MOST = 10_000_000
Name = Annotated[str, Meta(max_length=1000, description="The model; may be left out where there is one only.")]


class TokenizeWish(Struct, frozen=True, kw_only=True):
    """A `prompt`, or `messages` as the model's chat template writes them."""

    model: Name = ""
    prompt: Annotated[str, Meta(max_length=_MOST)] | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: Annotated[bool, Meta(description="Begin a prompt as the tokenizer does, with BOS.")] = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template: str = ""
    chat_template_kwargs: dict[str, Any] = {}
    return_token_strs: bool = False


class Tokenized(Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: Annotated[list[str] | None, Meta(description="Each token as the vocabulary writes it.")] = None


class DetokenizeWish(Struct, frozen=True, kw_only=True):
    model: Name = ""
    tokens: Annotated[list[int], Meta(max_length=_MOST)]


class Detokenized(Struct, frozen=True):
    prompt: str


class WhichModel(Struct, frozen=True, kw_only=True):
    model: Name = ""


class LoadWish(Struct, frozen=True, kw_only=True):
    """A model by its name, or a checkpoint at a `path` on the gateway's machine, which then gets the name."""

    model: Name = ""
    path: Annotated[str, Meta(max_length=4000)] = ""


class States(Struct, frozen=True):
    models: list[State]


class Checkpoints:
    """The desks behind the operations: `fleets` by provider name."""

    def __init__(self, fleets: Mapping[str, Fleet]) -> None:
        self._fleets = fleets
        self._number = itertools.count()

    def find(self, model: str, principal: Principal) -> tuple[Fleet, str]:
        """The fleet that has a model, and its name there. Raises ModelFailure."""
        every = [(provider, name) for provider, fleet in self._fleets.items() for name in fleet.paths]
        if not model and len(every) == 1:
            model = "/".join(every[0])
        if not model:
            there = ", ".join("/".join(one) for one in every) or "none"
            raise refuse("bad_request", f"model: say which; there are: {there}", param="model")
        provider, _, name = model.partition("/")
        if provider not in self._fleets:
            provider, name = next((one for one in every if one[1] == model), (next(iter(self._fleets), ""), model))
        if not (principal.may_ask(model) or principal.may_ask(f"{provider}/{name}")):
            raise refuse("permission", f"this key may not ask {model}", param="model")
        if provider not in self._fleets:
            raise refuse("not_found", f"there is no checkpoint called {model!r} here", param="model")
        return self._fleets[provider], name

    async def ask(self, model: str, question: str, body: Any, principal: Principal) -> Any:
        fleet, name = self.find(model, principal)
        async with fleet.using(name) as engine:
            return await engine.ask(Question(f"{question}.{next(self._number)}", question, body))

    async def tokenize(self, asked: Asked) -> Tokenized:
        wish: TokenizeWish = asked.body
        if (wish.prompt is None) == (wish.messages is None):
            raise refuse("bad_request", "give a prompt or messages, one of the two", param="prompt")
        variables = {**wish.chat_template_kwargs, "add_generation_prompt": wish.add_generation_prompt}
        if wish.continue_final_message:
            variables["continue_final_message"] = True
        if wish.chat_template:
            variables["chat_template"] = wish.chat_template
        for name in ("messages", "tools"):
            variables.pop(name, None)
        body = {
            "prompt": wish.prompt,
            "messages": wish.messages,
            "tools": wish.tools,
            "special": wish.add_special_tokens,
            "variables": variables,
        }
        told = await self.ask(wish.model, "tokenize", body, asked.principal)
        strings = told["pieces"] if wish.return_token_strs else None
        return Tokenized(
            count=len(told["tokens"]), max_model_len=told["context"], tokens=told["tokens"], token_strs=strings
        )

    async def detokenize(self, asked: Asked) -> Detokenized:
        wish: DetokenizeWish = asked.body
        told = await self.ask(wish.model, "detokenize", {"tokens": wish.tokens}, asked.principal)
        return Detokenized(told["text"])

    async def tokenizer_info(self, asked: Asked) -> dict[str, Any]:
        return await self.ask(asked.query.model, "tokenizer_info", None, asked.principal)

    async def states(self, asked: Asked) -> States:
        return States([state for fleet in self._fleets.values() for state in fleet.states()])

    async def load(self, asked: Asked) -> State:
        wish: LoadWish = asked.body
        if wish.path:
            if not self._fleets:
                raise refuse("not_found", "no provider of this gateway holds checkpoints")
            provider, _, rest = wish.model.partition("/")
            fleet = self._fleets.get(provider) or next(iter(self._fleets.values()))
            name = rest if provider in self._fleets else wish.model
            process = await fleet.load(name, wish.path)
            return fleet.state(process.order.name, fleet.paths[process.order.name])
        fleet, name = self.find(wish.model, asked.principal)
        await fleet.engine(name)
        model, path, _ = fleet.find(name)
        return fleet.state(model, path)

    async def unload(self, asked: Asked) -> State:
        fleet, name = self.find(asked.body.model, asked.principal)
        await fleet.unload(name)
        model, path, _ = fleet.find(name)
        return fleet.state(model, path)

    def names(self) -> list[str]:
        """Every checkpoint as a client asks for it."""
        return [f"{provider}/{name}" for provider, fleet in self._fleets.items() for name in fleet.paths]


INFO = dict[str, Any]


def engine_operations(checkpoints: Checkpoints) -> tuple[Operation, ...]:
    """Everything of this module, under /loam/v1; the first three also where vLLM has them."""
    here = checkpoints
    return (
        *(
            operation
            for prefix in ("", "/loam/v1")
            for operation in (
                Operation(
                    method="POST", path=f"{prefix}/tokenize", summary="The tokens of a text or a conversation",
                    run=here.tokenize, body=TokenizeWish, answer=Tokenized, access="key",
                ),
                Operation(
                    method="POST", path=f"{prefix}/detokenize", summary="The text of tokens", run=here.detokenize,
                    body=DetokenizeWish, answer=Detokenized, access="key",
                ),
                Operation(
                    method="GET", path=f"{prefix}/tokenizer_info", summary="What a model's tokenizer says of itself",
                    run=here.tokenizer_info, query=WhichModel, answer=INFO, access="key",
                ),
            )
        ),
        Operation(
            method="GET", path=ENGINE, summary="List checkpoints, and which are in memory", run=here.states,
            answer=States,
        ),
        Operation(
            method="POST", path=ENGINE + "/load", summary="Load a checkpoint into memory", run=here.load,
            body=LoadWish, answer=State,
        ),
        Operation(
            method="POST", path=ENGINE + "/unload", summary="Put a checkpoint out of memory", run=here.unload,
            body=WhichModel, answer=State,
        ),
    )  # fmt: skip
