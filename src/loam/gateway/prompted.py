"""The step that turns `prompt:NAME@LABEL` into what that prompt says, for any client and any wire format.

Knows prompts and the call's words; not where prompts are kept. Stands between the keys, which judge the name that the
client asked for, and the ledger, which writes the version down. Invariant: a call that names no prompt passes
unchanged; one that does carries the name, label and full hash of its version in its tags, whatever tags the client
sent.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated

from msgspec import Meta, Struct, structs

from loam.core.answers import refused
from loam.core.calls import PROMPT, Call, Delta, Output
from loam.core.errors import ModelFailure, refuse
from loam.core.messages import Message
from loam.core.ports import Model
from loam.gateway.prompt_shelf import DEFAULT_LABEL, Found
from loam.prompting.prompts import Prompt


class PromptSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts that are files."""

    folder: Annotated[
        str, Meta(description="Folder whose *.md files are taken as prompts when the gateway starts; empty: none.")
    ] = ""
    label: Annotated[str, Meta(description="Label that the folder's files get.")] = DEFAULT_LABEL


class Prompted:
    """Fills in the prompt that a call's model names, as `find` finds it. Raises what `find` and the prompt raise."""

    def __init__(self, inner: Model, find: Callable[[str], Found]) -> None:
        self._inner = inner
        self._find = find

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        if not call.model.startswith(PROMPT):
            if call.controls.variables:
                message = f"variables belong to a prompt; ask one as the model {PROMPT}NAME, or leave them out"
                return refused(refuse("bad_request", message, param="loam.variables"))
            return self._inner.answer(call)
        try:
            call = filled(call, self._find(call.model.removeprefix(PROMPT)))
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
    """System messages first, the prompt's before the client's; then the prompt's turns and the client's.

    Where the prompt places the last user message, its turns stand at the end, with that message in them.
    """
    given = call.controls.variables
    leading = next((n for n, message in enumerate(call.messages) if message.role != "system"), len(call.messages))
    instructed, said = call.messages[:leading], call.messages[leading:]
    last = said[-1] if said else None
    if not prompt.takes_input:
        turns = prompt.messages(given)
    elif last is None or last.role != "user" or not last.text.strip():
        raise refuse("bad_request", "this prompt needs a user message with text at the end", param="messages")
    else:
        turns = prompt.messages(given, question=last.text)
    opening = 1 if turns[0].role == "system" else 0
    if prompt.takes_input:
        return (*turns[:opening], *instructed, *said[:-1], *turns[opening:])
    return (*turns[:opening], *instructed, *turns[opening:], *said)
