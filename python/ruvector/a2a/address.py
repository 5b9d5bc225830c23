"""Origins of URLs, and which network addresses may be talked to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import NamedTuple, Union
from urllib.parse import SplitResult, urlsplit

from ..errors import TransportError
from .excerpt import visible

_PORTS = {"http": 80, "https": 443}

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class Origin(NamedTuple):
    scheme: str
    host: str  #: lowercase, without the brackets of an IPv6 address
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def shown(url: str, length: int = 200) -> str:
    """A URL for a message: neither a password nor a key in the query is repeated."""
    _, at, rest = url.rpartition("@")
    return ("…@" if at else "") + visible(rest.partition("?")[0].partition("#")[0][:length])


def _refuse(url: str, why: str) -> TransportError:
    return TransportError(f"the URL '{shown(url, 80)}' is refused: {why}", phase="url")


def _no_scheme(url: str) -> str:
    """Why a URL of another scheme, or of none, is refused."""
    _, colon, rest = url.partition(":")
    host = url.partition("/")[0].partition(":")[0]
    if not url or url.startswith("/"):
        return "it is relative; give the whole of it, from https:// on"
    if "@" in url or "?" in url or (colon and (rest.startswith("/") or not rest[:1].isdigit())):
        return "only https and http are spoken"
    scheme = "http" if is_loopback_name(host) else "https"
    return f"it has no scheme; write '{scheme}://{shown(url, 80)}'"


def split(url: str) -> tuple[Origin, SplitResult]:
    """Origin and parts of an http or https URL.

    Raises:
        TransportError: another scheme, no host, or a user name in it.
        TypeError: it is no str.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # whose words may hold a piece of a password
        raise _refuse(url, "its host or port cannot be read") from None
    if parts.scheme not in _PORTS:
        raise _refuse(url, _no_scheme(url))
    if "@" in parts.netloc:
        raise _refuse(url, "it holds a user name; use auth= instead")
    if any("\ud800" <= c <= "\udfff" for c in url):
        raise _refuse(url, "it holds a lone surrogate")
    if not host or port == 0 or any(c.isspace() or ord(c) < 32 for c in url):
        raise _refuse(url, "it names no host and port to connect to")
    return Origin(parts.scheme, host.rstrip("."), port or _PORTS[parts.scheme]), parts


def is_loopback_name(host: str) -> bool:
    """Whether a host is this machine by name or by number."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(text: str) -> Address:
    """An address without zone; IPv4 in IPv6 clothes is taken for what it is."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):  # NAT64, RFC 6052
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner
    return address


def check(address: str, origin: Origin, *, insecure: bool) -> None:
    """Refuses addresses that no agent has: those of the link (clouds keep their secrets
    there) and groups. Unencrypted, only this machine may be talked to, if not `insecure`.

    Raises:
        TransportError: with phase "address".
    """
    plain = _plain(address)
    why = None
    if plain.is_link_local or plain.is_multicast:
        why = "link-local and multicast addresses are never talked to"
    elif origin.scheme == "http" and not insecure and not plain.is_loopback:
        why = "http is for loopback addresses only; use https or allow_insecure_http=True"
    if why:
        raise TransportError(f"{origin} is at {address}, refused: {why}", phase="address")


def check_literal(origin: Origin, *, insecure: bool) -> None:
    """As `check`, of an origin that names a number; a name is somebody else's to look up."""
    try:
        ipaddress.ip_address(origin.host.partition("%")[0])
    except ValueError:
        return
    check(origin.host, origin, insecure=insecure)


async def resolve(origin: Origin, *, insecure: bool) -> list[str]:
    """The checked addresses of an origin. Connect to these: a second look-up might
    answer something else.

    Raises:
        TransportError: the name is unknown, or one of its addresses is refused.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as why:
        raise TransportError(
            f"the host {origin.host!r} is not found: {why}", phase="connect", retryable=True
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check(address, origin, insecure=insecure)
    if not addresses:
        raise TransportError(f"the host {origin.host!r} has no address", phase="connect")
    return addresses
