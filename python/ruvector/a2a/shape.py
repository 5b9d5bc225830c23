"""Which value of the official protocol an object is. No I/O.

Version 1.0 puts a value into a member that names it, the versions before tag it by
``kind``. Peers mix both up, send the members of other values as null, and leave the tag
out; what an object holds then tells what it is.
"""

from __future__ import annotations

from typing import Any

from .fields import Json
from .types import Task

_WRAPPERS = ("task", "message", "statusUpdate", "artifactUpdate")
_TAGS = {
    "task": "task",
    "message": "message",
    "status-update": "statusUpdate",
    "artifact-update": "artifactUpdate",
}


def told(obj: Json) -> tuple[str, Any] | None:
    """The name that 1.0 has for the value in `obj`, and the value; None for another one."""
    for name in _WRAPPERS:
        if obj.get(name) is not None:
            return name, obj[name]
    tag = obj.get("kind") or obj.get("type")
    kind = _TAGS.get(tag) if isinstance(tag, str) else _by_members(obj)
    return None if kind is None else (kind, obj)


def _by_members(obj: Json) -> str | None:
    if isinstance(obj.get("artifact"), dict):
        return "artifactUpdate"
    if isinstance(obj.get("parts"), list):
        return "message"
    if isinstance(obj.get("status"), dict):
        return "statusUpdate" if obj.get("taskId") else "task"
    return None


def task_of(result: Any, dialect: str) -> Task:
    """The task in the result of a call that gives one."""
    found = told(result) if isinstance(result, dict) else None
    return Task.parse(found[1] if found and found[0] == "task" else result, dialect)
