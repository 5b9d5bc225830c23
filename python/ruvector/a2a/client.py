"""The client: an agent found, trusted, given tasks, and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import address
from .card import AgentCard
from .discovery import Discovery
from .extra import load_all
from .feed_poll import PollFeed
from .feed_rvagent import RvAgentFeed
from .identity import parse_agent_id
from .jws import TrustedKeys
from .limits import Limits, Retry, Timeouts
from .parts import Input
from .policy import GlobalBudget
from .session import Session
from .stream import Feed, OfficialFeed, TaskStream
from .transport import Transport
from .trust import Demands
from .types import Task, TaskSpec, Trust

if TYPE_CHECKING:
    import ssl

    from .sync import SyncA2aClient

_LIMITS, _TIMEOUTS, _RETRY = Limits(), Timeouts(), Retry()


class A2aClient:
    """Talks to one agent. Made by :meth:`connect`; bound to the event loop it was made in.

    ::

        async with await A2aClient.connect("https://agent.example.com") as client:
            task = await client.send_task(TaskSpec("summarize", "a long text"), wait=True)
    """

    def __init__(self, session: Session) -> None:
        self._session = session

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
            me = None if identity is None else parse_agent_id(identity)
            session = Session(discovery, transport, retry=retry, identity=me, budget=budget)
            return cls(session)
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
        return self._session.card

    @property
    def trust(self) -> Trust:
        return self._session.trust

    @property
    def dialect(self) -> str:
        return self._session.dialect

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return self._session.endpoint

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
        await self._checked().refresh_card(force=force)
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
        session = self._checked()
        spec = session.complete(spec)
        key = await session.admit(spec)
        named = ""
        # a task that may have to be cancelled needs its id before its end
        block = bool(wait) and session.gate.deadline(key) is None

        async def work() -> Task:
            nonlocal named
            task = await session.send(spec, wait=block)
            named = task.id
            session.gate.rename(key, task.id)
            state = task.status.state
            if wait and task.id and not (state.is_terminal or state.is_interrupted):
                task = await session.poll(task.id)
            return task

        try:
            task = await session.before_deadline(lambda: named or key, work(), timeout)
        except BaseException:
            session.gate.discard(key)
            raise
        session.gate.record(task)
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
        session = self._checked()
        spec, task_id = None, ""
        if isinstance(task, TaskSpec):
            spec = session.complete(task)
        else:
            task_id = task.id if isinstance(task, Task) else task
            if not task_id:
                raise ValueError("the agent answered with a message; there is no task to watch")
        feed: Feed
        if session.dialect == "rvagent":
            feed = RvAgentFeed(session, spec, task_id, last_event_id, reconnect=reconnect)
        elif session.card.capabilities.streaming:
            feed = OfficialFeed(session, spec, task_id, reconnect=reconnect)
        else:
            feed = PollFeed(session, spec, task_id)
        return TaskStream(session, feed, cancel_remote=cancel_remote)

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
        return await self._checked().get(task_id, history_length)

    async def cancel_task(self, task_id: str, *, strict: bool = False) -> Task:
        """Asks the agent to stop a task; the state of what comes back decides.

        A task that has ended already comes back as it is; `strict` makes that an error.

        Raises:
            TaskNotFound: the agent does not know it.
            TaskNotCancelable: it cannot be stopped.
        """
        return await self._checked().cancel(task_id, strict=strict)

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
        session = self._checked()
        if isinstance(task, Task) and (not task.id or task.status.state.is_terminal):
            return task
        task_id = task.id if isinstance(task, Task) else task
        polled = session.poll(task_id, poll)
        return await session.before_deadline(lambda: task_id, polled, timeout)

    async def reply(
        self, task: Task, input: Input, *, wait: bool | None = None, timeout: float | None = None
    ) -> Task:
        """Gives a task what it waits for, when it is input-required or auth-required."""
        before = self._session.gate.spec(task.id)
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
        await self._session.aclose()

    async def __aenter__(self) -> A2aClient:
        return self

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _checked(self) -> Session:
        """The session, unless it cannot be used from here."""
        self._session.check()
        return self._session
