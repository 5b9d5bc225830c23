"""Turns at the two libraries that run a model, and what a fork does to them.

A fork's child has one thread and finds every lock as others held it, those inside ONNX
Runtime and tokenizers included, which nobody can free from outside. So a fork waits until
no thread is inside them, which takes no longer than a batch or a text; threads that would
enter wait until it is over. In the child all turns are free again.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from types import TracebackType


class Turns:
    """`with turns:` runs for at most `limit` threads at once, and never across a fork.

    `lock` is for short work without callbacks; a fork's child has a free one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.free_all()
        _all.add(self)

    def free_all(self) -> None:
        self._left = threading.Semaphore(self._limit)
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        # First the turn: who waits for one at the gate must not hold up a fork.
        self._left.acquire()
        try:
            _gate.enter()
        except BaseException:  # an interrupt while waiting
            self._left.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _gate.leave()
        self._left.release()


class _Gate:
    """Counts the threads inside, and keeps others out while somebody forks."""

    def __init__(self) -> None:
        self._inside: list[int] = []  # threads, as often as each of them is
        self._renew()

    def _renew(self) -> None:
        # Reentrant, for a signal's handler may fork anywhere, these methods included: each
        # counts in one step, and goes on with the condition it has entered.
        self._changed = threading.Condition(threading.RLock())
        self._forks = 0

    def _mine(self) -> int:
        return self._inside.count(threading.get_ident())

    def enter(self) -> None:
        changed = self._changed
        with changed:
            while self._forks:
                changed.wait()
            self._inside.append(threading.get_ident())

    def leave(self) -> None:
        changed = self._changed
        with changed:
            self._inside.remove(threading.get_ident())
            changed.notify_all()

    def before_fork(self) -> None:
        # Held until after the fork: no other thread changes the counts meanwhile.
        self._changed.acquire()
        self._forks += 1
        while len(self._inside) > self._mine():
            self._changed.wait()

    def after_fork(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        self._inside[:] = [threading.get_ident()] * self._mine()
        self._renew()


_all: weakref.WeakSet[Turns] = weakref.WeakSet()
_gate = _Gate()


def _free_in_child() -> None:
    _gate.after_fork_in_child()
    for turns in list(_all):
        turns.free_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_gate.before_fork,
        after_in_parent=_gate.after_fork,
        after_in_child=_free_in_child,
    )

# For opening a model, which as many threads may do as like.
OPENING = Turns(sys.maxsize)
