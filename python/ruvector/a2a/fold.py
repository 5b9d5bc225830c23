"""Updates folded into a task, and what a snapshot adds to that. No I/O."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from .artifacts import Artifact
from .parts import Message, Part
from .types import Task, TaskState, TaskStatus, TaskUpdate

StatusKey = tuple[Optional[str], TaskState, Optional[str]]

_REMEMBERED = 1024


def status_key(status: TaskStatus) -> StatusKey:
    """What makes two status events the same one."""
    message_id = status.message.message_id if status.message else None
    return status.timestamp, status.state, message_id


class Fold:
    """A task as the updates so far describe it."""

    def __init__(self, task_id: str = "", dialect: str | None = None) -> None:
        self.task_id = task_id
        self.dialect = dialect
        self.status: TaskStatus | None = None
        self.last_timestamp: str | None = None
        self._context_id: str | None = None
        self._history: list[Message] = []
        # Lists that grow: an artifact may come in a hundred thousand pieces, and a tuple
        # made anew for each would be copied as often.
        self._artifacts: dict[str, Artifact] = {}  #: their parts are those of the first piece
        self._parts: dict[str, list[Part]] = {}
        self._snapshot: Task | None = None
        self._seen: OrderedDict[StatusKey, None] = OrderedDict()

    @property
    def task(self) -> Task | None:
        """None before the first status. Made when asked for, in the time all parts take."""
        if self.status is None:
            return None
        base = self._snapshot or Task(self.task_id, self.status, dialect=self.dialect)
        return replace(
            base,
            status=self.status,
            context_id=self._context_id or base.context_id,
            history=tuple(self._history),
            artifacts=tuple(
                replace(artifact, parts=tuple(self._parts[name]))
                for name, artifact in self._artifacts.items()
            ),
        )

    def seen(self, status: TaskStatus) -> bool:
        """Whether this very status came before; one without a time cannot be told."""
        return status.timestamp is not None and status_key(status) in self._seen

    def has(self, artifact: Artifact) -> bool:
        known = self._artifacts.get(artifact.id)
        return (
            known is not None
            and self._parts[artifact.id] == list(artifact.parts)
            and replace(known, parts=artifact.parts) == artifact
        )

    def apply(self, update: TaskUpdate) -> None:
        if update.task_id and not self.task_id:
            self.task_id = update.task_id
        if update.task is not None:
            self._snapshot = update.task
            self._context_id = update.task.context_id
            self._history = list(update.task.history) or self._history
            self._status(update.task.status)
            self._artifacts = {artifact.id: artifact for artifact in update.task.artifacts}
            self._parts = {artifact.id: list(artifact.parts) for artifact in update.task.artifacts}
        elif update.status is not None:
            self._status(update.status)
        elif update.artifact is not None:
            self._artifact(update.artifact, update.append)
        elif update.message is not None:
            self._context_id = update.message.context_id
            self._history.append(update.message)
            self._status(TaskStatus(TaskState.COMPLETED))

    def _status(self, status: TaskStatus) -> None:
        self.status = status
        if status.timestamp is not None:
            self.last_timestamp = status.timestamp
        self._seen[status_key(status)] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _artifact(self, artifact: Artifact, append: bool) -> None:
        if append and artifact.id in self._artifacts:
            self._parts[artifact.id].extend(artifact.parts)
        else:
            self._artifacts[artifact.id] = artifact
            self._parts[artifact.id] = list(artifact.parts)

    def missing(self, task: Task, *, gap: bool = False) -> Iterator[TaskUpdate]:
        """Artifact updates that lead from what is known to `task`."""
        for artifact in task.artifacts:
            before = self._parts.get(artifact.id)
            known = len(before) if before else 0
            append = before is not None and before == list(artifact.parts[:known])
            if append and known == len(artifact.parts):
                continue
            chunk = replace(artifact, parts=artifact.parts[known:]) if append else artifact
            yield TaskUpdate(
                "artifact",
                task.id,
                artifact=chunk,
                append=append,
                last_chunk=True,
                synthetic=True,
                gap=gap,
            )

    def ending(self, task: Task, *, gap: bool = False) -> TaskUpdate:
        """The status of `task` as its last update."""
        return TaskUpdate(
            "status", task.id, status=task.status, final=True, synthetic=True, gap=gap
        )


def _key(part: Part) -> str:
    """Equal for equal parts, and seldom for others."""
    data = json.dumps(part.data, sort_keys=True) if part.kind == "data" else part.bytes
    return repr((part.kind, part.text, part.uri, hash(data)))


class Ahead:
    """Parts of an artifact that a task held before the stream told of them."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._start = 0  # those before have been told
        # where each part stands: one looked for among all others takes quadratic time
        self._places: dict[str, list[int]] = {}
        for place, part in enumerate(parts):
            self._places.setdefault(_key(part), []).append(place)

    def skip(self, parts: tuple[Part, ...]) -> bool:
        """Whether `parts` stand here; if so, what is ahead begins after the last of them."""
        if not parts:
            return True
        for start in reversed(self._places.get(_key(parts[0]), ())):
            if start < self._start:
                break
            if self._parts[start : start + len(parts)] == parts:
                self._start = start + len(parts)
                return True
        return False
