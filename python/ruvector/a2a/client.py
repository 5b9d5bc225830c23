"""The client: an agent found, trusted, given tasks, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from ..errors import (
    A2aError,
    PolicyViolation,
    TaskNotCancelable,
    TaskNotFound,
    TransportError,
)
from . import address, codec_rvagent
from .calls import Calls
from .card import AgentCard
from .discovery import Discovery
from .extra import load_all, need
from .feed_rvagent import RvAgentFeed
from .feeds import STORED_AFTER, Feed, OfficialFeed, PollFeed
from .identity import parse_agent_id
from .jws import TrustedKeys
from .limits import Limits, Retry, Timeouts
from .parts import Input, Message, Part
from .policy import Gate, GlobalBudget
from .stream import TaskStream
from .transport import Transport
from .trust import Demands
from .types import (
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    Trust,
)

if TYPE_CHECKING:
    import ssl

    from .sync import SyncA2aClient

_T = TypeVar("_T")

_LIMITS, _TIMEOUTS, _RETRY = Limits(), Timeouts(), Retry()


class A2aClient:
    """Talks to one agent. Made by :meth:`connect`; bound to the event loop it was made in.

    ::

        async with await A2aClient.connect("https://agent.example.com") as client:
            task = await client.send_task(TaskSpec("summarise", "a long text"), wait=True)
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
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._discovery = discovery
        self._transport = transport
        self._retry = retry
        self._identity = identity
        self._gate = Gate(budget)
        self._background: set[asyncio.Task[Any]] = set()
        # calls whose streams were left, and the tasks they started
        self._left: dict[asyncio.Task[Task], str | None] = {}
        self._closed = False
        self._calls = Calls(transport, discovery.ways)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        agent_id: str | None = None,
        trusted_agents: Iterable[str] | None = None,
        trusted_keys: TrustedKeys = None,
        strict_verify: bool = True,
        dialect: str = "auto",
        endpoint: str | None = None,
        allow_origins: Iterable[str] = (),
        allow_insecure_http: bool = False,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        identity: str | None = None,
        budget: GlobalBudget | None = None,
        limits: Limits = _LIMITS,
        timeouts: Timeouts = _TIMEOUTS,
        retry: Retry = _RETRY,
        tls: ssl.SSLContext | None = None,
        http_client: Any = None,
        proxy: Any = None,
    ) -> A2aClient:
        """Fetches the agent's card, checks it, and chooses how to talk.

        Args:
            url: of the agent, or of its card if it ends in ``.json``.
            agent_id: the only agent to accept, by the id of its key.
            trusted_agents: agents to accept, if there are several.
            trusted_keys: keys, by ``kid`` or listed, that sign official cards (JWS):
                JWK, PEM, 32 bytes of Ed25519, or a key object of ``cryptography``.
            strict_verify: False accepts unsigned cards of rvAgent peers.
            dialect: "auto", or one of "rvagent", "0.2", "0.3", "1.0", "1.0-rest".
            endpoint: where to send requests, whatever the card says.
            allow_origins: origins a card may send requests to, besides that of `url`.
            allow_insecure_http: allow http to other machines.
            auth: :class:`Bearer`, :class:`ApiKey`, (user, password), an auth object of
                httpx2 or httpx, or a function that gets the request and returns it; used
                for the origin of `url` only.
            headers: sent along with every request to the origin of `url`.
            identity: the agent id of the caller, told to rvAgent peers.
            budget: limits over all tasks, may be shared by clients.
            tls: an ``ssl.SSLContext``, for certificates of one's own.
            http_client: an ``AsyncClient`` of httpx2 or httpx to use and not to close.
                Addresses are then not checked; its own proxies, auth, headers and cookies
                go with every request, and what it logs is its own affair.
            proxy: URL of a proxy, such as ``"http://user:password@host:3128"``, for all
                but this machine. Names are then looked up by the proxy, and the addresses
                not checked. Proxies in the environment are not used.

        Raises:
            CardSignatureInvalid: the card is not signed as it has to be.
            TransportError: the agent is not reached.
            A2aError: anything else about the card.
            ImportError: a package of the extra ``agent`` is not installed.
        """
        address.split(url)  # before anything is imported
        await asyncio.to_thread(load_all)
        demands = Demands.of(
            agent_id=agent_id,
            trusted_agents=trusted_agents,
            trusted_keys=trusted_keys,
            strict_verify=strict_verify,
            dialect=dialect,
            endpoint=endpoint,
            allow_origins=allow_origins,
        )
        transport = Transport(
            limits=limits,
            timeouts=timeouts,
            retry=retry,
            insecure=allow_insecure_http,
            tls=tls,
            auth=auth,
            auth_url=url,
            headers=headers,
            http_client=http_client,
            proxy=proxy,
        )
        try:
            discovery = Discovery(transport, url, demands)
            await discovery.refresh()
            return cls(
                discovery,
                transport,
                retry=retry,
                identity=None if identity is None else parse_agent_id(identity),
                budget=budget,
            )
        except BaseException:
            await transport.aclose()
            raise

    @staticmethod
    def connect_sync(url: str, **options: Any) -> SyncA2aClient:
        """As :meth:`connect`, for programs without an event loop."""
        from .sync import SyncA2aClient

        return SyncA2aClient(url, **options)

    # ---- what is known of the agent ------------------------------------------------

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
        return self._calls.way.dialect

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return self._calls.way.url

    def __repr__(self) -> str:
        return (
            f"A2aClient({self.card.name!r} at {self.endpoint}, dialect {self.dialect}, "
            f"trust {self.trust.level})"
        )

    async def refresh_card(self, force: bool = False) -> AgentCard:
        """The card, fetched again if it is no longer fresh or `force` is set.

        A new card that is not believed, or suddenly another agent's, raises and leaves
        the client as it was.
        """
        self._check_loop()
        before = self._discovery.ways
        await self._discovery.refresh(force=force)
        if self._discovery.ways != before:
            self._calls.choose(self._discovery.ways)
        return self.card

    # ---- tasks ------------------------------------------------------------------------

    async def send_task(
        self, spec: TaskSpec, *, wait: bool | None = None, timeout: float | None = None
    ) -> Task:
        """Hands a task over. It is sent at most once.

        An official agent answers as soon as it has the task; `wait` makes this call wait
        until the task has ended or needs something from the caller. An rvAgent peer
        always answers at the end.

        Raises:
            PolicyViolation, BudgetExceeded, RecursionLimit: refused, here (before
                anything was sent) or by the peer (`remote`).
            TransportError: the peer was not reached, or did not answer within `timeout`
                seconds. The task may be running all the same.
        """
        self._check_loop()
        spec = self._complete(spec)
        key = await self._admit(spec)
        named = ""
        # a task that may have to be cancelled needs its id before its end
        block = bool(wait) and self._gate.deadline(key) is None

        async def work() -> Task:
            nonlocal named
            task = await self._send(spec, wait=block)
            named = task.id
            self._gate.named(key, task.id)
            state = task.status.state
            if wait and task.id and not (state.is_terminal or state.is_interrupted):
                task = await self._poll(task.id)
            return task

        try:
            task = await self._before_deadline(lambda: named or key, work(), timeout)
        except BaseException:
            self._gate.gone(key)
            raise
        self._gate.saw(task)
        return task

    def stream_task(
        self,
        task: TaskSpec | Task | str,
        *,
        last_event_id: str | None = None,
        reconnect: bool = True,
        cancel_remote: bool = False,
    ) -> TaskStream:
        """The updates of a new task (from its spec), or of one the agent has (from its id).

        Args:
            last_event_id: rvAgent peers replay what came after this timestamp.
            reconnect: get back to the stream when the connection is lost.
            cancel_remote: cancel the task when the stream is left before its end.
        """
        self._check_loop()
        feed: Feed
        if isinstance(task, TaskSpec):
            feed = self._feed_of_spec(self._complete(task), reconnect)
            return TaskStream(self, feed, cancel_remote=cancel_remote)
        task_id = task.id if isinstance(task, Task) else task
        if not task_id:
            raise ValueError("the agent answered with a message; there is no task to watch")
        if self.dialect == "rvagent":
            feed = RvAgentFeed(
                self, task_id=task_id, last_event_id=last_event_id, reconnect=reconnect
            )
        elif not self.card.capabilities.streaming:
            feed = PollFeed(self, task_id=task_id)
        else:
            feed = OfficialFeed(self, task_id=task_id, reconnect=reconnect)
        return TaskStream(self, feed, cancel_remote=cancel_remote)

    def resubscribe(
        self, task_id: str, *, last_event_id: str | None = None, reconnect: bool = True
    ) -> TaskStream:
        """As :meth:`stream_task` of an id."""
        return self.stream_task(task_id, last_event_id=last_event_id, reconnect=reconnect)

    async def get_task(self, task_id: str, *, history_length: int | None = None) -> Task:
        """The task as it is now.

        Raises:
            TaskNotFound: the agent does not know it. An rvAgent peer says that of a task
                that is still running, too.
        """
        self._check_loop()
        return await self._get(task_id, history_length)

    async def cancel_task(self, task_id: str, *, strict: bool = False) -> Task:
        """Asks the agent to stop a task; the state of what comes back decides.

        A task that has ended already comes back as it is; `strict` makes that an error.

        Raises:
            TaskNotFound: the agent does not know it.
            TaskNotCancelable: it cannot be stopped.
        """
        self._check_loop()
        if self.dialect == "rvagent":
            return await self._cancel_rvagent(task_id, strict)
        try:
            task = await self._calls.cancel(task_id)
            self._gate.saw(task)
        except TaskNotCancelable:
            if strict:
                raise
            task = await self._get(task_id)
            if not task.status.state.is_terminal:
                raise
            return task
        for pause in STORED_AFTER:  # some servers answer with the state before
            if task.status.state.is_terminal:
                break
            await asyncio.sleep(pause)
            task = await self._get(task_id)
        return task

    async def wait_task(
        self,
        task: Task | str,
        *,
        timeout: float | None = None,
        poll: tuple[float, float] = (0.5, 5.0),
    ) -> Task:
        """Asks for the task until it has ended or needs something from the caller.

        `poll` is the first and the longest pause between two questions, in seconds.
        """
        self._check_loop()
        if isinstance(task, Task) and (not task.id or task.status.state.is_terminal):
            return task
        task_id = task.id if isinstance(task, Task) else task

        return await self._before_deadline(lambda: task_id, self._poll(task_id, poll), timeout)

    async def _poll(self, task_id: str, poll: tuple[float, float] = (0.5, 5.0)) -> Task:
        pause, longest = poll
        while True:
            # an rvAgent peer does not know a task before it has ended
            sent = self._gate.spec(task_id) is not None or task_id in self._left.values()
            try:
                found = await self._get(task_id)
            except TaskNotFound:
                if self.dialect != "rvagent" or not sent:
                    raise
            else:
                state = found.status.state
                if state.is_terminal or state.is_interrupted:
                    return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)

    async def reply(
        self, task: Task, input: Input, *, wait: bool | None = None, timeout: float | None = None
    ) -> Task:
        """Gives a task what it waits for, when it is input-required or auth-required."""
        before = self._gate.spec(task.id)
        spec = TaskSpec(
            skill=before.skill if before else None,
            input=input,
            policy=before.policy if before else None,
            id=task.id,
            context_id=task.context_id,
            context=before.context if before else None,
        )
        return await self.send_task(spec, wait=wait, timeout=timeout)

    # ---- lifetime ---------------------------------------------------------------------

    async def aclose(self) -> None:
        """Closes all connections. Tasks at the agent go on, but those of an rvAgent peer
        that were started by a stream and have not ended.

        Raises:
            RuntimeError: called in another event loop than the client's, which still runs.
        """
        if not self._is_here():
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

    async def __aenter__(self) -> A2aClient:
        return self

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _is_here(self) -> bool:
        """Whether this is the process that made the client, and no child of it."""
        return os.getpid() == self._pid

    def _check_loop(self) -> None:
        if not self._is_here():
            raise RuntimeError("this client belongs to the parent process; connect again")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this client belongs to another event loop; connect again")
        if self._closed:
            raise RuntimeError("this client is closed")

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    def _let_finish(self, call: asyncio.Task[Task], spec: TaskSpec) -> None:
        """Keeps the call that started a task until it returns or the client is closed."""

        def done(call: asyncio.Task[Task]) -> None:
            self._left.pop(call, None)
            if call.cancelled() or call.exception() is not None:
                self._gate.gone(spec.id)
            else:
                self._gate.saw(call.result())

        self._left[call] = spec.id
        call.add_done_callback(done)

    async def _in_background(
        self, work: Coroutine[Any, Any, Any], limit: float | None = 1.0
    ) -> None:
        """Does `work` to its end even if the caller is cancelled; waits for it a while."""
        await asyncio.wait({self._spawn(work)}, timeout=limit)

    # ---- calls that are taken note of -------------------------------------------------

    async def _get(self, task_id: str, history_length: int | None = None) -> Task:
        task = await self._calls.get(task_id, history_length)
        self._gate.saw(task)
        return task

    async def _send(self, spec: TaskSpec, *, wait: bool) -> Task:
        timeouts = self._transport.timeouts
        timeout, allows = timeouts.read, "Timeouts(read=...)"
        if wait or self.dialect == "rvagent":
            timeout, allows = timeouts.task, "Timeouts(task=...)"
            if spec.policy is not None and spec.policy.max_duration_ms is not None:
                timeout = spec.policy.max_duration_ms / 1000 + 5.0
                allows = "TaskPolicy(max_duration_ms=...)"
        return await self._calls.send(spec, wait=wait, timeout=timeout, allows=allows)

    async def _cancel_rvagent(self, task_id: str, strict: bool) -> Task:
        # the peer would turn a task that has ended into a canceled one
        with contextlib.suppress(TaskNotFound):
            task = await self._get(task_id)
            if task.status.state.is_terminal:
                if strict:
                    raise TaskNotCancelable(f"task {task_id} has ended: {task.status}")
                return task
        await self._calls.ask_to_cancel(task_id)
        try:
            return await self._get(task_id)
        except TaskNotFound:
            words = Message("agent", (Part("text", "canceled, unconfirmed"),))
            status = TaskStatus(TaskState.CANCELED, message=words)
            return Task(task_id, status, dialect=self.dialect)

    # ---- streams ----------------------------------------------------------------------

    def _feed_of_spec(self, spec: TaskSpec, reconnect: bool) -> Feed:
        if self.dialect == "rvagent":
            return RvAgentFeed(self, spec=spec, reconnect=reconnect)
        if not self.card.capabilities.streaming:
            return PollFeed(self, spec)
        return OfficialFeed(self, spec=spec, reconnect=reconnect)

    # ---- policy -----------------------------------------------------------------------

    def _complete(self, spec: TaskSpec) -> TaskSpec:
        if not isinstance(spec, TaskSpec):
            raise TypeError(f"a TaskSpec is wanted, not {type(spec).__name__}")
        if self.dialect == "rvagent":
            spec = codec_rvagent.complete(spec, self._identity)
        self._calls.check(spec)
        return spec

    async def _admit(self, spec: TaskSpec) -> object:
        return await self._gate.admit(spec, self.card.agent_id)

    async def _before_deadline(
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
        deadline = self._gate.deadline(key())
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
        self._gate.gone(task_id)
        if isinstance(task_id, str):
            await self._in_background(self._try_cancel(task_id))
        raise PolicyViolation(
            f"the task took longer than the {deadline.limit_ms} ms its policy allows",
            field="max_duration_ms",
            limit=deadline.limit_ms,
        )

    async def _try_cancel(self, task_id: str) -> None:
        with contextlib.suppress(A2aError):
            await self._calls.ask_to_cancel(task_id)
