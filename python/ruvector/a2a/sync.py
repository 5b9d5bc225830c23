"""The client for programs without an event loop: the same methods, blocking.

One loop runs in a daemon thread for each client; any thread may call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from .card import AgentCard
from .client import A2aClient
from .parts import Input
from .stream import TaskStream
from .types import Task, TaskSpec, TaskStatus, TaskUpdate, Trust

_T = TypeVar("_T")


class _Loop:
    """A running event loop in a thread of its own."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="ruvector-a2a", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # What a callback raises ends its call and comes out there. SystemExit and
        # KeyboardInterrupt end the loop as well, and the call would wait for ever.
        while not self._stopped:
            with contextlib.suppress(BaseException):
                self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`. Ctrl-C and whatever else ends the wait cancels it."""
        try:
            self._check()
        except RuntimeError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("this client belongs to the parent process; connect again")
        if self._loop.is_closed() or not self._thread.is_alive():
            raise RuntimeError("this client is closed")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError("inside an event loop use A2aClient.connect, which is awaited")

    @property
    def usable(self) -> bool:
        return os.getpid() == self._pid and not self._loop.is_closed()

    def stop(self) -> None:
        if self.usable:
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join()

    def _end(self) -> None:
        self._stopped = True
        self._loop.stop()

    def stop_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Ends the thread when `work` is done, without waiting for either."""
        last = asyncio.run_coroutine_threadsafe(work, self._loop)
        last.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._end))


class SyncTaskStream:
    """As :class:`TaskStream`, with ``for`` and ``with``."""

    def __init__(self, client: SyncA2aClient, loop: _Loop, stream: TaskStream) -> None:
        self._client = client  # which must not be dropped before its streams
        self._loop = loop
        self._stream = stream

    @property
    def task_id(self) -> str | None:
        return self._stream.task_id

    @property
    def task(self) -> Task | None:
        return self._stream.task

    @property
    def status(self) -> TaskStatus | None:
        return self._stream.status

    def __iter__(self) -> Iterator[TaskUpdate]:
        return self

    def __next__(self) -> TaskUpdate:
        update = self._loop.run(_next(self._stream))
        if update is None:
            raise StopIteration
        return update

    def close(self) -> None:
        self._loop.run(self._stream.aclose())

    def __enter__(self) -> SyncTaskStream:
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _next(stream: TaskStream) -> TaskUpdate | None:
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


class SyncA2aClient:
    """As :class:`A2aClient`, blocking. Made by ``A2aClient.connect_sync``."""

    def __init__(self, url: str, **options: Any) -> None:
        self._closed = True
        self._loop = _Loop()
        try:
            self._client = self._loop.run(A2aClient.connect(url, **options))
        except BaseException:
            self._loop.stop()
            raise
        self._closed = False

    @property
    def card(self) -> AgentCard:
        return self._client.card

    @property
    def trust(self) -> Trust:
        return self._client.trust

    @property
    def dialect(self) -> str:
        return self._client.dialect

    @property
    def endpoint(self) -> str:
        return self._client.endpoint

    def __repr__(self) -> str:
        return f"Sync{self._client!r}"

    def refresh_card(self, force: bool = False) -> AgentCard:
        return self._loop.run(self._client.refresh_card(force))

    def send_task(
        self, spec: TaskSpec, *, wait: bool | None = None, timeout: float | None = None
    ) -> Task:
        return self._loop.run(self._client.send_task(spec, wait=wait, timeout=timeout))

    def stream_task(self, task: TaskSpec | Task | str, **options: Any) -> SyncTaskStream:
        async def make() -> TaskStream:
            return self._client.stream_task(task, **options)

        return SyncTaskStream(self, self._loop, self._loop.run(make()))

    def resubscribe(self, task_id: str, **options: Any) -> SyncTaskStream:
        return self.stream_task(task_id, **options)

    def get_task(self, task_id: str, *, history_length: int | None = None) -> Task:
        return self._loop.run(self._client.get_task(task_id, history_length=history_length))

    def cancel_task(self, task_id: str, *, strict: bool = False) -> Task:
        return self._loop.run(self._client.cancel_task(task_id, strict=strict))

    def wait_task(
        self,
        task: Task | str,
        *,
        timeout: float | None = None,
        poll: tuple[float, float] = (0.5, 5.0),
    ) -> Task:
        return self._loop.run(self._client.wait_task(task, timeout=timeout, poll=poll))

    def reply(
        self, task: Task, input: Input, *, wait: bool | None = None, timeout: float | None = None
    ) -> Task:
        return self._loop.run(self._client.reply(task, input, wait=wait, timeout=timeout))

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        self._closed = True
        try:
            self._loop.run(self._client.aclose())
        finally:
            self._loop.stop()

    def __enter__(self) -> SyncA2aClient:
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._closed or not self._loop.usable:
            return
        _warn(f"{self!r} was not closed; use 'with'", ResourceWarning, source=self)
        self._loop.stop_after(self._client.aclose())
