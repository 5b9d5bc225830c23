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
    TaskNotFound,
    TransportError,
    UnsupportedOperation,
)
from .artifacts import Artifact
from .calls import Connection
from .fold import Ahead, Fold
from .types import Task, TaskSpec, TaskState, TaskUpdate

if TYPE_CHECKING:
    from .client import A2aClient

# A peer tells of the end before the task can be asked for.
STORED_AFTER = (0.02, 0.04, 0.08, 0.16, 0.32)

BACK = "the connection was lost and is back; events may be missing"
DROPPED = ("read", "idle", "connect", "write", "status")  # phases of a lost connection


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
        self._connected = 0.0  # when, by the loop's clock
        self._failures = 0  # to get back to a stream, or by streams that told nothing new

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
        status = self.fold.status
        if status is not None and status.state.is_terminal:
            self._client._gate.gone(self.fold.task_id)
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
        if lasted > self._client._retry.stream_longest_pause:
            self._failures = 0

    async def _pause(self, why: TransportError, until: asyncio.Task[Task] | None = None) -> None:
        """Waits before another attempt to connect, or until something is done; raises
        `why` after too many."""
        retry = self._client._retry
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

    async def _stored(self, task_id: str) -> Task | None:
        """The task at the peer, which may need a moment to store it."""
        for pause in (*STORED_AFTER, None):
            try:
                return await self._client._get(task_id)
            except TaskNotFound:
                if pause is not None:
                    await asyncio.sleep(pause)
        return None


def lost(connection: Connection | None) -> TransportError:
    url = None if connection is None else connection.url
    text = "the stream" + (f" from {url}" if url else "") + " ended before the task did"
    return TransportError(text, phase="stream", retryable=True, url=url)


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
        self._lost: TransportError | None = None  # what the last connection was lost by
        self._last_status_live = False
        self._ahead: dict[str, Ahead] = {}  # what a task held before the stream did
        self._doubtful = False  # a piece may have been told twice, or not at all

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
                await self._dropped(lost(self._connection))
            return
        before = len(self.out)
        await self._take(update)
        if len(self.out) > before:
            self._failures = 0

    async def _open(self) -> None:
        if not self._sent and self._spec is not None:
            self._sent = True
            opened = await self._client._calls.stream(self._spec)
        else:
            self._subscribed = True
            try:
                opened = await self._client._calls.subscribe(self.fold.task_id)
            except UnsupportedOperation:
                await self._ended_meanwhile()
                return
            except TransportError as why:
                if not self._resumed or why.phase not in DROPPED:
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
        if self._resumed:
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
        fold = self.fold
        if self._resumed:
            if update.task is None:  # no snapshot: what came in between is asked for
                task = await self._client._get(fold.task_id)
                pieces = (piece.artifact for piece in fold.missing(task))
                self._ahead = {piece.id: Ahead(piece.parts) for piece in pieces if piece}
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
        ahead = self._ahead.pop(piece.id, None)
        if ahead is None or not ahead.skip(piece.parts):
            return False
        self._ahead[piece.id] = ahead
        return True


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
