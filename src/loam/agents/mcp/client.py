"""One connection to an MCP server, over stdio or streamable HTTP, in Loam's own words.

With the pipe the only module that knows the SDK; loaded when an agent names a server. Invariants: what the server asks
of us (sampling, elicitation, roots) is refused; its schemas are compiled by our own validator only; a call has an
outcome, and is in doubt wherever the server did not say itself that it did nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp_types
import msgspec
from mcp.client import Transport
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter, ValidationError

from loam import __version__
from loam.agents.mcp.listed import Listed
from loam.agents.mcp.pipe import LONGEST, Piped
from loam.agents.outcome import Outcome
from loam.core.errors import refuse

_PAGES = 50
_CONNECT = 10.0
_WORDS = 2000
_RESULT: TypeAdapter[mcp_types.CallToolResult | mcp_types.InputRequiredResult] = TypeAdapter(
    mcp_types.CallToolResult | mcp_types.InputRequiredResult
)
_NOTHING_DONE = (mcp_types.INVALID_PARAMS, mcp_types.METHOD_NOT_FOUND)


class Session:
    """An open connection. `ended` is set when it is over, by either side."""

    def __init__(self, client: Client, ended: asyncio.Event) -> None:
        self._client = client
        self.ended = ended

    async def list(self) -> Sequence[Listed]:
        """Every tool of the server. Raises ModelFailure."""
        found: list[Listed] = []
        cursor: str | None = None
        try:
            for _ in range(_PAGES):
                params = mcp_types.PaginatedRequestParams(cursor=cursor)
                page = await self._client.session.list_tools(params=params)
                found += [Listed(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    return found
        except (MCPError, ValidationError) as error:
            self._over(error)
            raise refuse("unavailable", f"it does not say which tools it has: {_said(error)}") from error
        raise refuse("unavailable", f"its list of tools has more than {_PAGES} pages")

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        request = mcp_types.CallToolRequest(params=mcp_types.CallToolRequestParams(name=name, arguments=arguments))
        try:
            result = await self._client.session.send_request(request, _RESULT)
        except MCPError as error:
            self._over(error)
            nothing = error.code in _NOTHING_DONE
            return Outcome(f"the server gave no result: {_said(error)}", is_error=True, doubt=not nothing)
        except ValidationError as error:
            return Outcome(f"the server's answer is no result: {_said(error)}", is_error=True, doubt=True)
        if isinstance(result, mcp_types.InputRequiredResult):
            return Outcome("the server asks for input in the middle of the call, which it is not given", is_error=True)
        return Outcome(_told(result), is_error=result.is_error)

    def _over(self, error: MCPError | ValidationError) -> None:
        if isinstance(error, MCPError) and error.code == mcp_types.CONNECTION_CLOSED:
            self.ended.set()


class Stdio:
    """A server that is started here. `words` are the last that its process wrote to stderr."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._piped: Piped | None = None

    @property
    def words(self) -> str:
        return "" if self._piped is None else self._piped.words

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Session, None]:
        self._piped = piped = Piped(self._command, self._environment)
        async with _client(piped.streams()) as client:
            yield Session(client, piped.ended)


class Http:
    """A server that is reached at an address."""

    words = ""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = dict(headers)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Session, None]:
        time = httpx2.Timeout(_CONNECT, read=None)  # how long an answer may take, whoever calls says
        async with httpx2.AsyncClient(
            headers=self._headers,
            timeout=time,
            transport=_Bounded(httpx2.AsyncHTTPTransport()),
            trust_env=False,  # no proxy and no password that nobody named
        ) as http:
            streams = streamable_http_client(self._url, http_client=http, max_sse_event_size=LONGEST)
            async with _client(streams) as client:
                yield Session(client, asyncio.Event())


def _client(streams: Transport) -> Client:
    return Client(streams, client_info=mcp_types.Implementation(name="loam", version=__version__), cache=None)


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends a body that is longer than any message may be. Streams of events have a bound for each event instead."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        stream = response.stream
        if isinstance(stream, httpx2.AsyncByteStream) and "event-stream" not in response.headers.get(
            "content-type", ""
        ):
            response.stream = _BoundedBody(stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedBody(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._inner:
            size += len(piece)
            if size > LONGEST:
                raise httpx2.ReadError(f"it sent a message of more than {LONGEST} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def _said(error: MCPError | ValidationError) -> str:
    """What went wrong, without what the validator quotes."""
    return error.message[:_WORDS] if isinstance(error, MCPError) else f"{error.title} does not fit the protocol"


def _told(result: mcp_types.CallToolResult) -> str:
    """A result as text: what can't be one is named and left out."""
    texts = [_text(block) for block in result.content]
    if result.structured_content is not None and not any(isinstance(b, mcp_types.TextContent) for b in result.content):
        texts.append(msgspec.json.encode(result.structured_content).decode())  # a text beside it says the same
    return "\n".join(texts) or "(the tool gave nothing back)"


def _text(block: mcp_types.ContentBlock) -> str:
    if isinstance(block, mcp_types.TextContent):
        return block.text
    if isinstance(block, mcp_types.ImageContent | mcp_types.AudioContent):
        return f"(left out: {block.type} of type {block.mime_type}, {len(block.data) * 3 // 4} bytes)"
    if isinstance(block, mcp_types.ResourceLink):
        return f"(resource: {block.name} at {block.uri}{f', {block.description}' if block.description else ''})"
    if isinstance(block.resource, mcp_types.TextResourceContents):
        return f"(resource: {block.resource.uri})\n{block.resource.text}"
    return f"(left out: resource {block.resource.uri}, {len(block.resource.blob) * 3 // 4} bytes)"
