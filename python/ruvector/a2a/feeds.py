"""Where the updates of a stream come from: one class for each way a peer tells them.

A feed reads only when asked to (`step`), at most one event at a time, so that whoever
reads slowly slows the peer down, not this process. What `step` found waits in `out`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import (
    A2aError,
    ProtocolError,
    TaskNotFound,
    TransportError,
    UnsupportedOperation,
)
from .codec import Call, Codec
from .fold import Fold
from .sse import SseDecoder
from .transport import Stream
from .types import Artifact, Part, Task, TaskSpec, TaskState, TaskUpdate

if TYPE_CHECKING:
    from .client import A2aClient

# A peer tells of the end before the task can be asked for.
STORED_AFTER = (0.02, 0.04, 0.08, 0.16, 0.32)

# Events and answers larger than this are read in a thread, so that the loop goes on.
LARGE = 256 * 1024

_BACK = "the connection was lost and is back; events may be missing"
_DRAIN_S = 1.0  # for events still under way when the answer to tasks/send is there
_DROPPED = ("read", "idle", "connect", "write", "status")  # phases of a lost connection


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
        if len(event.data) > LARGE:
            return await asyncio.to_thread(self._codec.event, self._call, event)
        return self._codec.event(self._call, event)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Feed:
    """`step` adds to `out`, sets `done`, or gets on in another way. `aclose` may be called
    at any time, twice too."""

    def __init__(self, client: A2aClient, spec: TaskSpec | None = None, task_id: str = "") -> None:
        self.out: deque[TaskUpdate] = deque()
        self.done = False
        self.fold = Fold(task_id, client.dialect)
        self._client = client
        self._spec = spec  # of a task yet to be sent
        self._admitted = spec is None
        self._key: object = None  # stands for the task until it has a name
        self._connection: Connection | None = None
        self._failures = 0

    @property
    def key(self) -> object:
        """What the client knows the task by."""
        return self._key or self.fold.task_id

    async def step(self) -> None:
        if not self._admitted and self._spec is not None:
            # a step for itself: from here on the task's own time runs
            self._key = await self._client._admit(self._spec)
            self._admitted = True
            return
        await self._go_on()

    async def _go_on(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.done = True
        if self._key is not None:
            self._client._gate.gone(self._key)  # nobody will ever hear of it
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def _named(self, task_id: str) -> None:
        key, self._key = self._key, None
        if key is not None:
            self._client._gate.named(key, task_id)

    def _emit(self, update: TaskUpdate) -> None:
        self.fold.apply(update)
        if self.fold.task_id or update.message is not None:
            self._named(self.fold.task_id)
        task = self.fold.task
        if task is not None:
            self._client._gate.saw(task)
        self.out.append(update)

    def _warn(self, text: str) -> None:
        self._emit(TaskUpdate("warning", self.fold.task_id, warning=text, gap=True))

    def _snapshot(self, task: Task, *, gap: bool = False) -> None:
        """A whole task as an update, then each artifact, and the end if it has ended."""
        missing = list(self.fold.missing(task, gap=gap))
        self._emit(TaskUpdate("task", task.id, task=task, gap=gap, raw=task.raw))
        for update in missing:
            self._emit(update)
        if task.status.state.is_terminal:
            self._emit(self.fold.ending(task, gap=gap))
            self.done = True

    async def _pause(self, why: TransportError, until: asyncio.Task[Task] | None = None) -> None:
        """Waits before another attempt to connect, or until something is done; raises
        `why` after too many."""
        retry = self._client._retry
        if self._failures >= retry.stream_attempts:
            raise why
        pause = min(retry.stream_first_pause * 2**self._failures, retry.stream_longest_pause)
        self._failures += 1
        if until is None:
            await asyncio.sleep(pause)
        else:
            await asyncio.wait({until}, timeout=pause)

    async def _stored(self, task_id: str) -> Task | None:
        """The task at the peer, which may need a moment to store it."""
        for pause in (*STORED_AFTER, None):
            try:
                return await self._client._get(task_id)
            except TaskNotFound:
                if pause is not None:
                    await asyncio.sleep(pause)
        return None


def _lost() -> TransportError:
    return TransportError("the stream ended before the task did", phase="stream", retryable=True)


class OfficialFeed(Feed):
    """The streams of the official protocol: one response per event, then close."""

    def __init__(
        self,
        client: A2aClient,
        *,
        spec: TaskSpec | None = None,
        task_id: str = "",
        reconnect: bool = True,
    ) -> None:
        super().__init__(client, spec, task_id)
        self._sent = spec is None
        self._reconnect = reconnect
        self._subscribed = False
        self._resumed = False  # connected again, and no update since
        self._last_status_live = False
        self._ahead: dict[str, tuple[Part, ...]] = {}  # what a task held before the stream did
        self._doubtful = False  # a piece may have been told twice, or not at all

    async def _go_on(self) -> None:
        if self._connection is None:
            await self._open()
            return
        try:
            update = await self._connection.next()
        except TransportError as why:
            if why.phase not in _DROPPED:
                raise
            await self._dropped(why)
            return
        except UnsupportedOperation:
            news = self.fold.status is None or self._resumed
            if not (self._subscribed and news):
                raise
            await self._ended_meanwhile()
            return
        if update is None:
            state = self.fold.status.state if self.fold.status else TaskState.UNKNOWN
            if state.is_interrupted and self._last_status_live:
                self.done = True
            else:
                await self._dropped(_lost())
            return
        await self._take(update)

    async def _open(self) -> None:
        if not self._sent and self._spec is not None:
            self._sent = True
            opened = await self._client._stream(self._spec)
        else:
            self._subscribed = True
            try:
                opened = await self._client._subscribe(self.fold.task_id)
            except UnsupportedOperation:
                await self._ended_meanwhile()
                return
            except TransportError as why:
                if not self._resumed or why.phase not in _DROPPED:
                    raise
                await self._dropped(why)
                return
        if isinstance(opened, Task):  # answered at once instead of with a stream
            self._snapshot(opened)
            if not self.done and opened.status.state.is_interrupted:
                self.done = True
            return
        self._connection = opened
        if self._resumed:
            self._warn(_BACK)

    async def _dropped(self, why: TransportError) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
        if not self._reconnect or not self.fold.task_id:
            raise why
        await self._pause(why)
        self._resumed = True

    async def _ended_meanwhile(self) -> None:
        """A peer does not stream a task that has ended: it is asked for instead."""
        task = await self._client._get(self.fold.task_id)
        if not task.status.state.is_terminal and not task.status.state.is_interrupted:
            raise UnsupportedOperation(
                f"the agent does not stream task {task.id}, which is {task.status}",
                dialect=self._client.dialect,
            )
        self._catch_up(task)
        self.done = True

    def _catch_up(self, task: Task) -> None:
        """What `task` says beyond the updates so far."""
        if self.fold.status is None:
            self._snapshot(task)
            return
        missing = list(self.fold.missing(task, gap=True))
        news = not self.fold.seen(task.status) and self.fold.status != task.status
        for update in missing:
            self._emit(update)
        if task.status.state.is_terminal:
            self._emit(self.fold.ending(task, gap=True))
            self.done = True
        elif news:
            self._emit(replace(self.fold.ending(task, gap=True), final=False))

    async def _take(self, update: TaskUpdate) -> None:
        self._failures = 0
        fold = self.fold
        if self._resumed:
            if update.task is None:  # no snapshot: what came in between is asked for
                task = await self._client._get(fold.task_id)
                pieces = (piece.artifact for piece in fold.missing(task))
                self._ahead = {piece.id: piece.parts for piece in pieces if piece is not None}
            else:
                task = update.task
            self._catch_up(task)
            self._resumed = False
            self._last_status_live = True
            if self.done or update.task is not None:
                return
            if update.status is not None and fold.seen(update.status):
                return
        if update.task is not None:
            # what is known of an older task by the snapshot alone is no reason to stop
            self._last_status_live = self._subscribed
            self._snapshot(update.task)
            return
        self._doubtful |= self._subscribed and update.append
        if self._subscribed and self._told(update):
            return
        if update.status is not None:
            self._last_status_live = True
        if update.final and self._doubtful:
            await self._settle()
        self._emit(update)
        self.done = self.done or update.final

    async def _settle(self) -> None:
        """Compares with the task as the peer has it: pieces are not numbered, and those
        that came both in a snapshot and live cannot be told from others."""
        with contextlib.suppress(A2aError):
            task = await self._client._get(self.fold.task_id)
            if task.status.state.is_terminal:
                for update in list(self.fold.missing(task, gap=True)):
                    self._emit(update)

    def _told(self, update: TaskUpdate) -> bool:
        """Whether a snapshot has told this already: servers repeat what is latest."""
        if update.status is not None:
            return not update.final and self.fold.seen(update.status)
        if update.artifact is None:
            return False
        if update.append:
            return self._told_piece(update.artifact)
        return self.fold.has(update.artifact)

    def _told_piece(self, piece: Artifact) -> bool:
        """Whether the task that was asked for was ahead of the stream by this piece."""
        ahead, count = self._ahead.pop(piece.id, ()), len(piece.parts)
        for start in range(len(ahead) - count, -1, -1):
            if ahead[start : start + count] == piece.parts:
                self._ahead[piece.id] = ahead[start + count :]
                return True
        return False


class PollFeed(Feed):
    """For a peer that does not stream: asks, and tells what has changed."""

    _delay = 0.5

    async def _go_on(self) -> None:
        if self.fold.status is None:
            if self._spec is None:
                task = await self._client._get(self.fold.task_id)
            else:
                task = await self._client._send(self._spec, wait=False)
                self._named(task.id)
            self._snapshot(task)
        else:
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 1.5, 5.0)
            task = await self._client._get(self.fold.task_id)
            for update in list(self.fold.missing(task)):
                self._emit(update)
            over = task.status.state.is_terminal
            if over or task.status != self.fold.status:
                self._emit(replace(self.fold.ending(task), final=over))
        if task.status.state.is_terminal or task.status.state.is_interrupted or not task.id:
            self.done = True


class RvAgentFeed(Feed):
    """Events of an rvAgent peer beside, or without, the call that starts the task.

    The events come on a route of their own that may never end, and say nothing of
    artifacts that were made before: the answer to ``tasks/send`` completes them.
    """

    def __init__(
        self,
        client: A2aClient,
        *,
        spec: TaskSpec | None = None,
        task_id: str = "",
        last_event_id: str | None = None,
        reconnect: bool = True,
    ) -> None:
        super().__init__(client, spec, task_id if spec is None else spec.id or "")
        self._last_event_id = last_event_id
        self._reconnect = reconnect
        self._opened = False
        self._first = True
        self._lost: TransportError | None = None  # what the connection was lost by
        self._end: TaskUpdate | None = None  # the peer's last status, told after the artifacts
        self._sending: asyncio.Task[Task] | None = None
        self._reading: asyncio.Task[TaskUpdate | None] | None = None
        self._result: Task | None = None

    async def aclose(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.exception()  # looked at, or asyncio complains
        sending, self._sending = self._sending, None
        if sending is not None and self._spec is not None:
            # a peer drops the task when this call is cut, so it goes on without the stream
            self._client._let_finish(sending, self._spec)
        await super().aclose()

    async def _go_on(self) -> None:
        if not self._opened:
            await self._open()
        elif self._end is not None or self._result is not None:
            await self._finish()
        else:
            await self._wait()

    # -- connecting

    async def _open(self) -> None:
        if self._spec is None and self._last_event_id is not None:
            # a peer asked for what comes after the end of a task says nothing for ever
            try:
                task = await self._client._get(self.fold.task_id)
            except TaskNotFound:
                pass  # still running, or not known: the stream will tell
            else:
                if task.status.state.is_terminal:
                    self._snapshot(task)
                    return
        self._opened = True
        if self._spec is None:
            self._connection = await self._client._subscribe(self.fold.task_id, self._last_event_id)
            return
        try:
            self._connection = await self._client._watch(self._spec)
        except TransportError as why:
            if why.http_status not in (404, 405):
                raise
        self._sending = asyncio.ensure_future(self._client._send(self._spec, wait=True))

    async def _reconnect_now(self, why: TransportError) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
        self._lost = why
        if self._sending is not None and self._sending.done():
            return  # its answer tells the rest
        if not self._reconnect:
            raise why
        if self._sending is not None and self._failures >= self._client._retry.stream_attempts:
            self._lost = None
            self._warn("the connection was lost; what happens before the end is not told")
            return
        await self._pause(why, self._sending)
        if self._sending is not None and self._sending.done():
            return
        try:
            self._connection = await self._client._subscribe(
                self.fold.task_id, self.fold.last_timestamp
            )
        except TransportError as again:
            if again.phase not in _DROPPED:
                raise
            return
        self._lost = None
        self._warn(_BACK)

    # -- reading

    async def _wait(self) -> None:
        """Until an event or the answer to the call is there."""
        if self._lost is not None and not (self._sending and self._sending.done()):
            await self._reconnect_now(self._lost)
            return
        if self._connection is not None and self._reading is None:
            self._reading = asyncio.ensure_future(self._connection.next())
        waiting = {task for task in (self._reading, self._sending) if task is not None}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._reading is not None and self._reading.done():
            await self._read()
        elif self._sending is not None and self._sending.done():
            self._result = self._sending.result()

    async def _read(self) -> None:
        assert self._reading is not None
        reading, self._reading = self._reading, None
        try:
            update = reading.result()
        except TransportError as why:
            if why.phase not in _DROPPED:
                raise
            await self._reconnect_now(why)
            return
        if update is None:
            await self._reconnect_now(_lost())
            return
        self._failures = 0
        await self._take(update)

    async def _take(self, update: TaskUpdate) -> None:
        first, self._first = self._first, False
        if update.status is not None:
            if first and self._spec is None and _made_up(update):
                task = await self._client._get(self.fold.task_id)  # TaskNotFound: it is
                self._snapshot(task)
                self.done = True
                return
            if update.final:
                self._end = update
                return
            if self.fold.seen(update.status):
                return
        self._emit(update)

    # -- the end

    async def _finish(self) -> None:
        """Artifacts that no event told of, then the last status."""
        if self._result is None and self._sending is not None:
            try:
                self._result = await asyncio.shield(self._sending)
            except TransportError:
                self._sending = None  # the task has ended all the same: ask for it
        if self._result is not None and self._end is None:
            await self._drain()
        task = self._result or await self._stored(self.fold.task_id)
        if task is not None:
            for update in list(self.fold.missing(task)):
                self._emit(update)
        if self._end is not None:
            self._emit(self._end)
        elif task is not None:
            self._emit(self.fold.ending(task))
        self.done = True

    async def _drain(self) -> None:
        """Events that the answer to the call has overtaken."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _DRAIN_S
        while self._connection is not None and self._end is None:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._connection.next())
            await asyncio.wait({self._reading}, timeout=until - loop.time())
            if not self._reading.done():
                return
            reading, self._reading = self._reading, None
            try:
                update = reading.result()
            except (TransportError, ProtocolError):
                return
            if update is None:
                return
            await self._take(update)


def _made_up(update: TaskUpdate) -> bool:
    """Whether this is what a peer says of a task it does not know."""
    status = update.status
    return bool(
        status and update.final and status.state is TaskState.FAILED and status.message is None
    )
