"""The updates of one task: a stream to iterate over, and the feed it reads.

There is one class of feed for each way a peer tells of a task; that of the official
protocol is here. A feed reads only when asked to (`step`), at most one event at a time,
so that whoever reads slowly slows the peer down, not this process. What `step` found
waits in `out`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import warnings
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Any

from ..errors import A2aError, PolicyViolation, TransportError, UnsupportedOperation
from .artifacts import Artifact
from .calls import Connection
from .fold import Ahead, Fold
from .session import Session
from .types import Task, TaskSpec, TaskState, TaskStatus, TaskUpdate

BACK = "the connection was lost and is back; events may be missing"
DROPPED = ("read", "idle", "connect", "write", "status")  # phases of a lost connection

# Many events come in one piece; after so many, other tasks get a turn.
_TURN = 16


class TaskStream:
    """``async for update in stream``; best inside ``async with``, which closes it.

    Nothing is read from the network but while the caller waits for the next update. It
    ends after the task's last update, and closes itself then and on any error. Leaving
    it early closes the connection and leaves the task running, unless it was made with
    ``cancel_remote=True``.

    Not an async generator: one that is dropped half-way is finished by the loop at some
    later moment, in the middle of other work on the same connection.
    """

    def __init__(self, session: Session, feed: Feed, *, cancel_remote: bool = False) -> None:
        self._session = session
        self._feed = feed
        self._cancel_remote = cancel_remote
        self._closed = False
        self._reading = False
        self._started = False
        self._count = 0

    @property
    def task_id(self) -> str | None:
        """None until the agent has named the task."""
        return self._feed.fold.task_id or None

    @property
    def task(self) -> Task | None:
        """The task as the updates so far describe it; None before the first status."""
        return self._feed.fold.task

    @property
    def status(self) -> TaskStatus | None:
        """That of `task`, without the work of putting the whole task together."""
        return self._feed.fold.status

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"TaskStream(task_id={self.task_id!r}, {state})"

    def __aiter__(self) -> TaskStream:
        return self

    async def __anext__(self) -> TaskUpdate:
        if self._reading:
            raise RuntimeError("this stream is being read by another task")
        if self._closed:
            raise StopAsyncIteration
        self._session.check()
        self._reading = True
        self._started = True
        try:
            return await self._next()
        except GeneratorExit:  # the loop drops this task: nothing can be awaited any more
            raise
        except A2aError as why:
            if self._closed and isinstance(why, TransportError):  # by another task, meanwhile
                raise StopAsyncIteration from None
            why.task_id = why.task_id or self.task_id
            await self.aclose()
            raise
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._reading = False

    async def _next(self) -> TaskUpdate:
        feed = self._feed
        while not feed.out:
            if feed.done:
                raise StopAsyncIteration
            try:
                await self._session.before_deadline(lambda: feed.key, feed.step())
            except StopAsyncIteration as why:  # of a token function: it would end the loop
                raise RuntimeError("a callback raised StopAsyncIteration") from why
            except PolicyViolation as why:
                if why.field == "max_duration_ms" and not why.remote:
                    self._cancel_remote = False  # done already
                raise
        self._count += 1
        if self._count % _TURN == 0:
            await asyncio.sleep(0)
        update = feed.out.popleft()
        if feed.done and not feed.out:
            # the peer may keep the connection open for ever
            await self._release()
        return update

    async def _release(self) -> None:
        """Closes the connection, at most a second long, whoever cancels whom."""
        await self._session.in_background(self._feed.aclose())

    async def aclose(self) -> None:
        """Closes the connection. The task goes on unless `cancel_remote` was asked for."""
        if self._closed:
            return
        self._closed = True
        unfinished = not self._feed.done and self._started
        task_id = self._feed.fold.task_id
        await self._release()
        if unfinished and self._cancel_remote and task_id:
            await self._session.in_background(self._session.try_to_cancel(task_id), limit=None)

    async def __aenter__(self) -> TaskStream:
        return self

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._closed or not self._started or self._feed.done or not self._session.is_here:
            return
        _warn(f"{self!r} was not closed; use 'async with'", ResourceWarning, source=self)
        self._session.soon(self._feed.aclose)


class Feed:
    """`step` adds to `out`, sets `done`, or gets on in another way. `aclose` may be called
    at any time, twice too."""

    def __init__(self, session: Session, spec: TaskSpec | None, task_id: str) -> None:
        self.out: deque[TaskUpdate] = deque()
        self.done = False
        self.fold = Fold(task_id, session.dialect)
        self._session = session
        self._spec = spec  # of a task yet to be sent
        self._admitted = spec is None
        self._key: object = None  # stands for the task until it has a name
        self._connection: Connection | None = None
        self._connected = 0.0  # when, by the loop's clock
        self._failures = 0  # to get back to a stream, or by streams that told nothing new

    @property
    def key(self) -> object:
        """What the gate knows the task by."""
        return self._key or self.fold.task_id

    async def step(self) -> None:
        if not self._admitted and self._spec is not None:
            # a step for itself: from here on the task's own time runs
            self._key = await self._session.admit(self._spec)
            self._admitted = True
            return
        await self._go_on()

    async def _go_on(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.done = True
        if self._key is not None:
            self._session.gate.discard(self._key)  # nobody will ever hear of it
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def _named(self, task_id: str) -> None:
        key, self._key = self._key, None
        if key is not None:
            self._session.gate.rename(key, task_id)

    def _emit(self, update: TaskUpdate) -> None:
        self.fold.apply(update)
        if self.fold.task_id or update.message is not None:
            self._named(self.fold.task_id)
        status = self.fold.status
        if status is not None and status.state.is_terminal:
            self._session.gate.discard(self.fold.task_id)
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

    def _note_end(self) -> None:
        """Of a connection. One that lasted was one, even if the task said nothing."""
        lasted = asyncio.get_running_loop().time() - self._connected
        if lasted > self._session.retry.stream_longest_pause:
            self._failures = 0

    async def _pause(self, why: TransportError, until: asyncio.Task[Task] | None = None) -> None:
        """Waits before another attempt to connect, or until something is done; raises
        `why` after too many."""
        retry = self._session.retry
        if self._failures >= retry.stream_attempts:
            times = f"; tried {self._failures} times, Retry(stream_attempts=...) allows more"
            why.args = (f"{why}{times}",)
            raise why
        pause = min(retry.stream_first_pause * 2**self._failures, retry.stream_longest_pause)
        self._failures += 1
        if until is None:
            await asyncio.sleep(pause)
        else:
            await asyncio.wait({until}, timeout=pause)


def lost(connection: Connection | None) -> TransportError:
    url = None if connection is None else connection.url
    text = "the stream" + (f" from {url}" if url else "") + " ended before the task did"
    return TransportError(text, phase="stream", retryable=True, url=url)


class _State(enum.Enum):
    """Which stream of the official protocol is read."""

    NEW = "new"  # none: the task is yet to be sent
    SENT = "sent"  # the answer to the call that starts the task
    SUBSCRIBED = "subscribed"  # one that was asked for, of a task the peer has
    RESUMED = "resumed"  # the same after a loss, and nothing has been read of it yet


class OfficialFeed(Feed):
    """The streams of the official protocol: one response per event, then close."""

    def __init__(
        self, session: Session, spec: TaskSpec | None, task_id: str, *, reconnect: bool
    ) -> None:
        super().__init__(session, spec, task_id)
        self._state = _State.SUBSCRIBED if spec is None else _State.NEW
        self._reconnect = reconnect
        self._lost: TransportError | None = None  # what the last connection was lost by
        self._last_status_live = False
        self._ahead: dict[str, Ahead] = {}  # what a task held before the stream did
        self._uncertain = False  # a piece may have been told twice, or not at all

    async def _go_on(self) -> None:
        if self._connection is None:
            try:
                await self._open()
            except A2aError as why:
                if self._lost is None or why is self._lost:
                    raise
                why.args = (f"{why}; it was asked because {self._lost}",)
                raise why from self._lost
            return
        try:
            update = await self._connection.next()
        except TransportError as why:
            if why.phase not in DROPPED:
                raise
            await self._dropped(why)
            return
        except UnsupportedOperation:
            fresh = self._state is _State.SUBSCRIBED and self.fold.status is None
            if not fresh and self._state is not _State.RESUMED:
                raise
            await self._ended_meanwhile()
            return
        if update is None:
            state = self.fold.status.state if self.fold.status else TaskState.UNKNOWN
            if state.is_interrupted and self._last_status_live:
                self.done = True
            else:
                await self._dropped(lost(self._connection))
            return
        before = len(self.out)
        await self._take(update)
        if len(self.out) > before:
            self._failures = 0

    async def _open(self) -> None:
        if self._state is _State.NEW and self._spec is not None:
            self._state = _State.SENT
            opened = await self._session.calls.stream(self._spec)
        else:
            if self._state is _State.SENT:
                self._state = _State.SUBSCRIBED
            try:
                opened = await self._session.calls.subscribe(self.fold.task_id)
            except UnsupportedOperation:
                await self._ended_meanwhile()
                return
            except TransportError as why:
                if self._state is not _State.RESUMED or why.phase not in DROPPED:
                    raise
                await self._dropped(why)
                return
        if isinstance(opened, Task):  # answered at once instead of with a stream
            self._snapshot(opened)
            if not self.done and opened.status.state.is_interrupted:
                self.done = True
            return
        self._connection = opened
        self._connected = asyncio.get_running_loop().time()
        if self._state is _State.RESUMED:
            self._warn(BACK)

    async def _dropped(self, why: TransportError) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._note_end()
            await connection.aclose()
        if not self._reconnect or not self.fold.task_id:
            raise why
        await self._pause(why)
        self._lost = why
        self._state = _State.RESUMED

    async def _ended_meanwhile(self) -> None:
        """A peer does not stream a task that has ended: it is asked for instead."""
        task = await self._session.get(self.fold.task_id)
        if not task.status.state.is_terminal and not task.status.state.is_interrupted:
            raise UnsupportedOperation(
                f"the agent does not stream task {task.id}, which is {task.status}",
                dialect=self._session.dialect,
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
        if self._state is _State.RESUMED and await self._took_first(update):
            return
        subscribed = self._state is _State.SUBSCRIBED
        if update.task is not None:
            # what is known of an older task by the snapshot alone is no reason to stop
            self._last_status_live = subscribed
            self._snapshot(update.task)
            return
        self._uncertain |= subscribed and update.append
        if subscribed and self._repeated(update):
            return
        if update.status is not None:
            self._last_status_live = True
        if update.final and self._uncertain:
            await self._settle()
        self._emit(update)
        self.done = self.done or update.final

    async def _took_first(self, update: TaskUpdate) -> bool:
        """Catches up, at the first update since the connection is back, with what was
        missed; whether that tells all that `update` does."""
        if update.task is None:  # no snapshot: what came in between is asked for
            task = await self._session.get(self.fold.task_id)
            pieces = (piece.artifact for piece in self.fold.missing(task))
            self._ahead = {piece.id: Ahead(piece.parts) for piece in pieces if piece}
        else:
            task = update.task
        self._catch_up(task)
        self._state = _State.SUBSCRIBED
        self._last_status_live = True
        if self.done or update.task is not None:
            return True
        return update.status is not None and self.fold.seen(update.status)

    async def _settle(self) -> None:
        """Compares with the task as the peer has it: pieces are not numbered, and those
        that came both in a snapshot and live cannot be told from others."""
        with contextlib.suppress(A2aError):
            task = await self._session.get(self.fold.task_id)
            if task.status.state.is_terminal:
                for update in list(self.fold.missing(task, gap=True)):
                    self._emit(update)

    def _repeated(self, update: TaskUpdate) -> bool:
        """Whether a snapshot has told this already: servers repeat what is latest."""
        if update.status is not None:
            return not update.final and self.fold.seen(update.status)
        if update.artifact is None:
            return False
        if update.append:
            return self._repeated_piece(update.artifact)
        return self.fold.has(update.artifact)

    def _repeated_piece(self, piece: Artifact) -> bool:
        """Whether the task that was asked for was ahead of the stream by this piece."""
        ahead = self._ahead.pop(piece.id, None)
        if ahead is None or not ahead.skip(piece.parts):
            return False
        self._ahead[piece.id] = ahead
        return True
