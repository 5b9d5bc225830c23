"""HTTP with bounds: every size, time, address and redirect is checked here.

One pair of HTTP clients for each origin: one for calls, one for streams, which have a
connection each and never make calls wait. A request goes to an address that was looked
up and checked right before (:class:`_Checked`); certificates are still checked against
the host's name. Credentials are added below everything that logs, so they show nowhere.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Callable, TypeVar

from ..errors import AuthRequired, ProtocolError, TransportError
from . import address
from .auth import Auth, encoded_headers
from .extra import http, need
from .limits import Limits, Retry, Timeouts

_T = TypeVar("_T")

_SECRETS = "ruvector.credentials"  # a request's extension that only _Checked reads
_RETRIED = (502, 503, 504)

# Shorter than any common server's: a connection the server is about to close must not
# be used for a task, which cannot be sent twice.
_KEEP_ALIVE_S = 2.0


@dataclass(frozen=True)
class Request:
    verb: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    safe: bool = False  #: may be sent again when it is not known whether it arrived
    authorize: bool = True
    what: str = "the answer"  #: names the answer in errors


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_json(self) -> bool:
        return is_json(self.headers)


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(headers: Mapping[str, str]) -> bool:
    kind = media_type(headers)
    return kind == "application/json" or kind.endswith("+json")


class _Checked:
    """An httpx transport that connects to checked addresses and adds credentials."""

    def __init__(self, httpx: Any, inner: Any, insecure: bool) -> None:
        self._httpx = httpx
        self._inner = inner
        self._insecure = insecure

    async def __aenter__(self) -> _Checked:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *about: Any) -> None:
        await self._inner.__aexit__(*about)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        origin, _ = address.split(str(request.url))
        extensions = dict(request.extensions)
        headers, query = extensions.pop(_SECRETS, ({}, {}))
        url = request.url.copy_merge_params(query) if query else request.url
        if origin.scheme == "https":
            extensions["sni_hostname"] = origin.host
        addresses = await address.resolve(origin, insecure=self._insecure)
        for last, host in enumerate(addresses, 1 - len(addresses)):
            checked = self._httpx.Request(
                request.method,
                url.copy_with(host=host),
                headers=[*request.headers.raw, *_encoded(headers)],
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await self._inner.handle_async_request(checked)
            except (self._httpx.ConnectError, self._httpx.ConnectTimeout):
                if last == 0:
                    raise
        raise AssertionError("unreachable")


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class Stream:
    """The open body of a response."""

    def __init__(self, transport: Transport, response: Any, what: str) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.limits = transport.limits
        self._transport = transport
        self._response = response
        self._chunks = response.aiter_raw()
        self._what = what
        self._reading: asyncio.Task[bytes] | None = None
        self._cut = False  # its reading was cancelled already

    async def read(self) -> bytes:
        """Some bytes; none at the end. In a task of its own, see :meth:`Transport.alone`;
        `aclose` waits for it.

        Raises:
            TransportError: with phase "idle" when nothing came for too long.
        """
        reading = self._reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            self._cut = reading.cancel()
            raise
        self._reading = None
        if reading.cancelled():
            raise TransportError(f"{self._what}: closed while it was read", phase="closed")
        return reading.result()

    async def _read(self) -> bytes:
        with self._transport.errors(self._what, idle=True):
            async for chunk in self._chunks:
                if chunk:
                    return bytes(chunk)
        return b""

    async def read_all(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes."""
        content = bytearray()
        while chunk := await self._read():
            content += chunk
            if len(content) > limit:
                raise ProtocolError(f"{self._what} too large: more than {limit} bytes")
        return bytes(content)

    async def aclose(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            if not self._cut:
                reading.cancel()
            await asyncio.wait({reading})
            _look_at(reading)
        try:
            await self._chunks.aclose()
        finally:
            await self._response.aclose()


class Transport:
    """Requests to the agents of one client."""

    def __init__(
        self,
        *,
        limits: Limits,
        timeouts: Timeouts,
        retry: Retry,
        insecure: bool = False,
        tls: ssl.SSLContext | None = None,
        auth: Any = None,
        auth_url: str,
        headers: Mapping[str, str] | None = None,
        http_client: Any = None,
    ) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self._httpx = http()
        self._anyio = need("anyio")
        self._retry = retry
        self._insecure = insecure
        self._tls = tls
        self._auth: Auth | None = auth if hasattr(auth, "credentials") else None
        self._httpx_auth = None if self._auth else self._library_auth(auth)
        self._auth_origin = self._origin(auth_url)
        self._headers = encoded_headers(headers)
        self._closed = False
        self._given = http_client
        self._clients: dict[tuple[address.Origin, bool], Any] = {}
        self._leaving: set[asyncio.Future[Any]] = set()

    @property
    def verifies(self) -> bool:
        """Whether certificates of https hosts are known to be checked."""
        if self._given is not None:
            return False
        return self._tls is None or self._tls.verify_mode == ssl.CERT_REQUIRED

    @property
    def has_auth(self) -> bool:
        return self._auth is not None or self._httpx_auth is not None

    def _library_auth(self, auth: Any) -> Any:
        """What the HTTP library takes for `auth` as well; its own refusal would repeat it."""
        if auth is None or callable(auth) or isinstance(auth, (self._httpx.Auth, tuple)):
            return auth
        raise TypeError(f"auth is a Bearer, ApiKey or httpx auth object, not {type(auth).__name__}")

    # -- clients

    async def _client(self, origin: address.Origin, streaming: bool) -> Any:
        if self._closed:  # a stream that gets its connection back must not open another
            raise RuntimeError("this client is closed")
        if self._given is not None:
            return self._given
        if origin.scheme == "https" and self._tls is None:
            # reads the system's certificates, long enough to hold the loop up
            self._tls = await asyncio.to_thread(_default_tls)
        key = (origin, streaming)
        if key not in self._clients:
            self._clients[key] = self._make_client(origin, streaming)
        return self._clients[key]

    def _make_client(self, origin: address.Origin, streaming: bool) -> Any:
        httpx, limits = self._httpx, self.limits
        pool = httpx.Limits(
            max_connections=None if streaming else limits.connections,
            max_keepalive_connections=0 if streaming else limits.idle_connections,
            keepalive_expiry=_KEEP_ALIVE_S,
        )
        # the client of an http origin meets no TLS, for it follows no redirects
        tls = self._tls if origin.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        inner = httpx.AsyncHTTPTransport(verify=tls, limits=pool, trust_env=False)
        no_cookies = DefaultCookiePolicy(allowed_domains=[])
        return httpx.AsyncClient(
            transport=_Checked(httpx, inner, self._insecure),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(no_cookies),
        )

    async def aclose(self) -> None:
        self._closed = True
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=1.0)
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    # -- requests

    async def alone(
        self,
        work: Coroutine[Any, Any, _T],
        undo: Callable[[_T], Coroutine[Any, Any, None]] | None = None,
    ) -> _T:
        """Does `work` in a task of its own, which is cancelled once however often the
        caller is: the HTTP library forgets an open connection if what it does to close
        it is cancelled in turn. `undo` is for a result that nobody is left to take."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            self._keep(asyncio.ensure_future(_leave(task, undo)))
            raise
        return task.result()

    def _keep(self, task: asyncio.Future[Any]) -> None:
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        task.add_done_callback(_look_at)

    def _origin(self, url: str) -> address.Origin:
        """The origin of `url` as the HTTP library will understand it: two readings of one
        URL must not lead to two hosts."""
        with self.errors("the URL"):
            return address.split(str(self._httpx.URL(url)))[0]

    def errors(self, what: str, *, idle: bool = False) -> _Errors:
        return _Errors(self._httpx, what, idle)

    async def _start(self, request: Request, read: float, streaming: bool) -> Any:
        """The response to `request`, its body not yet read."""
        origin = self._origin(request.url)
        if origin.scheme == "http" and not (
            self._insecure or address.is_loopback_name(origin.host)
        ):
            raise TransportError(
                f"{origin} is not encrypted: use https, or allow_insecure_http=True", phase="url"
            )
        wait = self.timeouts
        url, auth = request.url, {}
        extensions: dict[str, Any] = {}
        headers: list[tuple[bytes, bytes]] = []
        if origin == self._auth_origin:
            headers.extend(self._headers)
            if request.authorize and self._auth is not None:
                secrets = await self._auth.credentials()
                if self._given is None:
                    extensions[_SECRETS] = secrets
                else:
                    headers.extend(_encoded(secrets[0]))
                    url = str(self._httpx.URL(url).copy_merge_params(secrets[1]))
            elif request.authorize and self._httpx_auth is not None:
                auth = {"auth": self._httpx_auth}
        client = await self._client(origin, streaming)
        built = client.build_request(
            request.verb,
            url,
            headers=[
                ("Accept-Encoding", "identity"),
                ("User-Agent", "ruvector"),
                *headers,
                *request.headers,
            ],
            content=request.content,
            timeout=self._httpx.Timeout(
                connect=wait.connect, read=read, write=wait.write, pool=wait.pool
            ),
            extensions=extensions,
        )
        response = await client.send(built, stream=True, follow_redirects=False, **auth)
        try:
            self._check_head(response, request)
        except BaseException:
            await response.aclose()
            raise
        return response

    def _check_head(self, response: Any, request: Request) -> None:
        status = response.status_code
        if 300 <= status < 400 and status != 304:
            target = response.headers.get("location", "nowhere").partition("?")[0][:200]
            raise TransportError(
                f"{request.what}: HTTP {status} to {target}; redirects are not followed",
                phase="redirect",
                http_status=status,
            )
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise TransportError(
                f"{request.what} is compressed ({encoding[:40]}), which was not asked for",
                phase="encoding",
                http_status=status,
            )

    async def _attempts(self, request: Request, read: float, streaming: bool) -> Any:
        """As `_start`, again where that is safe and may help."""
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= self._retry.attempts
            pause = self._retry.first_pause * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            try:
                with self.errors(request.what):
                    response = await self._start(request, read, streaming)
            except TransportError as why:
                unsent = why.phase == "connect"
                if last or not why.retryable or not (unsent or request.safe):
                    raise
                await asyncio.sleep(pause)
                continue
            status = response.status_code
            if status in (401, 403):
                await response.aclose()
                if status == 401 and self._auth and not renewed and request.authorize:
                    renewed = True
                    if self._auth.renew():
                        attempt -= 1
                        continue
                raise AuthRequired(
                    f"{request.what}: HTTP {status}, the agent wants other credentials",
                    http_status=status,
                    challenge=response.headers.get("www-authenticate"),
                )
            again = status in (429, 503) or (request.safe and status in _RETRIED)
            wanted = _retry_after(response.headers)
            if last or not again or (wanted or 0) > self._retry.longest_retry_after:
                return response
            await response.aclose()
            await asyncio.sleep(pause if wanted is None else wanted)

    async def fetch(self, request: Request, *, max_bytes: int, timeout: float) -> Reply:
        """The whole answer to `request`, whatever its status.

        Raises:
            TransportError: it did not come, or not as it should.
            AuthRequired: HTTP 401 or 403.
            ProtocolError: it is larger than `max_bytes`.
        """

        async def work() -> Reply:
            response = await self._attempts(request, timeout, streaming=False)
            stream = Stream(self, response, request.what)
            try:
                content = await stream.read_all(max_bytes)
            finally:
                await stream.aclose()
            return Reply(stream.status, stream.headers, content)

        try:
            with self._anyio.fail_after(timeout):
                return await self.alone(work())
        except TimeoutError:
            raise TransportError(
                f"{request.what}: not there after {timeout:g} s", phase="read"
            ) from None

    async def open(self, request: Request) -> Stream:
        """The answer to `request`, to be read piece by piece and closed. To be called by
        what runs :meth:`alone`."""
        response = await self._attempts(request, self.timeouts.idle, streaming=True)
        return Stream(self, response, request.what)


def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None


async def _leave(
    task: asyncio.Task[_T], undo: Callable[[_T], Coroutine[Any, Any, None]] | None
) -> None:
    await asyncio.wait({task})
    if not _look_at(task) and undo is not None:
        await undo(task.result())


def _look_at(task: asyncio.Future[Any]) -> bool:
    """Whether a task failed or was cancelled; asyncio complains of failures not looked at."""
    return task.cancelled() or task.exception() is not None


class _Errors:
    """Turns the HTTP library's exceptions into TransportError."""

    def __init__(self, httpx: Any, what: str, idle: bool) -> None:
        self._httpx = httpx
        self._what = what
        self._idle = idle

    def __enter__(self) -> None:
        pass

    def __exit__(self, cls: Any, error: BaseException | None, traceback: Any) -> None:
        httpx = self._httpx
        if not isinstance(error, (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL)):
            return
        retryable = not isinstance(error, httpx.TimeoutException)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
            phase, retryable = "connect", True
        elif isinstance(error, httpx.InvalidURL):
            phase, retryable = "url", False
        elif isinstance(error, (httpx.WriteError, httpx.WriteTimeout)):
            phase = "write"
        else:
            phase = "idle" if self._idle and isinstance(error, httpx.ReadTimeout) else "read"
        words = str(error) or type(error).__name__
        cause: BaseException | None = error
        if isinstance(error, httpx.LocalProtocolError):  # it repeats the header it refuses
            words, cause, retryable = "the request cannot be written as HTTP", None, False
        told = TransportError(f"{self._what}: {words}", phase=phase, retryable=retryable)
        raise told from cause
