"""`/v1/models` and `/v1/models/NAME`: what this gateway answers for, in words that OpenAI and Anthropic clients read.

Invariant: a key sees only the models that it may ask.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from loam.core.calls import Principal
from loam.core.errors import ModelFailure, refuse
from loam.gateway.door import Door
from loam.gateway.http import JSON, Receive, Scope, Send, read_head, send_whole
from loam.wire.openai_errors import encode_error

PATH = "/v1/models"


class ModelList:
    """An ASGI app. `names` gives every model that a principal may ask now."""

    def __init__(self, names: Callable[[Principal], Awaitable[Sequence[str]]], *, door: Door, since: float) -> None:
        self._names = names
        self._door = door
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            names = await self._names(self._door.admit(scope, read_head(scope["headers"])))
            wanted = unquote(scope["path"].partition(PATH)[2].strip("/"))
            answer = self._one(wanted, names) if wanted else self._all(names)
        except ModelFailure as error:
            await send_whole(send, error.failure.http_status, encode_error(error.failure, ""), [JSON])
        else:
            await send_whole(send, 200, msgspec.json.encode(answer), [JSON])

    def _all(self, names: Sequence[str]) -> dict[str, Any]:
        ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
        return {"object": "list", "data": [self._entry(name) for name in names], "has_more": False, **ends}

    def _one(self, wanted: str, names: Sequence[str]) -> dict[str, Any]:
        if wanted not in names:
            raise refuse("not_found", f"no model is listed as {wanted!r}", param="model", code="model_not_found")
        return self._entry(wanted)

    def _entry(self, name: str) -> dict[str, Any]:
        made = datetime.fromtimestamp(self._since, UTC).isoformat()
        words = {"id": name, "object": "model", "created": int(self._since), "owned_by": "loam"}
        return {**words, "type": "model", "display_name": name, "created_at": made}
