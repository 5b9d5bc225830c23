"""What a client and its streams stand on: one agent, the calls to it, the tasks that run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from ..errors import A2aError, PolicyViolation, TaskNotCancelable, TaskNotFound, TransportError
from . import codec_rvagent
from .calls import Calls
from .card import AgentCard
from .discovery import Discovery
from .extra import need
from .limits import Retry
from .parts import Message, Part
from .policy import GlobalBudget, check_policy, check_recursion
from .transport import Transport
from .types import Task, TaskSpec, TaskState, TaskStatus, Trust

_T = TypeVar("_T")

# A peer tells of a change before the task can be asked for: seconds between two questions.
_STORED_AFTER = (0.02, 0.04, 0.08, 0.16, 0.32)


@dataclass(frozen=True)
class Deadline:
    at: float  #: of the monotonic clock
    limit_ms: int


class Gate:
    """What one client's tasks have to pass, and those of them that have not ended.

    A task is known by its id, or, until the peer has given it one, by an object that
    stands for it.
    """

    def __init__(self, budget: GlobalBudget | None) -> None:
        self._budget = budget
        self._running: dict[object, tuple[TaskSpec, Deadline | None]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def spec(self, task_id: str) -> TaskSpec | None:
        """What a running task was asked to do."""
        entry = self._running.get(task_id)
        return entry[0] if entry else None

    def deadline(self, key: object) -> Deadline | None:
        entry = self._running.get(key)
        return entry[1] if entry else None

    async def admit(self, spec: TaskSpec, target: str | None) -> object:
        """Lets a task for the agent `target` start; returns what it is known by.

        Raises:
            BudgetExceeded, RecursionLimit, PolicyViolation: it may not.
        """
        charged = None if self._budget is None else await self._budget.acquire(spec)
        try:
            check_recursion(spec.context, target)
            active = sum(
                other.skill == spec.skill
                for known_as, (other, _) in self._running.items()
                if spec.id is None or known_as != spec.id  # one that goes on takes no more room
            )
            check_policy(spec, active)
        except A2aError:
            if self._budget is not None and charged is not None:
                self._budget.release(charged)
            raise
        limit = spec.policy.max_duration_ms if spec.policy else None
        deadline = None if limit is None else Deadline(time.monotonic() + limit / 1000, limit)
        key: object = spec.id or object()
        self._running[key] = (spec, deadline)
        return key

    def rename(self, key: object, task_id: str) -> None:
        """The peer has given a task its id; "" if it keeps none."""
        entry = self._running.pop(key, None)
        if entry is not None and task_id:
            self._running[task_id] = entry

    def discard(self, key: object) -> None:
        """A task has ended, or never began."""
        self._running.pop(key, None)

    def record(self, task: Task) -> None:
        """The peer has told of a task: whether it has ended."""
        if task.status.state.is_terminal:
            self.discard(task.id)


class Session:
    """The agent as it is known now, calls to it, and what of them is still under way.

    Bound to the event loop and to the process it was made in.
    """

    def __init__(
        self,
        discovery: Discovery,
        transport: Transport,
        *,
        retry: Retry,
        identity: str | None,
        budget: GlobalBudget | None,
    ) -> None:
        self.calls = Calls(transport, discovery.ways)
        self.gate = Gate(budget)
        self.retry = retry
        self._discovery = discovery
        self._transport = transport
        self._identity = identity
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._closed = False
        self._background: set[asyncio.Task[Any]] = set()
        # calls whose streams were left, and the tasks they started
        self._left: dict[asyncio.Task[Task], str | None] = {}

    # ---- the agent -------------------------------------------------------------------

    @property
    def card(self) -> AgentCard:
        card = self._discovery.card
        assert card is not None
        return card

    @property
    def trust(self) -> Trust:
        return self._discovery.trust

    @property
    def dialect(self) -> str:
        return self.calls.way.dialect

    @property
    def endpoint(self) -> str:
        return self.calls.way.url

    async def refresh_card(self, *, force: bool) -> None:
        before = self._discovery.ways
        await self._discovery.refresh(force=force)
        if self._discovery.ways != before:
            self.calls.choose(self._discovery.ways)

    # ---- lifetime --------------------------------------------------------------------

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made the session, and no child of it."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Refuses another process, another event loop, and a session that is closed."""
        if not self.is_here:
            raise RuntimeError("this client belongs to the parent process; connect again")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this client belongs to another event loop; connect again")
        if self._closed:
            raise RuntimeError("this client is closed")

    async def aclose(self) -> None:
        if not self.is_here:
            self._closed = True
            return  # the connections are the parent's, who would miss them
        if asyncio.get_running_loop() is not self._loop:
            if self._loop.is_closed():
                self._closed = True
                return  # the connections went with it
            raise RuntimeError("this client belongs to another event loop; close it there")
        self._closed = True
        for call in self._left:
            call.cancel()
        if self._background or self._left:
            await asyncio.wait({*self._background, *self._left}, timeout=1.0)
        await self._transport.aclose()

    # ---- work beside the caller's ----------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing runs that the caller does not wait for."""
        return not self._background and not self._left

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    async def in_background(
        self, work: Coroutine[Any, Any, Any], limit: float | None = 1.0
    ) -> None:
        """Does `work` to its end even if the caller is cancelled; waits for it a while."""
        await asyncio.wait({self._spawn(work)}, timeout=limit)

    def soon(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Has the loop do `work`; for finalizers, which run in any thread, at any time."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and the sockets with it
            self._loop.call_soon_threadsafe(lambda: self._spawn(work()))

    def let_finish(self, call: asyncio.Task[Task], spec: TaskSpec) -> None:
        """Keeps the call that started a task until it returns or the session is closed."""

        def done(call: asyncio.Task[Task]) -> None:
            self._left.pop(call, None)
            if call.cancelled() or call.exception() is not None:
                self.gate.discard(spec.id)
            else:
                self.gate.record(call.result())

        self._left[call] = spec.id
        call.add_done_callback(done)

    # ---- tasks -----------------------------------------------------------------------

    def complete(self, spec: TaskSpec) -> TaskSpec:
        """`spec` with all that the peer wants to know.

        Raises:
            TypeError, ValueError: it cannot be sent.
        """
        if not isinstance(spec, TaskSpec):
            raise TypeError(f"a TaskSpec is wanted, not {type(spec).__name__}")
        if self.dialect == "rvagent":
            spec = codec_rvagent.complete(spec, self._identity)
        self.calls.check(spec)
        return spec

    async def admit(self, spec: TaskSpec) -> object:
        """Lets a task start; returns what the gate knows it by until it has an id."""
        return await self.gate.admit(spec, self.card.agent_id)

    async def send(self, spec: TaskSpec, *, wait: bool) -> Task:
        timeouts = self._transport.timeouts
        timeout, allows = timeouts.read, "Timeouts(read=...)"
        if wait or self.dialect == "rvagent":
            timeout, allows = timeouts.task, "Timeouts(task=...)"
            if spec.policy is not None and spec.policy.max_duration_ms is not None:
                timeout = spec.policy.max_duration_ms / 1000 + 5.0
                allows = "TaskPolicy(max_duration_ms=...)"
        return await self.calls.send(spec, wait=wait, timeout=timeout, allows=allows)

    async def get(self, task_id: str, history_length: int | None = None) -> Task:
        task = await self.calls.get(task_id, history_length)
        self.gate.record(task)
        return task

    async def get_stored(self, task_id: str) -> Task | None:
        """The task at the peer, which may need a moment to store it."""
        for pause in (*_STORED_AFTER, None):
            try:
                return await self.get(task_id)
            except TaskNotFound:
                if pause is not None:
                    await asyncio.sleep(pause)
        return None

    async def poll(self, task_id: str, pauses: tuple[float, float] = (0.5, 5.0)) -> Task:
        """The task when it has ended or needs something from the caller.

        `pauses` is the first and the longest between two questions, in seconds.
        """
        pause, longest = pauses
        while True:
            # an rvAgent peer does not know a task before it has ended
            sent = self.gate.spec(task_id) is not None or task_id in self._left.values()
            try:
                found = await self.get(task_id)
            except TaskNotFound:
                if self.dialect != "rvagent" or not sent:
                    raise
            else:
                state = found.status.state
                if state.is_terminal or state.is_interrupted:
                    return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)

    async def cancel(self, task_id: str, *, strict: bool) -> Task:
        if self.dialect == "rvagent":
            return await self._cancel_rvagent(task_id, strict)
        try:
            task = await self.calls.cancel(task_id)
            self.gate.record(task)
        except TaskNotCancelable:
            if strict:
                raise
            task = await self.get(task_id)
            if not task.status.state.is_terminal:
                raise
            return task
        for pause in _STORED_AFTER:  # some servers answer with the state before
            if task.status.state.is_terminal:
                break
            await asyncio.sleep(pause)
            task = await self.get(task_id)
        return task

    async def _cancel_rvagent(self, task_id: str, strict: bool) -> Task:
        # the peer would turn a task that has ended into a canceled one
        with contextlib.suppress(TaskNotFound):
            task = await self.get(task_id)
            if task.status.state.is_terminal:
                if strict:
                    raise TaskNotCancelable(f"task {task_id} has ended: {task.status}")
                return task
        await self.calls.ask_to_cancel(task_id)
        try:
            return await self.get(task_id)
        except TaskNotFound:
            words = Message("agent", (Part("text", "canceled, unconfirmed"),))
            status = TaskStatus(TaskState.CANCELED, message=words)
            return Task(task_id, status, dialect=self.dialect)

    async def try_to_cancel(self, task_id: str) -> None:
        with contextlib.suppress(A2aError):
            await self.calls.ask_to_cancel(task_id)

    # ---- deadlines -------------------------------------------------------------------

    async def before_deadline(
        self,
        key: Callable[[], object],
        work: Coroutine[Any, Any, _T],
        timeout: float | None = None,
    ) -> _T:
        """Does `work` within `timeout` seconds and the own time of the task `key()`.

        Raises:
            PolicyViolation: the task's time is up. It was cancelled, as far as possible.
            TransportError: `timeout` is over.
        """
        deadline = self.gate.deadline(key())
        if deadline is None and timeout is None:
            return await work
        never = float("inf")
        left = never if deadline is None else max(deadline.at - time.monotonic(), 0.0)
        patience = never if timeout is None else timeout
        with need("anyio").move_on_after(min(left, patience)):
            return await work
        if deadline is None or patience < left:
            known = key()
            raise TransportError(
                f"the task did not end within timeout={timeout:g} s; it may be running",
                phase="read",
                task_id=known if isinstance(known, str) else None,
            )
        task_id = key()
        self.gate.discard(task_id)
        if isinstance(task_id, str):
            await self.in_background(self.try_to_cancel(task_id))
        raise PolicyViolation(
            f"the task took longer than the {deadline.limit_ms} ms its policy allows",
            field="max_duration_ms",
            limit=deadline.limit_ms,
        )
