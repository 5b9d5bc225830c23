"""The HTTP library: which one, what it accepts, its clients, and its errors as ours.

httpx2 and its predecessor httpx have the same interface and classes of their own, so a
client or an auth object of one is refused by the other: whose object the caller gives
decides which library is used.
"""

from __future__ import annotations

import inspect
import ssl
import sys
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Callable
from urllib.parse import urlsplit

from ..errors import TransportError
from . import address
from .excerpt import shorten, visible
from .extra import http
from .limits import Limits, Timeouts

SECRETS = "ruvector.credentials"  #: a request's extension that only Checked reads

# Shorter than any common server's: a connection the server is about to close must not
# be used for a task, which cannot be sent twice.
_KEEP_ALIVE_S = 2.0

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


# ---- which library --------------------------------------------------------------------


def _owner(value: Any, kind: str) -> Any:
    """The library one of whose `kind` classes `value` is made from."""
    for name in ("httpx2", "httpx"):
        module = sys.modules.get(name)
        cls = getattr(module, kind, None)
        if isinstance(cls, type) and isinstance(value, cls):
            return module
    return None


def library(http_client: Any = None, auth: Any = None) -> Any:
    """The HTTP library for what the caller gave.

    Raises:
        TypeError: no library can take it; the message has a call that works.
    """
    usual = http()
    name = usual.__name__
    of_auth = _owner(auth, "Auth")
    if http_client is None:
        return of_auth or usual
    of_client = _owner(http_client, "AsyncClient")
    if of_client is None:
        blocking = _owner(http_client, "Client")
        like = f"http_client={(blocking or usual).__name__}.AsyncClient()"
        if blocking or isinstance(http_client, type) or not hasattr(http_client, "build_request"):
            told = http_client if isinstance(http_client, type) else type(http_client)
            kind = "the class " if isinstance(http_client, type) else "a "
            raise TypeError(f"http_client is an AsyncClient object, {like}, not {kind}{_of(told)}")
        of_client = usual
    if of_auth not in (None, of_client):
        name = of_client.__name__
        raise TypeError(
            f"http_client is of {name} and auth of {of_auth.__name__}; both have to be of one "
            f"library: auth={name}.{type(auth).__name__}(...), or a Bearer or ApiKey"
        )
    return of_client


def _of(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


# ---- credentials ----------------------------------------------------------------------


def library_auth(httpx: Any, auth: Any) -> Any:
    """What the HTTP library takes for `auth`; its own refusal would repeat it.

    Raises:
        TypeError: it takes nothing like this.
    """
    if auth is None or isinstance(auth, httpx.Auth):
        return auth
    if isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(x, str) for x in auth):
        return httpx.BasicAuth(*auth)
    if callable(auth) and not isinstance(auth, type):
        return _function_auth(httpx, auth)
    raise TypeError(
        f"auth is a Bearer, an ApiKey, (user, password), an Auth object of {httpx.__name__} or a "
        f"function of the request, not {type(auth).__name__}"
    )


