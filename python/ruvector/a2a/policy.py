"""What may be sent: policies of tasks, budgets across tasks, and loops between agents.

Peers need not enforce a caller's limits, so they are enforced here, before a byte is
sent. No I/O but for the wait of a budget that queues.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from typing import Callable, NamedTuple

from ..errors import BudgetExceeded, PolicyViolation, RecursionLimit
from .types import TaskContext, TaskPolicy, TaskSpec, check_amount

MAX_DEPTH = 8

_WINDOW_S = 60.0
_TOLERANCE_USD = 1e-9


def _violation(name: str, limit: object, actual: object, text: str) -> PolicyViolation:
    return PolicyViolation(
        f"the task's policy forbids this: {text}", field=name, limit=limit, actual=actual
    )


def check_policy(spec: TaskSpec, active: int) -> None:
    """Refuses what `spec.policy` does not allow.

    `active` counts the tasks of the same skill at the same agent that have not ended.
    Estimates that are missing are not checked; one that equals its limit passes.

    Raises:
        PolicyViolation: with the field, its limit and what was found.
    """
    policy: TaskPolicy | None = spec.policy
    if policy is None:
        return
    allowed = policy.allowed_skills
    if allowed is not None and spec.skill not in allowed:
        text = f"skill {spec.skill!r} is not among {list(allowed)}"
        raise _violation("allowed_skills", allowed, spec.skill, text)
    limit = policy.max_concurrency
    if limit is not None and active >= limit:
        text = f"{active} tasks of skill {spec.skill!r} run already, at most {limit} may"
        raise _violation("max_concurrency", limit, active, text)
    cost, most = spec.estimated_cost_usd, policy.max_cost_usd
    if cost is not None and most is not None and cost > most:
        text = f"it is estimated to cost {cost} USD, more than {most}"
        raise _violation("max_cost_usd", most, cost, text)
    tokens, cap = spec.estimated_tokens, policy.max_tokens
    if tokens is not None and cap is not None and tokens > cap:
        text = f"it is estimated to take {tokens} tokens, more than {cap}"
        raise _violation("max_tokens", cap, tokens, text)


def check_recursion(context: TaskContext | None, target: str | None) -> None:
    """Refuses a task that was handed on too often or comes back to an agent.

    Raises:
        RecursionLimit: with the depth and the agents on the way.
    """
    if context is None:
        return
    again = target is not None and target in context.visited_agents
    if context.depth > MAX_DEPTH or again:
        why = "it was there before" if again else f"at most {MAX_DEPTH} hand-overs are allowed"
        raise RecursionLimit(
            f"the task is not handed on at depth {context.depth}: {why}",
            depth=context.depth,
            path=context.visited_agents,
        )


class _Full(NamedTuple):
    """A budget without room: seconds until some may be free, and what is exceeded."""

    pause: float
    dim: str
    total: float
    limit: float


def _over_budget(dim: str, total: float, limit: float, more: str = "") -> BudgetExceeded:
    return BudgetExceeded(
        f"the budget of {limit} {dim} a minute would be exceeded: {total}{more}",
        dim=dim,
        limit=limit,
        current=total,
    )


class GlobalBudget:
    """Limits over all tasks of the last 60 seconds. May be shared, also by threads.

    Args:
        max_usd_per_minute, max_tokens_per_minute: sums of the tasks' estimates.
        max_tasks_per_minute: number of tasks.
        overflow: what happens to a task over the limit: "shed" refuses it, "queue"
            lets it wait until older tasks leave the window.
        queue_depth: so many tasks wait at most.
        max_wait_s: and so long.
    """

    def __init__(
        self,
        *,
        max_usd_per_minute: float | None = None,
        max_tokens_per_minute: int | None = None,
        max_tasks_per_minute: int | None = None,
        overflow: str = "shed",
        queue_depth: int = 1000,
        max_wait_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if overflow not in ("shed", "queue"):
            raise ValueError(f"overflow is 'shed' or 'queue', not {overflow!r}")
        check_amount("max_usd_per_minute", max_usd_per_minute, whole=False)
        check_amount("max_tokens_per_minute", max_tokens_per_minute)
        check_amount("max_tasks_per_minute", max_tasks_per_minute)
        check_amount("queue_depth", queue_depth)
        if not max_wait_s >= 0:
            raise ValueError(f"max_wait_s is at least 0, not {max_wait_s!r}")
        self._limits = {
            "usd": max_usd_per_minute,
            "tokens": max_tokens_per_minute,
            "tasks": max_tasks_per_minute,
        }
        self._queueing = overflow == "queue"
        self._queue_depth = queue_depth
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[tuple[float, dict[str, float]]] = deque()
        self._waiting = 0
        _budgets.add(self)

    def _in_child(self) -> None:
        """Another thread may have held the lock when the process forked. Its tasks and
        those that wait are the parent's."""
        self._lock = threading.Lock()
        self._waiting = 0

    def _exceeded(self, new: dict[str, float]) -> tuple[str, float, float] | None:
        """The first limit that `new` would break: its name, the sum and the limit."""
        for dim, limit in self._limits.items():
            if limit is None:
                continue
            total = new[dim] + sum(entry[dim] for _, entry in self._entries)
            if total > limit + (_TOLERANCE_USD if dim == "usd" else 0):
                return dim, total, limit
        return None

    def _admit(self, new: dict[str, float], *, waiting: bool) -> _Full | None:
        """Records `new`, or tells what it has to wait for.

        `waiting` says that `new` is among those that wait already.
        """
        with self._lock:
            now = self._clock()
            while self._entries and now - self._entries[0][0] >= _WINDOW_S:
                self._entries.popleft()
            over = self._exceeded(new)
            if over is None:
                if any(limit is not None for limit in self._limits.values()):
                    self._entries.append((now, new))
                self._waiting -= waiting
                return None
            dim, total, limit = over
            alone = new[dim] > limit + _TOLERANCE_USD
            full = not waiting and self._waiting >= self._queue_depth
            if alone or full or not self._queueing:
                raise _over_budget(dim, total, limit)
            self._waiting += not waiting
            return _Full(max(self._entries[0][0] + _WINDOW_S - now, 0.001), *over)

    async def acquire(self, spec: TaskSpec) -> dict[str, float]:
        """Charges a task, waiting for its turn if the budget queues.

        Returns what :meth:`release` takes back.

        Raises:
            BudgetExceeded: there is no room, or none within `max_wait_s`.
        """
        new: dict[str, float] = {
            "usd": spec.estimated_cost_usd or 0.0,
            "tokens": spec.estimated_tokens or 0,
            "tasks": 1,
        }
        until = self._clock() + self._max_wait_s
        full = self._admit(new, waiting=False)
        try:
            while full is not None:
                if self._clock() + full.pause > until:
                    waited = f", no room for {self._max_wait_s} s"
                    raise _over_budget(full.dim, full.total, full.limit, waited)
                await asyncio.sleep(full.pause)
                full = self._admit(new, waiting=True)
        except BaseException:
            with self._lock:
                self._waiting -= 1
            raise
        return new

    def release(self, charged: dict[str, float]) -> None:
        """Takes back the charge of a task that was never sent."""
        with self._lock:
            for i, (_, entry) in enumerate(self._entries):
                if entry is charged:
                    del self._entries[i]
                    return


_budgets: weakref.WeakSet[GlobalBudget] = weakref.WeakSet()


def _in_child() -> None:
    for budget in list(_budgets):
        budget._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
