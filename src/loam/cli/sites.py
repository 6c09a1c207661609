"""Web pages into a collection: a page, the pages of a sitemap, or those that an llms.txt lists.

Knows HTTP as far as reading a page goes. Invariants: what is fetched is bounded in size, time and number; only http and
https are spoken; a name that leads to an address of this machine or its network is refused, at every redirect, unless
the user allows it; what robots.txt forbids is left alone.
"""

import hashlib
import http.client
import ipaddress
import re
import socket
import ssl
import time
import urllib.robotparser
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from msgspec import Struct

from loam import __version__
from loam.cli.mirroring import Drawer, Labelled, Mirrored, Tell
from loam.cli.reach import Gateway
from loam.core.errors import DocumentError
from loam.grounding.mirrors import ListedFile

AGENT = f"loam/{__version__}"
_LARGEST = 20 * 2**20
_SECONDS = 20.0
_REDIRECTS = 5
_ENDINGS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "application/pdf": ".pdf",
    "text/csv": ".csv",
    "application/json": ".json",
}
_LINK = re.compile(r"\]\((https?://[^)\s]+)\)")


class Page(Struct, frozen=True):
    """What stands at `url`, after any redirects."""

    url: str
    type: str
    data: bytes


def is_address(place: str) -> bool:
    """Whether a place is on the web rather than on disk."""
    return place.startswith(("http://", "https://"))


class Site:
    """The pages that `address` stands for, `most` at most."""

    def __init__(self, address: str, *, most: int, private: bool) -> None:
        self._address = address
        self._most = most
        self._private = private
        self._robots: dict[str, urllib.robotparser.RobotFileParser] = {}

    def mirror(self, reached: Gateway, collection: str, labels: Labelled, tell: Tell) -> Mirrored:
        """Makes the collection hold the site's pages. Raises DocumentError where the first page cannot be had."""
        pages: dict[str, Page] = {}
        problems: list[str] = []
        files: dict[str, ListedFile] = {}
        addresses = self._addresses()
        for done, address in enumerate(addresses, 1):
            try:
                page = self._allowed(address)
            except DocumentError as error:
                if len(addresses) == 1:
                    raise
                files[_name(address, "")] = ListedFile(_name(address, ""), unreadable=str(error))
                continue
            name = _name(address, page.type)
            pages[name] = page
            files[name] = ListedFile(name, hashlib.sha256(page.data).hexdigest(), url=page.url)
            tell("fetching", done, len(addresses))
        drawer = Drawer(reached, collection, self._address, labels)
        drawer.send(files, lambda name: pages[name].data, tell)
        return Mirrored(drawer.store(files.values(), tell), problems, 0)

    def _addresses(self) -> list[str]:
        """The pages: those that a sitemap or an llms.txt names, else the address itself."""
        path = urlsplit(self._address).path
        if path.endswith(".xml"):
            return list(dict.fromkeys(self._listed(self._address, depth=2)))[: self._most]
        if path.endswith("llms.txt"):
            text = self._allowed(self._address).data.decode("utf-8", "replace")
            return list(dict.fromkeys(_LINK.findall(text)))[: self._most]
        return [self._address]

    def _listed(self, address: str, depth: int) -> Iterator[str]:
        """The pages of a sitemap, and of the sitemaps that it lists."""
        data = self._allowed(address).data
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise DocumentError(f"{address}: no plain sitemap; it declares entities")
        try:
            root = ElementTree.fromstring(data)  # noqa: S314 - entities are refused above
        except ElementTree.ParseError as error:
            raise DocumentError(f"{address}: not a sitemap ({error})") from error
        found = [(e.text or "").strip() for e in root.iter() if e.tag.rpartition("}")[2] == "loc"]
        for one in found[: self._most]:
            if root.tag.endswith("sitemapindex") and depth:
                yield from self._listed(one, depth - 1)
            elif is_address(one):
                yield one

    def _allowed(self, address: str) -> Page:
        """The page, where its site lets programs read it. Raises DocumentError."""
        parts = urlsplit(address)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self._robots:
            robots = urllib.robotparser.RobotFileParser()
            try:
                robots.parse(
                    fetch(f"{site}/robots.txt", private=self._private).data.decode("utf-8", "replace").split("\n")
                )
            except NotThere:
                robots.parse([])
            self._robots[site] = robots
        if not self._robots[site].can_fetch(AGENT, address):
            raise DocumentError(f"{address}: the site's robots.txt asks programs to leave this page alone")
        return fetch(address, private=self._private)


class NotThere(DocumentError):
    """The server says that there is no such page."""


def fetch(address: str, *, private: bool) -> Page:
    """The page at an address. Raises DocumentError for what is too large, too slow, not allowed or not there."""
    deadline = time.monotonic() + _SECONDS
    for _ in range(_REDIRECTS + 1):
        connection, target = _connected(address, private=private, deadline=deadline)
        try:
            connection.request("GET", target, headers={"user-agent": AGENT, "accept-encoding": "identity"})
            response = connection.getresponse()
            place = response.getheader("location")
            if response.status in (301, 302, 303, 307, 308) and place:
                address = urljoin(address, place)
                continue
            if response.status in (404, 410):
                raise NotThere(f"{address}: there is no such page (status {response.status})")
            if response.status != 200:
                raise DocumentError(f"{address}: the server answers with status {response.status}")
            media = (response.getheader("content-type") or "text/html").partition(";")[0].strip().lower()
            return Page(address, media, _body(response, address, deadline))
        except (OSError, http.client.HTTPException) as error:
            raise DocumentError(f"{address}: cannot be fetched ({error or type(error).__name__})") from error
        finally:
            connection.close()
    raise DocumentError(f"{address}: more than {_REDIRECTS} redirects")


def _connected(address: str, *, private: bool, deadline: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection to an address that was looked at before, so that no second look-up can lead elsewhere."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DocumentError(f"{address}: only http and https addresses are fetched")
    secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if secure else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise DocumentError(f"{address}: cannot be found ({error})") from error
    numeric = str(found[0][4][0])
    if not private and not ipaddress.ip_address(numeric.partition("%")[0]).is_global:
        raise DocumentError(
            f"{address} leads to {numeric}, which is private to this machine or network; allow it with --private"
        )
    try:
        seconds = max(0.1, deadline - time.monotonic())
        plain = socket.create_connection((numeric, port), timeout=seconds)
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=seconds)
        connection.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) if secure else plain
        )
    except OSError as error:
        raise DocumentError(f"{address}: cannot be reached ({error})") from error
    return connection, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _body(response: http.client.HTTPResponse, address: str, deadline: float) -> bytes:
    body = bytearray()
    while piece := response.read1(65536):
        body += piece
        if len(body) > _LARGEST:
            raise DocumentError(f"{address}: larger than {_LARGEST} bytes")
        if time.monotonic() > deadline:
            raise DocumentError(f"{address}: not over after {_SECONDS:.0f} seconds")
    return bytes(body)


def _name(address: str, media: str) -> str:
    """A document's name for a page; its ending says the format, which the address need not."""
    parts = urlsplit(address)
    path = parts.path.strip("/") or "index"
    if parts.query:
        path += f"-{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}"
    ending = _ENDINGS.get(media, ".html")
    name = f"{parts.hostname}/{path}"
    return name if name.lower().endswith((ending, ".markdown", ".htm")) else name + ending
