"""An HTTP request as a tool: the settings say where it goes, and the model fills in the variables.

Knows URLs, headers and content types; how a request is sent, the Web that is passed in knows. Invariants: nothing that
a model says changes the scheme, the host, the port or the number of path segments; no answer is followed to another
host; an address of this machine or of a private network is asked only where the settings name it or allow it; a value
from the environment stands in the request and nowhere else, not even where the far side repeats it.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import jsonschema_rs
import msgspec
from msgspec import structs

from loam.agents.outcome import Outcome
from loam.agents.settings import ToolSettings
from loam.core.calls import Principal, Tool
from loam.core.errors import ModelFailure, SettingsError
from loam.core.ports import Web, WebAnswer, WebRequest

_MOST = 2**20  # bytes of an answer that are read at all
_TOLD = 2_000  # characters of an error's body that the model is told
_REDIRECTS = 3
_VARIABLE = re.compile(r"\{(\w+)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "idempotency-key")
_TEXTUAL = re.compile(r"text/|application/(.*\+)?(json|xml|javascript|yaml|x-ndjson|x-www-form-urlencoded)$")
_CHARSET = re.compile(r"charset=\"?(utf-?8|utf-?16|us-ascii|iso-8859-\d+|windows-125\d|shift_jis|euc-\w+|gb\w+|big5)\b")
_NAT64 = IPv6Network("64:ff9b::/96")  # an IPv4 address in IPv6's clothes


class HttpTool:
    """Made by `open_http`; `secrets` are the header values that came from the environment."""

    def __init__(
        self, tool: Tool, settings: ToolSettings, web: Web, headers: Mapping[str, str], secrets: tuple[str, ...]
    ) -> None:
        self.tool = tool
        self.settings = settings
        self._web = web
        self._headers = headers
        self._secrets = secrets
        self._host = urlsplit(settings.url).hostname or ""
        templates = (settings.url, *settings.query.values())
        self._used = {name for template in templates for name in _variables(template)}

    async def call(self, arguments: dict[str, Any], principal: Principal, key: str) -> Outcome:
        """Makes the request. A far side that knows `Idempotency-Key` does one key once, however often it is sent."""
        try:
            request = self._request(arguments, key)
        except ValueError as error:
            return Outcome(f"the arguments cannot be sent: {error}", is_error=True)
        try:
            answer = await self._fetch(request)
        except ModelFailure as error:
            failure = error.failure
            doubt = bool(failure.provider) and failure.sent and not self.settings.reads
            return Outcome(self._told(failure.message), is_error=True, doubt=doubt)
        return Outcome(self._told(_text(answer)), is_error=answer.status >= 300)

    async def _fetch(self, request: WebRequest) -> WebAnswer:
        """The answer, after redirects of a reading GET within its own host. Raises ModelFailure."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.seconds
        for left in range(_REDIRECTS, -1, -1):
            seconds = max(until - loop.time(), 0.001)
            answer = await self._web.fetch(request, allow=self._allows, limit=_MOST, seconds=seconds)
            place = _redirect(request, answer) if left and self.settings.reads else ""
            if not place:
                return answer
            request = structs.replace(request, url=place)
        raise AssertionError("the last answer is returned")

    def _request(self, arguments: Mapping[str, Any], key: str) -> WebRequest:
        """Raises ValueError for arguments that the address or the body cannot carry."""
        settings = self.settings
        url = _filled(settings.url, arguments)
        pairs = [(name, value) for name, text in settings.query.items() for value in _values(text, arguments)]
        if pairs:
            url += "?" + urlencode(pairs, quote_via=quote)
        headers = dict(self._headers)
        body = b""
        if settings.body == "json":
            body = msgspec.json.encode({name: value for name, value in arguments.items() if name not in self._used})
            headers["content-type"] = "application/json"
        if not settings.reads:
            headers["idempotency-key"] = key
        return WebRequest(settings.method, url, headers, body)

    def _allows(self, address: str) -> bool:
        if self.settings.network or _is_public(address):
            return True
        named = "127.0.0.1" if self._host == "localhost" else self._host
        try:
            there, meant = ip_address(address), ip_address(named)
        except ValueError:
            return False
        return there == meant or (self._host == "localhost" and there.is_loopback)

    def _told(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "(secret)")
        return text


def open_http(name: str, settings: ToolSettings, web: Web, environment: Mapping[str, str]) -> HttpTool:
    """Raises SettingsError, with the tool's name, for what could not be sent or would not do what it says."""
    try:
        parameters = _parameters(settings.parameters)
        _check_url(settings.url)
        _check_variables(settings, parameters)
        headers = {name.lower(): value for name, value in settings.headers.items()}
        secret = {name.lower(): _from(environment, variable) for name, variable in settings.headers_env.items()}
        _check_headers({**headers, **secret})
    except ValueError as error:
        raise SettingsError(f"the tool {name} ({settings.method} {settings.url}) cannot be used: {error}") from None
    shown = {"accept": "application/json, text/*;q=0.9, */*;q=0.1", **headers, **secret}
    described = settings.description or f"{settings.method} {settings.url}"
    secrets = sorted({part for value in secret.values() for part in (value, value.rpartition(" ")[2])}, key=len)
    hidden = tuple(part for part in reversed(secrets) if len(part) >= 6)  # the longest first; shorter ones are words
    return HttpTool(Tool(name, described, parameters), settings, web, shown, hidden)


