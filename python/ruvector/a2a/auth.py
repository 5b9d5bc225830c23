"""Credentials. They are added to requests as the last thing, for one origin only, and
their values appear in no repr, log or exception."""

from __future__ import annotations

import contextlib
import inspect
import re
from base64 import b64decode
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Callable, Protocol, Union
from urllib.parse import quote, unquote

TokenSource = Union[str, Callable[[], Union[str, Awaitable[str]]]]


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of RFC 9110, 5.6.2


def _checked(secret: Any, what: str) -> str:
    """`secret` if it can stand in a header. What the HTTP library says of one that cannot
    would hold the secret itself."""
    text = secret if isinstance(secret, str) else ""
    if not text or not text.isprintable() or text.strip() != text:
        raise ValueError(
            f"{what} is a non-empty str of printable characters, without spaces around it"
        )
    return text


def _name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{what} is made of letters, digits and -, not {name!r}")
    return name


def encoded_headers(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    """The caller's own headers, as bytes.

    Raises:
        TypeError, ValueError: they cannot be sent. No value is repeated.
    """
    if headers is None:
        return []
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers are a dict of str, not {type(headers).__name__}")
    return [
        (_name(name, "the name of a header").encode(), _checked(value, f"header {name}").encode())
        for name, value in headers.items()
    ]


# Headers that say nothing of who sends them.
_PUBLIC = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host"}


def secrets_in(headers: Mapping[str, str]) -> Iterator[str]:
    """What a peer must not be quoted with: values of headers, and what stands in them."""
    for name, value in headers.items():
        if name.lower() in _PUBLIC:
            continue
        yield value
        scheme, _, rest = value.partition(" ")
        if rest:
            yield rest.strip()
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):
                yield from b64decode(rest).decode("utf-8", "replace").split(":", 1)
        if name.lower() == "cookie":
            for pair in value.split(";"):
                yield unquote(pair.partition("=")[2].strip())


class Auth(Protocol):
    """What a request needs besides: headers, and pairs for the query."""

    async def credentials(self) -> tuple[dict[str, str], dict[str, str]]: ...

    def renew(self) -> bool:
        """Forgets a credential that was refused; whether another one can be had."""
        ...


class Bearer:
    """A bearer token, or a function (async or not) that gives one when asked."""

    def __init__(self, token: TokenSource) -> None:
        self._source = token
        self._token = None if callable(token) else _checked(token, "a token")

    def __repr__(self) -> str:
        return "Bearer(...)"

    async def credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        token = self._token
        if token is None:
            assert callable(self._source)
            told = self._source()
            if inspect.isawaitable(told):
                told = await told
            token = self._token = _checked(told, "a token")
        # not self._token: another thread that shares this object may have dropped it
        return {"Authorization": f"Bearer {token}"}, {}

    def renew(self) -> bool:
        if isinstance(self._source, str):
            return False
        self._token = None
        return True


class ApiKey:
    """A key in a header, the query or a cookie."""

    def __init__(self, name: str, value: str, place: str = "header") -> None:
        if place not in ("header", "query", "cookie"):
            raise ValueError(f"a key goes into 'header', 'query' or 'cookie', not {place!r}")
        self._name = name if place == "query" else _name(name, "the name of a key")
        self._value = _checked(value, "a key")
        self._place = place

    def __repr__(self) -> str:
        return f"ApiKey({self._name!r}, ..., {self._place!r})"

    async def credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        if self._place == "query":
            return {}, {self._name: self._value}
        if self._place == "cookie":
            return {"Cookie": f"{self._name}={quote(self._value)}"}, {}
        return {self._name: self._value}, {}

    def renew(self) -> bool:
        return False
