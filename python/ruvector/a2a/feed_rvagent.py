"""The updates of an rvAgent peer, which come beside the call that starts a task."""

from __future__ import annotations

import asyncio

from ..errors import ProtocolError, TaskNotFound, TransportError
from .calls import only_stream
from .session import Session
from .stream import BACK, DROPPED, Feed, lost
from .types import Task, TaskSpec, TaskState, TaskUpdate

_DRAIN_S = 1.0  # for events still under way when the answer to tasks/send is there


class RvAgentFeed(Feed):
    """Events of an rvAgent peer beside, or without, the call that starts the task.

    The events come on a route of their own that may never end, and say nothing of
    artifacts that were made before: the answer to ``tasks/send`` completes them.
    """

    def __init__(
        self,
        session: Session,
        spec: TaskSpec | None,
        task_id: str,
        last_event_id: str | None,
        *,
        reconnect: bool,
    ) -> None:
        super().__init__(session, spec, task_id if spec is None else spec.id or "")
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
            self._session.let_finish(sending, self._spec)
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
                task = await self._session.get(self.fold.task_id)
            except TaskNotFound:
                pass  # still running, or not known: the stream will tell
            else:
                if task.status.state.is_terminal:
                    self._snapshot(task)
                    return
        self._opened = True
        self._connected = asyncio.get_running_loop().time()
        if self._spec is None:
            self._connection = only_stream(
                await self._session.calls.subscribe(self.fold.task_id, self._last_event_id)
            )
            return
        try:
            self._connection = only_stream(await self._session.calls.stream(self._spec))
        except TransportError as why:
            if why.http_status not in (404, 405):
                raise
        self._sending = asyncio.ensure_future(self._session.send(self._spec, wait=True))

    async def _reconnect_now(self, why: TransportError) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._note_end()
            await connection.aclose()
        self._lost = why
        if self._sending is not None and self._sending.done():
            return  # its answer tells the rest
        if not self._reconnect:
            raise why
        if self._sending is not None and self._failures >= self._session.retry.stream_attempts:
            self._lost = None
            self._warn("the connection was lost; what happens before the end is not told")
            return
        await self._pause(why, self._sending)
        if self._sending is not None and self._sending.done():
            return
        try:
            self._connection = only_stream(
                await self._session.calls.subscribe(self.fold.task_id, self.fold.last_timestamp)
            )
        except TransportError as again:
            if again.phase not in DROPPED:
                raise
            return
        self._lost = None
        self._connected = asyncio.get_running_loop().time()
        self._warn(BACK)

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
            if why.phase not in DROPPED:
                raise
            await self._reconnect_now(why)
            return
        if update is None:
            await self._reconnect_now(lost(self._connection))
            return
        before = len(self.out)
        await self._take(update)
        if len(self.out) > before or self._end is not None:
            self._failures = 0

    async def _take(self, update: TaskUpdate) -> None:
        first, self._first = self._first, False
        if update.status is not None:
            if first and self._spec is None and _synthesized(update):
                task = await self._session.get(self.fold.task_id)  # TaskNotFound: it is
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
        task = self._result or await self._session.get_stored(self.fold.task_id)
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


def _synthesized(update: TaskUpdate) -> bool:
    """Whether this is what a peer says of a task it does not know."""
    status = update.status
    return bool(
        status and update.final and status.state is TaskState.FAILED and status.message is None
    )
