"""HTTP with bounds: every size, time, address and redirect is checked here.

One pair of HTTP clients for each origin: one for calls, one for streams, which have a
connection each and never make calls wait. A request goes to an address that was looked
up and checked right before (:class:`httplib.Checked`); certificates are still checked
against the host's name. Credentials are added below everything that logs, so they show
nowhere; what a peer says of them is masked.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Callable, TypeVar

from ..errors import A2aError, AuthRequired, ProtocolError, TransportError
from . import address, httplib
from .auth import Auth, encoded_headers, secrets_in
from .excerpt import Masker, of_body
from .extra import need
from .inflate import CODINGS, Inflater
from .limits import Limits, Retry, Timeouts
from .messages import Reply, Request, advice, coding_of, media_type
from .retryafter import retry_after

_T = TypeVar("_T")

_RETRIED = (502, 503, 504)
_LATER = (408, 425, 429)  # statuses below 500 by which a peer may mean: try again

_UNKNOWN = ("read", "idle", "write", "closed", "encoding")  # phases: the request may have arrived

_EXCERPT_BYTES = 16 * 1024  # of an answer that is read only for what it says
_EXCERPT_S = 2.0


class Stream:
    """The open body of a response."""

    def __init__(
        self, transport: Transport, response: Any, request: Request, attempts: int = 1
    ) -> None:
        self.attempts = attempts  #: so often it was asked for
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.limits = transport.limits
        self._transport = transport
        self._response = response
        self._chunks = response.aiter_raw()
        self._request = request
        coding = coding_of(response.headers)
        self._inflater = Inflater(coding, request.named) if coding else None
        self._pieces: Iterator[bytes] = iter(())
        self._reading: asyncio.Task[bytes] | None = None
        self._cut = False  # its reading was cancelled already

    async def read(self) -> bytes:
        """Some bytes; none at the end. In a task of its own, see :meth:`Transport.alone`;
        `aclose` waits for it.

        Raises:
            TransportError: with phase "idle" when nothing came for too long.
            ProtocolError: it is not compressed as its headers say.
        """
        reading = self._reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            self._cut = reading.cancel()
            raise
        self._reading = None
        if reading.cancelled():
            raise TransportError(f"{self._request.named}: closed while it was read", phase="closed")
        return reading.result()

    async def _read(self) -> bytes:
        with self._transport.errors(self._request, idle=True):
            while (piece := next(self._pieces, None)) is None:
                chunk = await self._chunk()
                if not chunk:
                    if self._inflater is not None:
                        self._inflater.end()
                    return b""
                self._pieces = iter((chunk,))
                if self._inflater is not None:
                    self._pieces = self._inflater.pieces(chunk)
            return piece

    async def _chunk(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return bytes(chunk)
        return b""

    async def read_all(self, limit: int, before: bytes = b"") -> bytes:
        """The whole body, at most `limit` bytes, `before` included."""
        content = bytearray(before)
        while chunk := await self._read():
            content += chunk
            if len(content) > limit:
                beginning = bytes(content[:_EXCERPT_BYTES])
                raise ProtocolError(
                    f"{self._request.named} is too large: more than {limit} bytes; "
                    f"Limits({self._request.size}=...) allows more",
                    http_status=self.status,
                    body=self._transport.told(self.headers, beginning)[1]["body"],
                )
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
        proxy: Any = None,
    ) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self.masker = Masker()
        self._httpx = httplib.library(http_client, auth)
        self._anyio = need("anyio")
        self._retry = retry
        self._insecure = insecure
        self._tls = tls
        ours = hasattr(auth, "credentials") and not isinstance(auth, (type, self._httpx.Auth))
        self._auth: Auth | None = auth if ours else None
        self._httpx_auth = None if ours else httplib.library_auth(self._httpx, auth)
        if proxy is not None and http_client is not None:
            name = self._httpx.__name__
            raise TypeError(
                f"http_client brings its own proxy: http_client={name}.AsyncClient(proxy=...)"
            )
        self._proxy = httplib.proxy_of(self._httpx, proxy)
        self._auth_origin = self._origin(auth_url)
        self._headers = encoded_headers(headers)
        self.masker.add(httplib.proxy_secrets(self._proxy))
        self.masker.add(secrets_in(headers or {}))
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

    # -- clients

    async def _client(self, origin: address.Origin, streaming: bool) -> Any:
        if self._closed:  # a stream that gets its connection back must not open another
            raise RuntimeError("this client is closed")
        if self._given is not None:
            return self._given
        if origin.scheme == "https" and self._tls is None:
            # reads the system's certificates, long enough to hold the loop up
            self._tls = await asyncio.to_thread(httplib.default_tls)
        key = (origin, streaming)
        if key not in self._clients:
            self._clients[key] = httplib.make_client(
                self._httpx,
                self.limits,
                origin,
                streaming=streaming,
                tls=self._tls,
                insecure=self._insecure,
                proxy=self._proxy,
            )
        return self._clients[key]

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
        with self.errors(Request("GET", url, what="the URL")):
            return address.split(str(self._httpx.URL(url)))[0]

    def errors(self, request: Request, *, idle: bool = False) -> httplib.Errors:
        wait, allows = request.wait or self.timeouts.read, request.allows
        return httplib.Errors(self._httpx, request.named, self.timeouts, wait, allows, idle)

    async def _start(self, request: Request, streaming: bool) -> Any:
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
                for part in secrets:
                    self.masker.add(secrets_in(part))
                if self._given is None:
                    extensions[httplib.SECRETS] = secrets
                else:
                    headers.extend(httplib.encoded(secrets[0]))
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
                connect=wait.connect, read=request.wait, write=wait.write, pool=wait.pool
            ),
            extensions=extensions,
        )
        before = set(built.headers.multi_items())
        response = await client.send(built, stream=True, follow_redirects=False, **auth)
        added = set(response.request.headers.multi_items()) - before
        self.masker.add(secrets_in(dict(added)))
        try:
            self._check_head(response, request)
        except BaseException:
            await response.aclose()
            raise
        return response

    def _check_head(self, response: Any, request: Request) -> None:
        status = response.status_code
        facts = {"http_status": status, "url": address.shown(request.url)}
        if 300 <= status < 400 and status != 304:
            location = response.headers.get("location")
            raise TransportError(
                f"{request.named}: HTTP {status} to {address.shown(location or 'nowhere')}; "
                f"redirects are not followed{advice(request, location)}",
                phase="redirect",
                **facts,
            )
        coding = coding_of(response.headers)
        if coding is not None and coding not in CODINGS:
            raise TransportError(
                f"{request.named} is compressed ({coding[:40]!r}), which was not asked for; gzip "
                "and deflate are understood all the same",
                phase="encoding",
                **facts,
            )

    async def _attempts(self, request: Request, streaming: bool) -> Stream:
        """As `_start`, again where that is safe and may help."""
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= self._retry.attempts
            pause = self._retry.first_pause * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            try:
                with self.errors(request):
                    response = await self._start(request, streaming)
            except TransportError as why:
                unsent = why.phase == "connect"
                if not why.retryable or not (unsent or request.safe):
                    raise
                if last:
                    times = f"; tried {attempt} times, Retry(attempts=...) allows more"
                    why.args = (f"{why}{times}",)
                    raise
                await asyncio.sleep(pause)
                continue
            status = response.status_code
            if status in (401, 403, 407):
                body = await self._said(response, request)
                if status != 407 and self._auth and not renewed and request.authorize:
                    renewed = True
                    if self._auth.renew():
                        attempt -= 1
                        continue
                raise self._unauthorized(response, request, body)
            again = status in (429, 503) or (request.safe and status in _RETRIED)
            wanted = retry_after(response.headers) or 0.0
            if last or not again or wanted > self._retry.longest_retry_after:
                return Stream(self, response, request, attempt)
            await response.aclose()
            await asyncio.sleep(max(pause, wanted))

    # -- what a peer refuses

    async def _said(self, response: Any, request: Request) -> bytes:
        """The beginning of a body that is read for what it says; closes the response."""
        stream, body = Stream(self, response, request), bytearray()
        try:
            with self._anyio.move_on_after(_EXCERPT_S):
                while len(body) < _EXCERPT_BYTES and (piece := await stream.read()):
                    body += piece
        except A2aError:
            pass  # what there is has to do
        finally:
            await stream.aclose()
        return bytes(body[:_EXCERPT_BYTES])

    def _unauthorized(self, response: Any, request: Request, body: bytes) -> AuthRequired:
        status, headers = response.status_code, response.headers
        if status == 407:
            text = (
                "the proxy wants other credentials; they go into its URL, as in "
                "proxy='http://user:password@host:3128'"
            )
            challenge = headers.get("proxy-authenticate")
        else:
            text = "the agent wants other credentials"
            challenge = headers.get("www-authenticate")
        told, facts = self.told(headers, body)
        return AuthRequired(
            f"{request.named}: HTTP {status}, {text}{told}",
            http_status=status,
            challenge=challenge and self.masker.known(challenge),
            url=address.shown(request.url),
            **facts,
        )

    def complete(
        self,
        error: A2aError,
        request: Request,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        task_id: str | None = None,
    ) -> None:
        """Adds to `error` what its maker did not know, and masks what it repeats."""
        url, text = address.shown(request.url), self.masker.known(str(error))
        of_peer = error.code is not None or error.body is not None  # its words, not ours
        if not of_peer and url not in text:
            text += f"; asked {url}"
        if isinstance(error, ProtocolError) and not of_peer and content:
            error.body = of_body(content, media_type(headers or {}), self.masker)
            text += f"; it says: {error.body}"
        if error.retry_after is None and headers is not None:
            error.retry_after = retry_after(headers)
            text += self._wish(error.retry_after)
        unknown = isinstance(error, TransportError) and error.phase in _UNKNOWN
        if unknown and request.content is not None and not request.safe:
            text += "; the task may have been started"
        error.args = (text,)
        error.data = self.masker.value(error.data)
        error.url = error.url or url
        error.task_id = error.task_id or task_id

    def _wish(self, wanted: float | None) -> str:
        """How long a peer asks to wait, for a message."""
        if wanted is None:
            return ""
        longest = self._retry.longest_retry_after
        text = f"; it asks to wait {wanted:g} s"
        if wanted > longest:
            text += f", and Retry(longest_retry_after={longest:g}) waits no longer"
        return text

    def told(self, headers: Mapping[str, str], content: bytes) -> tuple[str, dict[str, Any]]:
        """What an answer of no use says, as the end of a message and as facts of an error."""
        body = of_body(content, media_type(headers), self.masker) or None
        text = f"; it says: {body}" if body else ""
        wanted = retry_after(headers)
        return text + self._wish(wanted), {"body": body, "retry_after": wanted}

    def refused(self, request: Request, reply: Reply) -> TransportError:
        """The error for a status that is none of success."""
        text, facts = self.told(reply.headers, reply.content)
        if reply.attempts > 1:
            text += f"; asked {reply.attempts} times, Retry(attempts=...) allows more"
        return TransportError(
            f"{request.named} is HTTP {reply.status}{text}",
            phase="status",
            http_status=reply.status,
            retryable=reply.status >= 500 or reply.status in _LATER,
            url=address.shown(request.url),
            **facts,
        )

    # -- answers

    async def fetch(self, request: Request) -> Reply:
        """The whole answer to `request`, whatever its status.

        Raises:
            TransportError: it did not come, or not as it should.
            AuthRequired: HTTP 401, 403 or 407.
            ProtocolError: it is too large.
        """

        async def work() -> Reply:
            stream = await self._attempts(request, streaming=False)
            try:
                content = await stream.read_all(getattr(self.limits, request.size))
            finally:
                await stream.aclose()
            return Reply(stream.status, stream.headers, content, stream.attempts)

        # no except TimeoutError: a function of the caller's may raise that
        with self._anyio.move_on_after(request.wait):
            return await self.alone(work())
        raise TransportError(
            f"{request.named} is not there after {request.wait:g} s; {request.allows} allows "
            "longer",
            phase="read",
        )

    async def open(self, request: Request) -> Stream:
        """The answer to `request`, to be read piece by piece and closed. To be called by
        what runs :meth:`alone`."""
        return await self._attempts(request, streaming=True)


async def _leave(
    task: asyncio.Task[_T], undo: Callable[[_T], Coroutine[Any, Any, None]] | None
) -> None:
    await asyncio.wait({task})
    if not _look_at(task) and undo is not None:
        await undo(task.result())


def _look_at(task: asyncio.Future[Any]) -> bool:
    """Whether a task failed or was cancelled; asyncio complains of failures not looked at."""
    return task.cancelled() or task.exception() is not None
