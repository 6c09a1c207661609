"""The step that turns `prompt:NAME@LABEL` into what that prompt says, for any client and any wire format.

Knows the shelf and the call's words. Stands between the keys, which judge the name that the client asked for, and the
ledger, which writes the version down. Invariant: a call that names no prompt passes unchanged; one that does carries
the name, label and full hash of its version in its tags, whatever tags the client sent.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.answers import refused
from loam.core.calls import PROMPT, Call, Delta, Output
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Message
from loam.core.ports import Model
from loam.gateway.prompt_shelf import DEFAULT_LABEL, Found, PromptShelf
from loam.prompting.prompts import Prompt


class PromptSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts that are files."""

    folder: Annotated[
        str, Meta(description="Folder whose *.md files are taken as prompts when the gateway starts; empty: none.")
    ] = ""
    label: Annotated[str, Meta(description="Label that the folder's files get.")] = DEFAULT_LABEL


class Prompted:
    """Fills in the prompt that a call's model names. Raises ModelFailure (not_found, bad_request)."""

    def __init__(self, inner: Model, shelf: PromptShelf) -> None:
        self._inner = inner
        self._shelf = shelf

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.model.startswith(PROMPT):
            if call.controls.variables:
                message = f"variables belong to a prompt; ask one as the model {PROMPT}NAME, or leave them out"
                return refused(refuse("bad_request", message, param="loam.variables"))
            return self._inner.answer(call)
        try:
            call = filled(call, self._shelf.find(call.model.removeprefix(PROMPT)))
        except ModelFailure as error:
            return refused(error)
        return self._inner.answer(call)


def filled(call: Call, found: Found) -> Call:
    """The call as its prompt makes it: messages, model, and what the client left open. Raises ModelFailure."""
    if call.task not in ("chat", "count"):
        raise refuse("unsupported", "a prompt can be asked in a chat only", param="model")
    prompt = found.prompt
    tags = {"prompt": found.name, "prompt_hash": found.hash, "prompt_label": found.label}
    output = call.output
    if output is None and prompt.schema is not None:
        output = Output("schema", prompt.schema, name="answer")
    return structs.replace(
        call,
        model=prompt.model,
        messages=_messages(call, prompt),
        sampling=prompt.sampling(call.sampling),
        output=output,
        controls=structs.replace(call.controls, tags={**call.controls.tags, **tags}, variables={}),
    )


def _messages(call: Call, prompt: Prompt) -> tuple[Message, ...]:
    """The prompt's turns, then the client's; where the prompt places the last user message, only those before it."""
    given = call.controls.variables
    if not prompt.takes_input:
        return (*prompt.messages(given), *call.messages)
    last = call.messages[-1] if call.messages else None
    if last is None or last.role != "user" or not last.text.strip():
        raise refuse("bad_request", "this prompt needs a user message with text at the end", param="messages")
    turns = prompt.messages(given, question=last.text)
    opening = 1 if turns[0].role == "system" else 0
    return (*turns[:opening], *call.messages[:-1], *turns[opening:])
