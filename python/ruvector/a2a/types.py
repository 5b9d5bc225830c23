"""Tasks and updates: plain values, the same for every dialect.

Each type, here and in `parts` and `artifacts`, has one `parse` that takes the JSON object
of any dialect: the drafts tag parts by ``type`` or ``kind`` and write states as
``input-required``, version 1.0 tells parts by their members and writes
``TASK_STATE_INPUT_REQUIRED``, or the number of that name: both are proto3's JSON. In that a
member that is null is one that is absent, and bytes are in either alphabet of base64.
Members that are not known are left alone, in `raw` where there is one; states that are not
known become ``unknown``, and a time that is no text counts as absent. Any other member that
is known but of the wrong type raises :class:`ProtocolError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from .artifacts import Artifact as Artifact
from .fields import Json, as_list, as_metadata, as_object, optional, wrong
from .parts import Input, parts_of
from .parts import Message as Message
from .parts import Part as Part  # for pickles that look for it here

# ---- tasks ---------------------------------------------------------------------------


class TaskState(str, Enum):
    """Where a task stands. Equal to its name as a string."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    AUTH_REQUIRED = "auth-required"
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """The task has ended and will not change any more."""
        return self in _TERMINAL

    @property
    def is_interrupted(self) -> bool:
        """The task waits for its caller."""
        return self in (TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED)

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def parse(cls, value: Any) -> TaskState:
        if type(value) is int:
            return _STATES[value] if 0 < value < len(_STATES) else cls.UNKNOWN
        value = optional(value, str, "a task's state") or "unknown"
        name = value.lower().replace("task_state_", "").replace("_", "-")
        try:
            return cls(name)
        except ValueError:
            return cls.UNKNOWN


_TERMINAL = (TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED, TaskState.REJECTED)

# The place of each is its number in a2a.proto.
_STATES = (
    TaskState.UNKNOWN,
    TaskState.SUBMITTED,
    TaskState.WORKING,
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.CANCELED,
    TaskState.INPUT_REQUIRED,
    TaskState.REJECTED,
    TaskState.AUTH_REQUIRED,
)

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII
)


@dataclass(frozen=True)
class TaskStatus:
    """State, when it came about, and what the agent says about it."""

    state: TaskState
    timestamp: str | None = None  #: RFC 3339, just as the peer wrote it
    message: Message | None = None

    def __str__(self) -> str:
        return str(self.state)

    @property
    def time(self) -> datetime | None:
        """`timestamp` to the microsecond, None where it is missing or not a time."""
        match = _RFC3339.fullmatch(self.timestamp or "")
        if match is None:
            return None
        day, clock, fraction, _, sign, hours, minutes = match.groups()
        zone = timedelta()
        if sign:
            zone = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
        try:
            time = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S")
            micros = int((fraction or "0")[:6].ljust(6, "0"))
            return time.replace(microsecond=micros, tzinfo=timezone(zone))
        except ValueError:
            return None

    @classmethod
    def parse(cls, value: Any) -> TaskStatus:
        obj = as_object(value, "a status")
        message, time = obj.get("message"), obj.get("timestamp")
        return cls(
            TaskState.parse(obj.get("state")),
            time if isinstance(time, str) and time else None,
            None if message is None else Message.parse(message),
        )