def _function_auth(httpx: Any, function: Callable[[Any], Any]) -> Any:
    """An auth object that asks `function`, async or not, for the request to send."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise TypeError(
            "an auth function takes the request and returns it; for one that gives a token "
            "write auth=Bearer(function)"
        ) from None
    except ValueError:
        pass  # some functions in C have no signature to look at

    class FunctionAuth(httpx.Auth):  # type: ignore[misc]
        async def async_auth_flow(self, request: Any) -> Any:
            told = function(request)
            if inspect.isawaitable(told):
                told = await told
            if told is not None and not isinstance(told, httpx.Request):
                raise TypeError(
                    f"the auth function returned {type(told).__name__}, not the request; for one "
                    "that gives a token write auth=Bearer(function)"
                )
            yield request if told is None else told

    return FunctionAuth()


# ---- clients --------------------------------------------------------------------------


def proxy_of(httpx: Any, proxy: Any) -> Any:
    """A proxy as the library takes it, from its URL.

    Raises:
        TypeError, ValueError: it is no proxy. No password is repeated.
    """
    if proxy is None:
        return None
    if isinstance(proxy, httpx.Proxy):
        return proxy
    if not isinstance(proxy, str):
        raise TypeError(f"proxy is a URL such as 'http://host:3128', not {type(proxy).__name__}")
    try:
        parts = urlsplit(proxy)
        fine = parts.scheme in _PROXY_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(
            f"proxy '{address.shown(proxy)}' is not a URL such as 'http://host:3128'; its scheme "
            f"is one of {', '.join(_PROXY_SCHEMES)}"
        )
    return httpx.Proxy(proxy)


def proxy_secrets(proxy: Any) -> list[str]:
    return [] if proxy is None or proxy.raw_auth is None else [proxy.raw_auth[1].decode("latin-1")]


class Checked:
    """An httpx transport that connects to checked addresses and adds credentials.

    Through a proxy a name goes as it is: the proxy looks it up.
    """

    def __init__(self, httpx: Any, inner: Any, insecure: bool, proxied: bool) -> None:
        self._httpx = httpx
        self._inner = inner
        self._insecure = insecure
        self._proxied = proxied

    async def __aenter__(self) -> Checked:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *about: Any) -> None:
        await self._inner.__aexit__(*about)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        origin, _ = address.split(str(request.url))
        extensions = dict(request.extensions)
        headers, query = extensions.pop(SECRETS, ({}, {}))
        url = request.url.copy_merge_params(query) if query else request.url
        if self._proxied:
            address.check_literal(origin, insecure=self._insecure)
            addresses = [request.url.host]
        else:
            if origin.scheme == "https":
                extensions["sni_hostname"] = origin.host
            addresses = await address.resolve(origin, insecure=self._insecure)
        for last, host in enumerate(addresses, 1 - len(addresses)):
            checked = self._httpx.Request(
                request.method,
                url.copy_with(host=host),
                headers=[*request.headers.raw, *encoded(headers)],
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await self._inner.handle_async_request(checked)
            except (self._httpx.ConnectError, self._httpx.ConnectTimeout):
                if last == 0:
                    raise
        raise AssertionError("unreachable")


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def make_client(
    httpx: Any,
    limits: Limits,
    origin: address.Origin,
    *,
    streaming: bool,
    tls: ssl.SSLContext | None,
    insecure: bool,
    proxy: Any,
) -> Any:
    """A client for one origin. This machine is never reached through a proxy."""
    if address.is_loopback_name(origin.host):
        proxy = None
    pool = httpx.Limits(
        max_connections=None if streaming else limits.connections,
        max_keepalive_connections=0 if streaming else limits.idle_connections,
        keepalive_expiry=_KEEP_ALIVE_S,
    )
    # the client of an http origin meets no TLS, for it follows no redirects
    context = tls if origin.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inner = httpx.AsyncHTTPTransport(verify=context, limits=pool, trust_env=False, proxy=proxy)
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        transport=Checked(httpx, inner, insecure, proxy is not None),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(no_cookies),
    )


def default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


# ---- errors ---------------------------------------------------------------------------


class Errors:
    """Turns the HTTP library's exceptions into TransportError.

    `read` says for how long an answer may be silent, and `allows` what makes it longer.
    """

    def __init__(
        self, httpx: Any, what: str, timeouts: Timeouts, read: float, allows: str, idle: bool
    ) -> None:
        self._httpx = httpx
        self._what = what
        self._timeouts = timeouts
        self._read = read
        self._allows = allows
        self._idle = idle

    def __enter__(self) -> None:
        pass

    def _late(self, error: BaseException) -> str | None:
        """What a timeout was, and what makes it longer."""
        httpx, wait = self._httpx, self._timeouts
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection within {wait.connect:g} s; Timeouts(connect=...) allows longer"
        if isinstance(error, httpx.PoolTimeout):
            return (
                f"no connection was free within {wait.pool:g} s; Timeouts(pool=...) allows longer, "
                "Limits(connections=...) more at once"
            )
        if isinstance(error, httpx.WriteTimeout):
            return f"nothing was taken for {wait.write:g} s; Timeouts(write=...) allows longer"
        if isinstance(error, httpx.ReadTimeout):
            return f"nothing came for {self._read:g} s; {self._allows} allows longer"
        return None

    def __exit__(self, cls: Any, error: BaseException | None, traceback: Any) -> None:
        httpx = self._httpx
        kinds = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL)
        if error is None or not isinstance(error, kinds):
            return
        retryable = not isinstance(error, httpx.TimeoutException)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
            phase, retryable = "connect", True
        elif isinstance(error, httpx.ProxyError):  # it made no way to the agent
            phase, retryable = "connect", False
        elif isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
            phase, retryable = "url", False
        elif isinstance(error, (httpx.WriteError, httpx.WriteTimeout)):
            phase = "write"
        else:
            phase = "idle" if self._idle and isinstance(error, httpx.ReadTimeout) else "read"
        # it may repeat what a peer said
        words = self._late(error) or shorten(visible(str(error))) or type(error).__name__
        cause: BaseException | None = error
        if isinstance(error, httpx.LocalProtocolError):  # it repeats the header it refuses
            words, cause, retryable = "the request cannot be written as HTTP", None, False
        if isinstance(error, httpx.ProxyError):
            words = f"the proxy made no connection: {words}"
        told = TransportError(f"{self._what}: {words}", phase=phase, retryable=retryable)
        raise told from cause
