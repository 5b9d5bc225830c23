"""Searches on an event loop.

Each loop has one channel. What the tasks of one turn of the loop ask for is submitted in
one call at its end, so that it can be answered together. The library's threads do the
work and leave the results in a queue; its descriptor wakes the loop, which then resolves
the futures. Only adapters, which run Python, are asked on threads made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, Union

from ruvector import _core
from ruvector.errors import LakeError

from .adapter import acquire_in_threads, errand

if TYPE_CHECKING:
    from ruvector._core import _Job, _Lake, _Pin
    from ruvector._types import Key

    _Shard = Union[Key, _Pin]

ONE, BATCH, FEDERATED, PRIME = range(4)  # kinds of jobs
T = TypeVar("T")

ADAPTER_THREADS = 16
POLL_MS = 500  # how often a waiting thread looks whether its loop is still there


class _Future(asyncio.Future[Any]):
    """Cancelling it stops its job at once, not when the loop gets to its callbacks."""

    tag: int | None = None
    channel: _Channel

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        self.channel.cancel(self)
        return True


class _Channel:
    """The searches of one event loop. Refers to the loop weakly: the loop owns it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = _core._Completions()
        self._futures: dict[int, _Future] = {}
        self._waiting: list[tuple[_Future, _Lake, _Job, list[_Shard]]] = []
        if not self._watched_by(loop):
            _Watcher(loop, self, self._queue).start()

    def _watched_by(self, loop: asyncio.AbstractEventLoop) -> bool:
        if self._queue.fd < 0:  # Windows has no such descriptor
            return False
        try:
            loop.add_reader(self._queue.fd, self._deliver)
        except (NotImplementedError, ValueError, OSError):  # not on this loop
            return False
        return True

    def submit(
        self,
        loop: asyncio.AbstractEventLoop,
        lake: _Lake,
        job: _Job,
        shards: list[_Shard],
    ) -> _Future:
        future = _Future(loop=loop)
        future.channel = self
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((future, lake, job, shards))
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        lakes: dict[int, _Lake] = {}
        groups: dict[int, list[tuple[_Future, _Job, list[_Shard]]]] = {}
        for future, lake, job, shards in waiting:
            if not future.done():
                lakes[id(lake)] = lake
                groups.setdefault(id(lake), []).append((future, job, shards))
        for number, group in groups.items():
            self._submit(lakes[number], group)

    def _submit(self, lake: _Lake, group: list[tuple[_Future, _Job, list[_Shard]]]) -> None:
        try:
            first = self._queue.submit(lake, [(job, shards) for _, job, shards in group])
        except Exception as error:
            if len(group) == 1:
                group[0][0].set_exception(error)
            else:  # all are taken or none: find out whose fault it is
                for alone in group:
                    self._submit(lake, [alone])
            return
        for tag, (future, _, _) in enumerate(group, first):
            future.tag = tag
            self._futures[tag] = future

    def _deliver(self) -> None:
        for tag, value in self._queue.take():
            future = self._futures.pop(tag, None)
            if future is None or future.done():
                continue
            if isinstance(value, BaseException):
                future.set_exception(value)
            else:
                future.set_result(value)

    def cancel(self, future: _Future) -> None:
        if future.tag is not None and self._futures.pop(future.tag, None) is not None:
            self._queue.cancel(future.tag)

    def fail(self, error: Exception) -> None:
        """All that waits raises it, should its loop go on."""
        for future in [*self._futures.values(), *(waiting[0] for waiting in self._waiting)]:
            with contextlib.suppress(RuntimeError):  # a loop of another thread, or closed
                if not future.done():
                    future.set_exception(error)
        self._futures.clear()
        self._waiting.clear()

    def drop(self) -> None:
        """Of a loop that is closed: its futures would keep it alive."""
        for tag in self._futures:
            self._queue.cancel(tag)
        self._futures.clear()
        self._waiting.clear()


