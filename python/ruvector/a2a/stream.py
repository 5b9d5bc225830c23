"""The updates of one task, as something to iterate over."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import A2aError, PolicyViolation, TransportError
from .types import Task, TaskStatus, TaskUpdate

if TYPE_CHECKING:
    from .client import A2aClient
    from .feeds import Feed


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

    def __init__(self, client: A2aClient, feed: Feed, *, cancel_remote: bool = False) -> None:
        self._client = client
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
        self._client._check_loop()
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
                await self._client._before_deadline(lambda: feed.key, feed.step())
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
        await self._client._in_background(self._feed.aclose())

    async def aclose(self) -> None:
        """Closes the connection. The task goes on unless `cancel_remote` was asked for."""
        if self._closed:
            return
        self._closed = True
        unfinished = not self._feed.done and self._started
        task_id = self._feed.fold.task_id
        await self._release()
        if unfinished and self._cancel_remote and task_id:
            await self._client._in_background(self._client._try_cancel(task_id), limit=None)

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
        if self._closed or not self._started or self._feed.done or not self._client._is_here():
            return
        _warn(f"{self!r} was not closed; use 'async with'", ResourceWarning, source=self)
        with contextlib.suppress(RuntimeError):  # the loop is gone, and the socket with it
            self._client._loop.call_soon_threadsafe(_close_later, self._client, self._feed)


def _close_later(client: A2aClient, feed: Feed) -> None:
    client._spawn(feed.aclose())
