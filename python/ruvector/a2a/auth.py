"""Credentials. They are added to requests as the last thing, for one origin only, and
their values appear in no repr, log or exception."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, Callable, Protocol, Union
from urllib.parse import quote

TokenSource = Union[str, Callable[[], Union[str, Awaitable[str]]]]


def _checked(secret: Any, what: str) -> str:
    if not isinstance(secret, str) or not secret or not secret.isprintable():
        raise ValueError(f"{what} is a non-empty str of printable characters")
    return secret


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
        self._token = _checked(token, "a token") if isinstance(token, str) else None

    def __repr__(self) -> str:
        return "Bearer(...)"

    async def credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        if self._token is None:
            assert callable(self._source)
            token = self._source()
            if inspect.isawaitable(token):
                token = await token
            self._token = _checked(token, "a token")
        return {"Authorization": f"Bearer {self._token}"}, {}

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
        self._name = name
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