class _Watcher(threading.Thread):
    """Waits for results in place of a loop that cannot, until the loop is gone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, channel: _Channel, queue: _core._Completions
    ) -> None:
        super().__init__(name="ruvector-results", daemon=True)
        self._loop = weakref.ref(loop)
        self._channel = weakref.ref(channel)
        self._queue = queue
        self._taken = threading.Event()

    def run(self) -> None:
        while True:
            some = self._queue.wait(POLL_MS)
            loop, channel = self._loop(), self._channel()
            if loop is None or channel is None or loop.is_closed():
                return
            if not some:
                continue
            self._taken.clear()
            try:
                loop.call_soon_threadsafe(self._take, channel)
            except RuntimeError:  # closed just now
                return
            del loop, channel
            self._taken.wait(POLL_MS / 1000)

    def _take(self, channel: _Channel) -> None:
        channel._deliver()
        self._taken.set()


_channels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Channel]
_channels = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _channel_of(loop: asyncio.AbstractEventLoop) -> _Channel:
    channel = _channels.get(loop)
    if channel is None:
        with _lock:
            for other in [other for other in _channels if other.is_closed()]:
                _channels.pop(other).drop()
            channel = _channels[loop] = _Channel(loop)
    return channel


# ---- threads for adapters ----------------------------------------------------------

_threads: ThreadPoolExecutor | None = None


def _executor(alone: bool) -> ThreadPoolExecutor:
    global _threads
    if alone:
        return ThreadPoolExecutor(1, "ruvector-adapter")
    with _lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(ADAPTER_THREADS, "ruvector-adapter")
        return _threads


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    """The call, made on a thread for adapters.

    What an adapter asks for in its turn gets a thread of its own: with all of the others
    waiting for such answers, none would ever be free.
    """
    asked = errand()
    run = contextvars.copy_context().run

    def work() -> tuple[Any, BaseException | None]:
        # a future takes no StopIteration, and would never be done
        try:
            return run(_core._on_errand, asked, function, *args), None
        except BaseException as error:
            return None, error

    threads = _executor(asked is not None)
    working = asyncio.get_running_loop().run_in_executor(threads, work)
    if asked is not None:
        threads.shutdown(wait=False)
    value, error = await working
    try:
        if error is not None:
            raise error
        result: T = value
        return result
    finally:
        del error  # it knows this frame


# ---- fork ---------------------------------------------------------------------------


def _start_anew() -> None:
    """In the child of a fork: who held the lock, and who was to answer, is not there."""
    global _threads, _lock
    _threads = None
    _lock = threading.Lock()
    for channel in list(_channels.values()):
        channel.fail(LakeError("the process forked while this search was under way; ask again"))
    _channels.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


# ---- searches ----------------------------------------------------------------------


async def search(
    lake: _Lake, job: _Job, collection: str, backend: str | None, cached_only: bool
) -> Any:
    key: Key = collection if backend is None else (backend, collection)
    shard: _Shard = key
    if lake._asks_python(collection, backend):
        shard = await _in_thread(lake._acquire, key, cached_only)
    loop = asyncio.get_running_loop()
    return await _channel_of(loop).submit(loop, lake, job, [shard])


def _pins(
    lake: _Lake, collection: str | None, targets: Iterable[Key] | None, cached_only: bool
) -> list[_Shard]:
    keys = lake._shards(collection, targets)
    return [*acquire_in_threads(lake, keys, cached_only)] if keys else []


async def search_federated(
    lake: _Lake,
    job: _Job,
    collection: str | None,
    targets: Iterable[Key] | None,
    cached_only: bool,
) -> Any:
    shards: list[_Shard]
    if lake._asks_python(None, None):
        shards = await _in_thread(_pins, lake, collection, targets, cached_only)
    else:
        shards = [*lake._shards(collection, targets)]
    if not shards:
        return []
    loop = asyncio.get_running_loop()
    return await _channel_of(loop).submit(loop, lake, job, shards)


async def prime(lake: _Lake, key: Key) -> str:
    backend, collection = (None, key) if isinstance(key, str) else key
    if lake._asks_python(collection, backend):
        return await _in_thread(lake.prime, key)
    job = _core._Job(lake, PRIME, None, 1, None, False)
    loop = asyncio.get_running_loop()
    witness: str = await _channel_of(loop).submit(loop, lake, job, [key])
    return witness
