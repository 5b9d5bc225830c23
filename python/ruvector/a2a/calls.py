"""Calls to one agent: a dialect chosen, answers unwrapped, streams opened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Any, Callable, TypeVar
from urllib.parse import urlencode

from ..errors import A2aError, ProtocolError
from . import address
from .codec import Call, Codec, name_task, reason_of
from .excerpt import visible
from .messages import Reply, Request, media_type
from .sse import SseDecoder, SseEvent
from .transport import Stream, Transport
from .trust import Way
from .types import Task, TaskSpec, TaskUpdate

_T = TypeVar("_T")

_READ = "Timeouts(read=...)"

# Events and answers larger than this are read in a thread, so that the loop goes on.
_LARGE = 256 * 1024
_SHOWN = 16 * 1024  # of an event, for errors

# Servers that keep a connection open by events, which are no answers, name them so.
_KEEP_ALIVE = ("ping", "heartbeat", "keepalive", "keep-alive")

_DONE = "[DONE]"  # servers made for another protocol end every stream so

# What event streams begin with: some servers send them as text/plain or text/html.
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class Connection:
    """Events of one open stream."""

    def __init__(
        self,
        codec: Codec,
        call: Call,
        stream: Stream,
        request: Request,
        transport: Transport,
        as_answer: Callable[[Reply], Task],
    ) -> None:
        limits = stream.limits
        self._codec = codec
        self._call = call
        self._stream = stream
        self._request = request
        self._transport = transport
        self._as_answer = as_answer  # for a body that turns out to be no stream
        self._started = False
        self._other: bytearray | None = None  # what came, where that is no stream so far
        self._decoder = SseDecoder(
            max_line=limits.sse_line_bytes,
            max_event=limits.sse_event_bytes,
            max_pending=limits.sse_pending_bytes,
        )

    @property
    def url(self) -> str:
        return address.shown(self._request.url)

    def feed(self, data: bytes) -> None:
        """Takes what was read of the stream."""
        if not self._started:
            self._started = True
            self._other = None if _may_begin_stream(data) else bytearray()
        if self._other is not None and len(self._other) < self._stream.limits.sse_event_bytes:
            self._other += data
        self._decoder.feed(data)

    async def next(self) -> TaskUpdate | None:
        """The next update, None at the end of the stream."""
        content = b""
        try:
            while (event := self._decoder.next()) is None or _keeps_alive(event):
                if event is not None:
                    continue
                data = await self._stream.read()
                if not data:
                    return self._whole()
                self.feed(data)
            self._other = None
            if event.data == _DONE:
                return None
            content = event.data[:_SHOWN].encode("utf-8", "replace")
            if len(event.data) > _LARGE:
                return await asyncio.to_thread(self._codec.event, self._call, event)
            return self._codec.event(self._call, event)
        except A2aError as why:
            self._transport.complete(why, self._request, content=content)
            raise

    def _whole(self) -> TaskUpdate | None:
        """What a body without any event says: some servers mark every answer as a stream."""
        body, self._other = self._other, None
        if not body or not body.strip():
            return None
        stream = self._stream
        task = self._as_answer(Reply(stream.status, stream.headers, bytes(body), stream.attempts))
        return TaskUpdate("task", task.id, task=task, raw=task.raw)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _may_begin_stream(data: bytes) -> bool:
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:8]
    return any(data.startswith(field) or field.startswith(data) for field in _FIELDS)


def _keeps_alive(event: SseEvent) -> bool:
    return event.name in _KEEP_ALIVE or not event.data.strip()


def _is_unknown_method(error: A2aError) -> bool:
    """Whether a peer refused a call because it does not speak this version."""
    words = str(error)
    return error.code in (-32601, -32009) or (error.code == -32600 and "method not found" in words)


async def _close(opened: Connection | Task) -> None:
    if isinstance(opened, Connection):
        await opened.aclose()


def only_stream(opened: Connection | Task) -> Connection:
    if isinstance(opened, Task):
        raise ProtocolError(
            "the agent answered with a task where a stream was asked for", task_id=opened.id or None
        )
    return opened


class Calls:
    """What can be asked of an agent, in the dialect that it was found to speak."""

    def __init__(self, transport: Transport, ways: list[Way]) -> None:
        self._transport = transport
        self.choose(ways)

    def choose(self, ways: list[Way]) -> None:
        """Takes the best of these ways; the first call may show that it must be another."""
        self._ways = ways
        self._settled = False
        self._set_way(ways[0])

    @property
    def way(self) -> Way:
        return self._way

    def check(self, spec: TaskSpec) -> None:
        """Refuses a task that could not be written, before it is charged for.

        Raises:
            TypeError, ValueError: with what is wrong.
        """
        self._way.codec().send(spec, wait=False).content()

    # ---- single calls -----------------------------------------------------------------

    async def get(self, task_id: str, history_length: int | None = None) -> Task:
        return await self._task(task_id, lambda codec: codec.get(task_id, history_length))

    async def cancel(self, task_id: str) -> Task:
        return await self._task(task_id, lambda codec: codec.cancel(task_id))

    async def ask_to_cancel(self, task_id: str) -> None:
        """As `cancel`, for peers that answer with something else than the task."""
        await self._with_fallback(
            lambda codec: self._result(codec, codec.cancel(task_id), lambda result: None, task_id)
        )

    async def send(
        self, spec: TaskSpec, *, wait: bool, timeout: float, allows: str = _READ
    ) -> Task:
        async def use(codec: Codec) -> Task:
            call = codec.send(spec, wait=wait)
            return await self._result(codec, call, codec.sent, spec.id, timeout, allows)

        return await self._with_fallback(use)

    async def _task(self, task_id: str, make: Callable[[Codec], Call]) -> Task:
        async def use(codec: Codec) -> Task:
            return await self._result(codec, make(codec), codec.task, task_id)

        return await self._with_fallback(use)

    # ---- streams ----------------------------------------------------------------------

    async def stream(self, spec: TaskSpec) -> Connection | Task:
        """The events of a new task; the task where the peer answers with that instead."""
        return await self._open(lambda codec: codec.stream(spec), spec.id)

    async def subscribe(self, task_id: str, last_event_id: str | None = None) -> Connection:
        opened = await self._open(lambda codec: codec.subscribe(task_id, last_event_id), task_id)
        return only_stream(opened)

    async def _open(self, make: Callable[[Codec], Call], task_id: str | None) -> Connection | Task:
        async def use(codec: Codec) -> Connection | Task:
            opening = self._open_now(codec, make(codec), task_id)
            return await self._transport.alone(opening, undo=_close)

        return await self._with_fallback(use)

    async def _open_now(self, codec: Codec, call: Call, task_id: str | None) -> Connection | Task:
        timeouts = self._transport.timeouts
        request = self._request(call, timeouts.idle, "Timeouts(idle=...)", streaming=True)
        with self._completing(request, task_id):
            stream = await self._transport.open(request)
        try:
            with self._completing(request, task_id):

                def as_answer(reply: Reply) -> Task:
                    return self._unwrap(codec, call, request, reply, codec.sent, task_id)

                connection = Connection(codec, call, stream, request, self._transport, as_answer)
                fine = stream.status < 300
                if fine and media_type(stream.headers) == "text/event-stream":
                    return connection
                first = await stream.read() if fine else b""
                if first.startswith(_FIELDS):
                    connection.feed(first)
                    return connection
                rest = await stream.read_all(self._transport.limits.response_bytes, first)
            reply = Reply(stream.status, stream.headers, rest, stream.attempts)
            task = as_answer(reply)
        except BaseException:
            await stream.aclose()
            raise
        await stream.aclose()
        return task

    # ---- the dialect ------------------------------------------------------------------

    def _set_way(self, way: Way) -> None:
        self._way = way
        self._codec = way.codec(self._transport.masker)

    def _fall_back(self, way: Way, error: A2aError) -> bool:
        """Whether the peer refused its first call as unknown and another way is tried."""
        if not _is_unknown_method(error):
            return False
        if way is not self._way:
            return True  # another call has found that out meanwhile
        if self._settled:
            return False
        ways = self._ways
        following = ways.index(way) + 1 if way in ways else len(ways)
        if following >= len(ways):
            return False
        self._set_way(ways[following])
        return True

    async def _with_fallback(self, use: Callable[[Codec], Awaitable[_T]]) -> _T:
        while True:
            way, codec = self._way, self._codec
            try:
                result = await use(codec)
            except A2aError as why:
                if self._fall_back(way, why):
                    continue
                if why.code is not None:
                    self._settled = True
                raise
            self._settled = True
            return result

    # ---- requests and answers ---------------------------------------------------------

    def _request(self, call: Call, wait: float, allows: str, *, streaming: bool = False) -> Request:
        url = self._way.url
        if call.path:
            url = url.rstrip("/") + call.path
        if call.query:
            url += ("&" if "?" in url else "?") + urlencode(call.query)
        accept = "text/event-stream, application/json" if streaming else "application/json"
        headers = [("Accept", accept), *call.headers]
        content = call.content()
        if content is not None:
            headers.append(("Content-Type", "application/json"))
        return Request(
            call.verb,
            url,
            tuple(headers),
            content,
            call.safe,
            what=f"the answer to {call.name}",
            path=call.path,
            wait=wait,
            allows=allows,
        )

    @contextlib.contextmanager
    def _completing(
        self, request: Request, task_id: str | None, reply: Reply | None = None
    ) -> Iterator[None]:
        """Within: errors say what was asked and answered, and are safe to show."""
        try:
            yield
        except A2aError as why:
            headers, content = (reply.headers, reply.content[:_SHOWN]) if reply else (None, b"")
            self._transport.complete(why, request, headers, content, task_id)
            why.dialect = why.dialect or self._way.dialect
            raise

    async def _result(
        self,
        codec: Codec,
        call: Call,
        read: Callable[[Any], _T],
        task_id: str | None,
        timeout: float | None = None,
        allows: str = _READ,
    ) -> _T:
        """What `read` makes of the result of `call`."""
        request = self._request(call, timeout or self._transport.timeouts.read, allows)
        with self._completing(request, task_id):
            reply = await self._transport.fetch(request)
        unwrap = partial(self._unwrap, codec, call, request, reply, read, task_id)
        return await asyncio.to_thread(unwrap) if len(reply.content) > _LARGE else unwrap()

    def _unwrap(
        self,
        codec: Codec,
        call: Call,
        request: Request,
        reply: Reply,
        read: Callable[[Any], _T],
        task_id: str | None,
    ) -> _T:
        with self._completing(request, task_id, reply):
            result = self._json(codec, call, request, reply)
            try:
                return read(result)
            except A2aError as why:
                name_task(why, result)
                raise

    def _json(self, codec: Codec, call: Call, request: Request, reply: Reply) -> Any:
        """The result in an answer, whatever media type it was sent as."""
        try:
            result = codec.result(call, reply.content, reply.status)
        except ProtocolError as why:
            if why.code is not None or reason_of(why.data) is not None:
                raise  # the peer's own: such an error may come with a status that says so, too
            if reply.status >= 300:
                raise self._transport.refused(request, reply) from None
            if reply.is_json or why.task_id is not None:
                raise
            kind = visible(media_type(reply.headers))[:80] or "nothing"
            raise ProtocolError(
                f"{request.named} is {kind} (HTTP {reply.status}), not JSON",
                http_status=reply.status,
            ) from None
        if reply.status >= 300:
            raise self._transport.refused(request, reply)
        return result
