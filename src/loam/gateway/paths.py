"""The data path's addresses: which format is spoken at which.

Knows addresses and formats; what answers there, it is given. Invariant: an address stands under each prefix that some
client puts before it, and means the same under all of them.
"""

from collections.abc import Callable

from loam.gateway.app import App
from loam.gateway.listing import PATH as MODELS
from loam.wire.anthropic_border import COUNT, MESSAGES
from loam.wire.border import Border
from loam.wire.openai_completions import COMPLETIONS
from loam.wire.openai_embeddings import EMBEDDINGS
from loam.wire.openai_replies import CHAT
from loam.wire.openai_responses_border import RESPONSES

_PREFIXES = ("", "/openai", "/anthropic")
_BORDERS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT,
}


def data_path(endpoint: Callable[[Border], App], models: App) -> dict[tuple[str, str], App]:
    """An app for each method and address: `endpoint` makes one for a format, `models` lists what can be asked."""
    apps = {("POST", path): endpoint(border) for path, border in _BORDERS.items()} | {("GET", MODELS): models}
    return {(method, prefix + path): app for prefix in _PREFIXES for (method, path), app in apps.items()}


def remembers(border: Border) -> bool:
    """Whether a conversation can be gone on with by an id, so that the gateway has to keep it."""
    return border is RESPONSES