@dataclass(frozen=True)
class Task:
    """A task as its agent last told about it."""

    id: str  #: empty where the agent answered with a message and kept no task
    status: TaskStatus
    context_id: str | None = None
    history: tuple[Message, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    metadata: Json = field(default_factory=dict, repr=False)
    dialect: str | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The text of all artifacts, one line break between two; that of the agent's
        last message where there are no artifacts."""
        if self.artifacts:
            return "\n".join(artifact.text for artifact in self.artifacts)
        said = [message for message in self.history if message.role == "agent"]
        last = self.status.message or (said[-1] if said else None)
        return last.text if last else ""

    @classmethod
    def parse(cls, value: Any, dialect: str | None = None) -> Task:
        obj = as_object(value, "a task")
        identity = obj.get("id")
        if not isinstance(identity, str):
            raise wrong("a task's id", "a string", identity)
        context = obj.get("contextId") or obj.get("sessionId")
        return cls(
            id=identity,
            status=TaskStatus.parse(obj.get("status")),
            context_id=optional(context, str, "a task's contextId"),
            history=tuple(Message.parse(m) for m in as_list(obj.get("history"), "a history")),
            artifacts=tuple(Artifact.parse(a) for a in as_list(obj.get("artifacts"), "artifacts")),
            metadata=as_metadata(obj.get("metadata")),
            dialect=dialect,
            raw=obj,
        )

    @classmethod
    def of_message(cls, message: Message, dialect: str, raw: Json) -> Task:
        """A finished task without an id, for an agent that answers with a message."""
        status = TaskStatus(TaskState.COMPLETED)
        return cls("", status, message.context_id, (message,), dialect=dialect, raw=raw)


@dataclass(frozen=True)
class TaskUpdate:
    """One thing that happened to a task. `kind` tells which field it is in."""

    kind: str  #: "status", "artifact", "task" (all of it), "message" or "warning"
    task_id: str = ""
    status: TaskStatus | None = None
    artifact: Artifact | None = None
    append: bool = False  #: the artifact's parts go on from those that came before
    last_chunk: bool = False
    task: Task | None = None
    message: Message | None = None
    warning: str | None = None
    final: bool = False  #: nothing will follow
    synthetic: bool = False  #: concluded from an answer of the peer, not an event of its own
    gap: bool = False  #: events may be missing before this one
    raw: Json = field(default_factory=dict, repr=False, compare=False)


# ---- what the caller asks for --------------------------------------------------------


def check_amount(name: str, value: Any, *, whole: bool = True) -> None:
    """Refuses what is not None and no amount: a limit that is no number limits nothing.

    Raises:
        TypeError, ValueError: with the name and the value.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = "a whole number" if whole else "a number"
        raise TypeError(f"{name} is {kind}, not {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is at least 0 and finite, not {value!r}")


@dataclass(frozen=True)
class TaskPolicy:
    """What a task may use. None leaves a thing unlimited.

    Checked here before anything is sent, and while waiting; sent along as well, but a
    peer need not enforce it. Cost and tokens are checked against the estimates of the
    :class:`TaskSpec`, and not at all without them.
    """

    max_tokens: int | None = None
    max_cost_usd: float | None = None
    max_duration_ms: int | None = None
    allowed_skills: tuple[str, ...] | None = None  #: an empty one allows no skill
    max_concurrency: int | None = None  #: tasks of one skill at one agent, not yet ended

    def __post_init__(self) -> None:
        if self.allowed_skills is not None:
            if isinstance(self.allowed_skills, str):
                raise TypeError("allowed_skills is a list of names, not one str")
            object.__setattr__(self, "allowed_skills", tuple(self.allowed_skills))
        check_amount("max_cost_usd", self.max_cost_usd, whole=False)
        for name in ("max_tokens", "max_duration_ms", "max_concurrency"):
            check_amount(name, getattr(self, name))

    def to_dict(self) -> Json:
        """The limits that are set."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in named.items()
            if value is not None
        }


@dataclass(frozen=True)
class TaskContext:
    """Where a task comes from, for agents that hand tasks on.

    `trace_id` is a W3C trace id, 32 lowercase hex digits.
    """

    trace_id: str
    root_agent_id: str
    depth: int = 0
    current_agent: str = ""
    visited_agents: tuple[str, ...] = ()
    parent_task_id: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{32}", self.trace_id):
            raise ValueError(f"trace_id is 32 lowercase hex digits, not {self.trace_id!r}")
        object.__setattr__(self, "visited_agents", tuple(self.visited_agents))

    def child(self, agent_id: str, parent_task_id: str | None = None) -> TaskContext:
        """The context for a task handed on to `agent_id`."""
        return TaskContext(
            trace_id=self.trace_id,
            root_agent_id=self.root_agent_id,
            depth=self.depth + 1,
            current_agent=agent_id,
            visited_agents=(*self.visited_agents, self.current_agent),
            parent_task_id=parent_task_id,
        )

    def to_dict(self) -> Json:
        result: Json = {
            "trace_id": self.trace_id,
            "depth": self.depth,
            "root_agent_id": self.root_agent_id,
            "current_agent": self.current_agent,
            "visited_agents": list(self.visited_agents),
        }
        if self.parent_task_id is not None:
            result["parent_task_id"] = self.parent_task_id
        return result


@dataclass(frozen=True)
class TaskSpec:
    """A task to be done.

    `id` goes on with a task the agent knows. An rvAgent peer lets the caller choose the
    id of a new task as well; one is made up where it is not given.
    """

    skill: str | None = None
    input: Input | None = None
    policy: TaskPolicy | None = None
    id: str | None = None
    context_id: str | None = None
    context: TaskContext | None = None
    metadata: Json = field(default_factory=dict)
    estimated_cost_usd: float | None = None
    estimated_tokens: int | None = None

    def __post_init__(self) -> None:
        parts_of(self.input)  # a wrong type shows where it was written
        for name, cls in _SPEC_TYPES.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, cls):
                raise TypeError(f"{name} is a {cls.__name__}, not {type(value).__name__}")
        check_amount("estimated_cost_usd", self.estimated_cost_usd, whole=False)
        check_amount("estimated_tokens", self.estimated_tokens)


_SPEC_TYPES: dict[str, type] = {
    **dict.fromkeys(("skill", "id", "context_id"), str),
    "policy": TaskPolicy,
    "context": TaskContext,
    "metadata": Mapping,
}


@dataclass(frozen=True)
class Trust:
    """How sure it is who answers.

    ======== =======================================================================
    pinned   the card is signed by an agent or key that the caller named
    signed   the card is signed, by a key nobody vouches for
    tls      the card is not signed; the host's certificate was checked
    none     neither
    ======== =======================================================================
    """

    level: str
    agent_id: str | None = None
    endpoint_bound: bool = True  #: the card itself names the endpoint in use
    note: str = ""