def _parameters(given: dict[str, Any] | str) -> dict[str, Any]:
    """The schema, closed: an argument that it does not name is not taken."""
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(Path(given).read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise ValueError(f"`parameters`: cannot read {given}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise ValueError(f"`parameters`: {given} holds no JSON object: {error}") from None
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False, **given}
    if schema["type"] != "object" or not isinstance(schema["properties"], dict):
        raise ValueError("`parameters` is no JSON Schema of an object")
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise ValueError(f"`parameters` is no JSON Schema: {error}") from None
    return schema


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("`url` is not an address like https://host/items/{id}")
    if "{" in parts.netloc or "}" in parts.netloc:
        raise ValueError("the host in `url` is fixed; variables stand in the path")
    if parts.query or parts.fragment:
        raise ValueError("what comes behind ? in `url` belongs into `query`, and a fragment is never sent")
    rest = _VARIABLE.sub("x", parts.path)
    if re.search(r"[{}]", rest) or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("`url` has a character that an address may not have, or a brace without its other half")


def _check_variables(settings: ToolSettings, parameters: Mapping[str, Any]) -> None:
    known = set(parameters["properties"])
    in_path = set(_variables(settings.url))
    in_query = {name for text in settings.query.values() for name in _variables(text)}
    if unknown := sorted((in_path | in_query) - known):
        raise ValueError(f"`parameters` does not have {', '.join(unknown)}")
    if loose := sorted(in_path - set(parameters.get("required", ()))):
        raise ValueError(f"a variable of the path must be `required` in `parameters`: {', '.join(loose)}")
    if settings.body != "json" and (idle := sorted(known - in_path - in_query)):
        raise ValueError(f'nothing uses {", ".join(idle)}; put it into `url` or `query`, or set body = "json"')
    if settings.body == "json" and settings.method == "GET":
        raise ValueError("a GET has no body; choose another `method`")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name in _OURS:
            raise ValueError(f"the header {name!r} cannot be set here")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of the header {name!r} has a character that headers cannot carry")


def _from(environment: Mapping[str, str], variable: str) -> str:
    if not environment.get(variable):
        raise ValueError(f"the environment variable {variable!r} of `headers_env` is not set")
    return environment[variable]


def _variables(template: str) -> Iterator[str]:
    yield from _VARIABLE.findall(template)


def _filled(url: str, arguments: Mapping[str, Any]) -> str:
    """The address with each variable encoded whole. Raises ValueError for a value that would leave its place."""
    filled = _VARIABLE.sub(lambda found: _in_path(found[1], arguments[found[1]]), url)
    if any(unquote(part) in (".", "..") for part in urlsplit(filled).path.split("/")):
        raise ValueError("a part of the path would be . or ..")
    return filled


def _in_path(name: str, value: Any) -> str:
    text = _plain(name, value)
    bare = text
    while (once := unquote(bare)) != bare:  # as a far side would read it that decodes more often than it should
        bare = once
    if not bare or bare in (".", "..") or "/" in bare or "\\" in bare or not bare.isprintable():
        raise ValueError(f"{name} stands in the path, so it is one or more printable characters without / and \\")
    return quote(text, safe="")


def _values(template: str, arguments: Mapping[str, Any]) -> list[str]:
    """The values of one query parameter: none where a variable was left out, several where it alone is a list."""
    names = list(_variables(template))
    if any(arguments.get(name) is None for name in names):
        return []
    if len(names) == 1 and template == f"{{{names[0]}}}" and isinstance(arguments[names[0]], list):
        return [_plain(names[0], value) for value in arguments[names[0]]]
    return [_VARIABLE.sub(lambda found: _plain(found[1], arguments[found[1]]), template)]


def _plain(name: str, value: Any) -> str:
    match value:
        case dict() | list():
            raise ValueError(f"{name} stands in the address, so it is a text, a number, true or false")
        case str():
            text = value
        case _:
            text = msgspec.json.encode(value).decode()
    if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError(f"{name} has half a character")
    return text


def _redirect(request: WebRequest, answer: WebAnswer) -> str:
    """Where a GET is sent on to, if that is the same host."""
    location = answer.headers.get("location", "")
    if request.method != "GET" or answer.status not in (301, 302, 303, 307, 308) or not location:
        return ""
    try:
        place = urljoin(request.url, location)
    except ValueError:  # a redirect to nowhere
        return ""
    return place.partition("#")[0] if _origin(place) == _origin(request.url) else ""


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # a redirect to nowhere
        return "", "", 0
    return parts.scheme, parts.hostname or "", port


def _is_public(address: str) -> bool:
    there = ip_address(address)
    if isinstance(there, IPv6Address):
        inner = there.ipv4_mapped or there.sixtofour or (there.teredo[1] if there.teredo else None)
        if there in _NAT64:
            inner = IPv4Address(int(there) & 0xFFFF_FFFF)
        if inner is not None and not _is_public(str(inner)):
            return False
    return there.is_global and not there.is_multicast


def _text(answer: WebAnswer) -> str:
    """What the model is told of an answer: its text, or why there is none."""
    kind = answer.headers.get("content-type", "").lower()
    media = kind.partition(";")[0].strip()
    size = f"{'more than ' if answer.cut else ''}{len(answer.body)} bytes"
    if not answer.body:
        text = "no content"
    elif media and not _TEXTUAL.match(media):
        text = f"{size} of {media}, which are left out"
    else:
        charset = _CHARSET.search(kind)
        text = answer.body.decode(charset[1] if charset else "utf-8", "replace")
        if answer.cut:
            text = f"(the answer has {size}; this is its beginning)\n{text}"
    if answer.status < 300 and answer.body:
        return text
    place = f", redirected to {answer.headers['location']}, which is not followed" if _moved(answer) else ""
    return f"status {answer.status}{place}: {text[:_TOLD]}"


def _moved(answer: WebAnswer) -> bool:
    return 300 <= answer.status < 400 and "location" in answer.headers
