"""Calls to one agent: a dialect chosen, answers unwrapped, streams opened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any, Callable, TypeVar
from urllib.parse import urlencode

from ..errors import A2aError, ProtocolError, TransportError
from .codec import Call, Codec
from .sse import SseDecoder
from .transport import Request, Stream, Transport, is_json, media_type
from .trust import Way
from .types import Task, TaskSpec, TaskUpdate

_T = TypeVar("_T")

# Events and answers larger than this are read in a thread, so that the loop goes on.
_LARGE = 256 * 1024


class Connection:
    """Events of one open stream."""

    def __init__(self, codec: Codec, call: Call, stream: Stream) -> None:
        limits = stream.limits
        self._codec = codec
        self._call = call
        self._stream = stream
        self._decoder = SseDecoder(
            max_line=limits.sse_line_bytes,
            max_event=limits.sse_event_bytes,
            max_pending=limits.sse_pending_bytes,
        )

    async def next(self) -> TaskUpdate | None:
        """The next update, None at the end of the stream."""
        while (event := self._decoder.next()) is None:
            data = await self._stream.read()
            if not data:
                return None
            self._decoder.feed(data)
        if len(event.data) > _LARGE:
            return await asyncio.to_thread(self._codec.event, self._call, event)
        return self._codec.event(self._call, event)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _is_unknown_method(error: A2aError) -> bool:
    """Whether a peer refused a call because it does not speak this version."""
    words = str(error)
    return error.code in (-32601, -32009) or (error.code == -32600 and "method not found" in words)


async def _close(opened: Connection | Task) -> None:
    if isinstance(opened, Connection):
        await opened.aclose()


def only_stream(opened: Connection | Task) -> Connection:
    if isinstance(opened, Task):
        raise ProtocolError("the agent answered with a task where a stream was asked for")
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
        return await self._task(lambda codec: codec.get(task_id, history_length))

    async def cancel(self, task_id: str) -> Task:
        return await self._task(lambda codec: codec.cancel(task_id))

    async def ask_to_cancel(self, task_id: str) -> None:
        """As `cancel`, for peers that answer with something else than the task."""
        await self._with_fallback(
            lambda codec: self._result(codec, codec.cancel(task_id), self._transport.timeouts.read)
        )

    async def send(self, spec: TaskSpec, *, wait: bool, timeout: float) -> Task:
        async def use(codec: Codec) -> Task:
            return codec.sent(await self._result(codec, codec.send(spec, wait=wait), timeout))

        return await self._with_fallback(use)

    async def _task(self, make: Callable[[Codec], Call]) -> Task:
        async def use(codec: Codec) -> Task:
            result = await self._result(codec, make(codec), self._transport.timeouts.read)
            return codec.task(result)

        return await self._with_fallback(use)

    # ---- streams ----------------------------------------------------------------------

    async def stream(self, spec: TaskSpec) -> Connection | Task:
        """The events of a new task; the task where the peer answers with that instead."""
        return await self._open(lambda codec: codec.stream(spec))

    async def subscribe(self, task_id: str, last_event_id: str | None = None) -> Connection:
        opened = await self._open(lambda codec: codec.subscribe(task_id, last_event_id))
        return only_stream(opened)

    async def _open(self, make: Callable[[Codec], Call]) -> Connection | Task:
        async def use(codec: Codec) -> Connection | Task:
            opening = self._open_now(codec, make(codec))
            return await self._transport.alone(opening, undo=_close)

        return await self._with_fallback(use)

    async def _open_now(self, codec: Codec, call: Call) -> Connection | Task:
        stream = await self._transport.open(self._request(call, streaming=True))
        try:
            if stream.status < 300 and media_type(stream.headers) == "text/event-stream":
                return Connection(codec, call, stream)
            content = await stream.read_all(self._transport.limits.response_bytes)
            result = self._unwrap(codec, call, stream.status, stream.headers, content)
            task = codec.sent(result)
        except BaseException:
            await stream.aclose()
            raise
        await stream.aclose()
        return task

    # ---- the dialect ------------------------------------------------------------------

    def _set_way(self, way: Way) -> None:
        self._way = way
        self._codec = way.codec()

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

    def _request(self, call: Call, *, streaming: bool = False) -> Request:
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
        what = f"the answer to {call.name}"
        return Request(call.verb, url, tuple(headers), content, call.safe, what=what)

    async def _result(self, codec: Codec, call: Call, timeout: float) -> Any:
        reply = await self._transport.fetch(
            self._request(call), max_bytes=self._transport.limits.response_bytes, timeout=timeout
        )
        answer = (codec, call, reply.status, reply.headers, reply.content)
        if len(reply.content) > _LARGE:
            return await asyncio.to_thread(self._unwrap, *answer)
        return self._unwrap(*answer)

    def _unwrap(
        self, codec: Codec, call: Call, status: int, headers: Mapping[str, str], content: bytes
    ) -> Any:
        facts = {"http_status": status, "dialect": self._way.dialect}
        if status >= 300:
            # an error of the protocol may come with a status that says so, too
            if is_json(headers):
                with contextlib.suppress(ProtocolError):
                    codec.result(call, content, status)
            raise TransportError(
                f"the answer to {call.name} is HTTP {status}",
                phase="status",
                retryable=status >= 500,
                **facts,
            )
        if not is_json(headers):
            kind = media_type(headers) or "nothing"
            raise ProtocolError(
                f"the answer to {call.name} is {kind} (HTTP {status}), not JSON", **facts
            )
        return codec.result(call, content, status)
