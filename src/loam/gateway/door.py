"""Who is at the door: the secret of a request becomes a Principal, before its body is read.

Invariant: without a key only a program on this machine gets in, and only where the setting says so: not a web page
(foreign Origin), not a name that was pointed at loopback (foreign Host), nobody when the gateway listens elsewhere.
"""

from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from loam.core.calls import Principal
from loam.core.errors import refuse
from loam.gateway.http import Head, Scope

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOCAL = Principal(user="local", admin=True)


class DoorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    open_on_loopback: Annotated[
        bool,
        Meta(
            description="Let programs on this machine in without a key, as the administrator `local`. "
            "Has no effect when the gateway listens on an address that other machines reach."
        ),
    ] = True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in _LOOPBACK or (host.startswith("127.") and _is_address(host))


class Door:
    """Identifies by `identify(secret) -> Principal`, which raises ModelFailure (authentication) for a bad secret."""

    def __init__(self, identify: Callable[[str], Principal], settings: DoorSettings, listens_on: str) -> None:
        self._identify = identify
        self._open = settings.open_on_loopback and is_loopback(listens_on)

    def admit(self, scope: Scope, head: Head) -> Principal:
        """Raises ModelFailure (authentication) when the request may not come in."""
        if head.secret.startswith("sk-loam-"):
            return self._identify(head.secret)
        if self._open:
            return self._local(scope, head)
        if head.secret:
            return self._identify(head.secret)
        raise refuse(
            "authentication",
            "no key was sent; send one of this gateway's keys as 'Authorization: Bearer sk-loam-…' or 'x-api-key' "
            "(make one with: loam keys create)",
        )

    def _local(self, scope: Scope, head: Head) -> Principal:
        client = scope.get("client")
        if client is not None and not is_loopback(client[0]):
            raise refuse("authentication", "requests from other machines need a key of this gateway")
        if head.forwarded:
            raise refuse("authentication", "requests that come through a proxy need a key of this gateway")
        if not is_loopback(_hostname("//" + head.host)):
            raise refuse("authentication", f"the Host header names {head.host!r}; without a key it must name localhost")
        if head.origin and not is_loopback(_hostname(head.origin)):
            raise refuse("authentication", f"a page of {head.origin!r} needs a key of this gateway")
        return LOCAL


def _is_address(host: str) -> bool:
    """Whether it is an IPv4 address and no name that begins like one: 127.0.0.1.example.com may be anybody's."""
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
