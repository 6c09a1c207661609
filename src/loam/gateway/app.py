"""The gateway's ASGI app: a dictionary of paths for the data path, everything under /loam/ to the admin app.

Invariant: the data path goes through no framework and no middleware.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from loam.gateway.http import JSON, Receive, Scope, Send, send_whole
from loam.gateway.listing import PATH as MODELS

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gateway:
    """`paths` maps (method, path) to its app; what the apps need is opened and closed by whoever serves this one.

    `admin` answers everything under /loam/, and the paths that are `outside`.
    """

    def __init__(self, paths: Mapping[tuple[str, str], App], admin: App, *, outside: Collection[str] = ()) -> None:
        self._paths = dict(paths)
        self._outside = frozenset(outside)
        self._methods = {path: method for method, path in paths}
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        app = self._paths.get((scope["method"], path))
        if app is not None:
            await app(scope, receive, send)
        elif path.startswith("/loam/") or path in self._outside:
            await self._admin(scope, receive, send)
        else:
            # a model's name may have slashes, so it is whatever comes behind the list's path
            prefix, _, name = path.partition(f"{MODELS}/")
            listing = self._paths.get((scope["method"], prefix + MODELS)) if name else None
            if listing is not None:
                await listing(scope, receive, send)
            else:
                await self._unknown(path, scope["method"], send)

    async def _unknown(self, path: str, method: str, send: Send) -> None:
        allowed = self._methods.get(path)
        if allowed is not None:
            status, message = 405, f"{path} takes {allowed}, not {method}"
        else:
            there = ", ".join(sorted(path for path in self._methods if path.startswith("/v1/")))
            status, message = 404, f"there is nothing at {path[:200]}; there are {there}, and /loam/v1/openapi.json"
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "unknown_url"}
        await send_whole(send, status, msgspec.json.encode({"error": error}), [JSON])
