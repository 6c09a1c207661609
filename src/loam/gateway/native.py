"""The native API: serves a table of operations on Starlette, and describes the same table as OpenAPI 3.1.

Knows no operation. Invariant: what the description says is what is checked: bodies and queries are decoded into the
very types that the schemas are printed from.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from loam.core.calls import Principal
from loam.core.clock import Clock, new_id
from loam.core.errors import Failure, Kind, ModelFailure, refuse
from loam.core.operations import Asked, Operation, Plain, Streamed
from loam.gateway.door import Door
from loam.gateway.http import read_head
from loam.gateway.sending import EventStream

_encoder = msgspec.json.Encoder(order="deterministic")
_EVENTS = "text/event-stream"


class Problem(Struct, frozen=True):
    kind: Kind
    message: str
    param: str | None = None


class Refusal(Struct, frozen=True):
    """What every error of the native API looks like."""

    error: Problem


def native_app(operations: Sequence[Operation], *, door: Door, clock: Clock, max_body: int, version: str) -> Starlette:
    """An ASGI app that answers the operations and `/loam/v1/openapi.json`."""
    description = _encoder.encode(describe(operations, version))

    async def openapi(request: Request) -> Response:
        return Response(description, media_type="application/json")

    routes = [
        Route(operation.path, _serve(operation, door, clock, max_body), methods=[operation.method])
        for operation in operations
    ]
    routes.append(Route("/loam/v1/openapi.json", openapi, methods=["GET"]))
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})


def _serve(operation: Operation, door: Door, clock: Clock, max_body: int) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            asked = await _read(request, operation, door, max_body)
            result = await operation.run(asked)
        except ModelFailure as error:
            return _refused(error.failure, new_id("call", clock.now()))
        except ClientDisconnect:
            return Response(status_code=400)
        if isinstance(result, Streamed):
            return EventStream(result)
        if isinstance(result, Plain):
            return Response(result.content, operation.status, media_type=result.media_type)
        body = b"" if result is None else _encoder.encode(result)
        return Response(body, 204 if result is None else operation.status, media_type="application/json")

    return answer


async def _read(request: Request, operation: Operation, door: Door, max_body: int) -> Asked:
    principal = Principal()
    if operation.access != "open":
        principal = door.admit(request.scope, read_head(request.scope["headers"]))
        if operation.access == "admin" and not principal.admin:
            raise refuse("permission", "this needs an administrator's key; the first start printed one")
    query = body = None
    if operation.query is not None:
        query = _query(request, operation.query)
    if operation.body is not None:
        body = _decoded(await _body(request, max_body), operation.body)
    headers = request.headers
    stream = bool(operation.streams) and _EVENTS in headers.get("accept", "")
    return Asked(principal, request.path_params, body, query, stream, headers.get("last-event-id", ""))


def _query(request: Request, type_: Any) -> Any:
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refuse("bad_request", f"the parameter {twice!r} is given twice", param=twice)
    try:
        return msgspec.convert(dict(pairs), type_, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, "the query") from None


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise refuse("too_large", f"the request has more than {limit} bytes, which is all this gateway takes")
    return bytes(body)


def _decoded(body: bytes, type_: Any) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except msgspec.ValidationError as error:
        raise _invalid(error, "the body") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse("bad_request", f"the body is not valid JSON: {error}") from None


def _invalid(error: msgspec.ValidationError, where: str) -> ModelFailure:
    message, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".")
    return refuse("bad_request", f"{where}{f' at {param}' if param else ''}: {message}", param=param)


def _refused(failure: Failure, call_id: str) -> Response:
    body = _encoder.encode(Refusal(Problem(failure.kind, failure.message, failure.param or None)))
    headers = {"x-request-id": call_id}
    if failure.kind == "authentication":
        headers["www-authenticate"] = "Bearer"
    return Response(body, failure.http_status, headers, "application/json")


async def _not_found(request: Request, error: Exception) -> Response:
    message = f"there is nothing at {request.url.path}; GET /loam/v1/openapi.json lists the native API"
    return _refused(Failure(kind="not_found", message=message), "")


async def _not_allowed(request: Request, error: Exception) -> Response:
    message = f"{request.url.path} does not take {request.method}"
    response = _refused(Failure(kind="bad_request", message=message, status=405), "")
    if isinstance(error, HTTPException) and error.headers:
        response.headers["allow"] = error.headers.get("Allow", "")
    return response


def describe(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the operations."""
    named = [t for operation in operations for t in (operation.body, operation.answer) if t is not None]
    queries = [operation.query for operation in operations if operation.query is not None]
    schemas, components = msgspec.json.schema_components(
        [*named, Refusal, *queries], ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip([id(t) for t in [*named, Refusal, *queries]], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _describe_one(operation, schema_of, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loam native API", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe_one(operation: Operation, schema_of: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "x-loam-access": operation.access, "responses": {}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", operation.path)
    ]
    if operation.query is not None:
        schema = schema_of[id(operation.query)]
        fields = components[schema["$ref"].rsplit("/", 1)[1]]["properties"]
        parameters += [{"name": name, "in": "query", "schema": field} for name, field in fields.items()]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schema_of[id(operation.body)]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.access != "open":
        described["security"] = [{"key": []}]
    success: dict[str, Any] = {"description": "Done."}
    if operation.answer is Plain:
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif operation.answer is not None:
        success["content"] = {"application/json": {"schema": schema_of[id(operation.answer)]}}
    if operation.streams:
        events = {"type": "string", "description": operation.streams}
        success.setdefault("content", {})[_EVENTS] = {"schema": events}
    status = 204 if operation.answer is None else operation.status
    described["responses"][str(status)] = success
    refusal = {"application/json": {"schema": schema_of[id(Refusal)]}}
    described["responses"]["default"] = {"description": "Refused; the error says why.", "content": refusal}
    return described
