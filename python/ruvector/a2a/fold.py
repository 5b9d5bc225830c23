"""Updates folded into a task, and what a snapshot adds to that. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

from .types import Artifact, Message, Task, TaskState, TaskStatus, TaskUpdate

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
        self._history: tuple[Message, ...] = ()
        self._artifacts: dict[str, Artifact] = {}
        self._snapshot: Task | None = None
        self._seen: OrderedDict[StatusKey, None] = OrderedDict()

    @property
    def task(self) -> Task | None:
        """None before the first status."""
        if self.status is None:
            return None
        base = self._snapshot or Task(self.task_id, self.status, dialect=self.dialect)
        return replace(
            base,
            status=self.status,
            context_id=self._context_id or base.context_id,
            history=self._history,
            artifacts=tuple(self._artifacts.values()),
        )

    def seen(self, status: TaskStatus) -> bool:
        """Whether this very status came before; one without a time cannot be told."""
        return status.timestamp is not None and status_key(status) in self._seen

    def has(self, artifact: Artifact) -> bool:
        return self._artifacts.get(artifact.id) == artifact

    def apply(self, update: TaskUpdate) -> None:
        if update.task_id and not self.task_id:
            self.task_id = update.task_id
        if update.task is not None:
            self._snapshot = update.task
            self._context_id = update.task.context_id
            self._history = update.task.history or self._history
            self._status(update.task.status)
            self._artifacts = {artifact.id: artifact for artifact in update.task.artifacts}
        elif update.status is not None:
            self._status(update.status)
        elif update.artifact is not None:
            self._artifact(update.artifact, update.append)
        elif update.message is not None:
            self._context_id = update.message.context_id
            self._history = (*self._history, update.message)
            self._status(TaskStatus(TaskState.COMPLETED))

    def _status(self, status: TaskStatus) -> None:
        self.status = status
        if status.timestamp is not None:
            self.last_timestamp = status.timestamp
        self._seen[status_key(status)] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _artifact(self, artifact: Artifact, append: bool) -> None:
        before = self._artifacts.get(artifact.id)
        if append and before is not None:
            artifact = replace(before, parts=before.parts + artifact.parts)
        self._artifacts[artifact.id] = artifact

    def missing(self, task: Task, *, gap: bool = False) -> Iterator[TaskUpdate]:
        """Artifact updates that lead from what is known to `task`."""
        for artifact in task.artifacts:
            before = self._artifacts.get(artifact.id)
            known = len(before.parts) if before else 0
            if before and before.parts == artifact.parts:
                continue
            append = bool(before and before.parts == artifact.parts[:known])
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
