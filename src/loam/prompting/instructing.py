"""Adding an instruction of Loam's own to what a call says.

Knows messages alone. Invariant: it stands after the client's own system words, so a prefix that a provider has cached
stays what it was.
"""

from msgspec import structs

from loam.core.calls import Call
from loam.core.messages import Message, Text, say


def instructed(call: Call, text: str) -> Call:
    """The call with `text` at the end of its system message.

    Where Anthropic's client marked its system blocks (for the cache, say), they stay its own, and the text follows.
    """
    messages = list(call.messages)
    last = next((at for at in reversed(range(len(messages))) if messages[at].role == "system"), None)
    if last is None:
        messages.insert(0, say("system", text))
    elif call.family == "anthropic" and messages[last].wire is not None:
        messages.insert(last + 1, say("system", text))
    else:
        old = messages[last]
        messages[last] = Message("system", (*old.parts, Text(f"\n\n{text}")), old.name)
    return structs.replace(call, messages=tuple(messages))
