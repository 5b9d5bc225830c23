"""What the dialects share: calls as values, JSON-RPC envelopes, errors. No I/O.

A codec turns what the client wants into a :class:`Call` and the peer's answer into a
task, an update or an exception. The numbers of JSON-RPC errors mean different things in
the rvAgent dialect and in the official protocol, so each codec maps its own.
"""

from __future__ import annotations

import itertools
import json
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import (
    A2aError,
    ProtocolError,
    TaskNotCancelable,
    TaskNotFound,
    UnsupportedOperation,
    VersionNotSupported,
)
from . import jsontext
from .fields import Json
from .sse import SseEvent
from .types import Artifact, Message, Task, TaskSpec, TaskStatus, TaskUpdate, parts_of

#: Extension of the official protocol under which skill, policy and context travel.
EXTENSION = "urn:ruvector:a2a:task:1"

MAX_DEPTH = 128

_EXACT = 2**53  # beyond this, servers that keep numbers as doubles change them


@dataclass(frozen=True)
class Call:
    """One HTTP request to an agent's endpoint."""

    name: str  #: of the operation, for messages
    body: Json | None = None
    path: str = ""  #: appended to the endpoint
    query: tuple[tuple[str, str], ...] = ()
    verb: str = "POST"
    safe: bool = False  #: may be sent again when it is not known whether it arrived
    rpc_id: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def content(self) -> bytes | None:
        """
        Raises:
            TypeError, ValueError: what the caller gave cannot be written as JSON.
        """
        if self.body is None:
            return None
        try:
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except UnicodeEncodeError:
            return json.dumps(self.body, allow_nan=False).encode("ascii")
        except (TypeError, ValueError) as why:
            words = (
                f"a task's data is made of dict, list, str, finite numbers, bool and None: {why}"
            )
            raise type(why)(words) from None


class Codec:
    """One dialect. Objects are cheap and belong to one client."""

    dialect: ClassVar[str]

    def __init__(self, *, tenant: str | None = None, extension: bool = False) -> None:
        self._tenant = tenant
        self._extension = extension  # the peer's card lists EXTENSION
        self._ids = itertools.count(1)

    # -- requests

    def send(self, spec: TaskSpec, *, wait: bool) -> Call:
        raise NotImplementedError

    def stream(self, spec: TaskSpec) -> Call:
        raise NotImplementedError

    def get(self, task_id: str, history_length: int | None = None) -> Call:
        raise NotImplementedError

    def cancel(self, task_id: str) -> Call:
        raise NotImplementedError

    def subscribe(self, task_id: str, last_event_id: str | None = None) -> Call:
        raise NotImplementedError

    # -- answers

    def result(self, call: Call, data: bytes, http_status: int = 200) -> Any:
        """The result in a response's body.

        Raises:
            A2aError: the one that fits the error in the body, or :class:`ProtocolError`.
        """
        raise NotImplementedError

    def sent(self, result: Any) -> Task:
        """The task in the result of `send`."""
        raise NotImplementedError

    def task(self, result: Any) -> Task:
        """The task in the result of `get` and `cancel`."""
        return Task.parse(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        """An event of a stream.

        Raises:
            A2aError: the event tells of an error, or is not understood.
        """
        raise NotImplementedError


# ---- JSON-RPC -----------------------------------------------------------------------


class JsonRpcCodec(Codec):
    path: ClassVar[str] = ""  #: of the JSON-RPC route below the endpoint

    def call(
        self, method: str, params: Json, *, safe: bool, headers: tuple[tuple[str, str], ...] = ()
    ) -> Call:
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return Call(method, body, self.path, safe=safe, rpc_id=number, headers=headers)

    def result(self, call: Call, data: bytes, http_status: int = 200) -> Any:
        answer = jsontext.parse(data, what=f"the answer to {call.name}", max_depth=MAX_DEPTH)
        return self.unwrap(call, answer, http_status)

    def unwrap(self, call: Call, answer: Any, http_status: int = 200) -> Any:
        """`result` of a JSON-RPC response that answers `call`."""
        facts = {"http_status": http_status, "dialect": self.dialect}
        if not isinstance(answer, dict):
            kind = "a batch" if isinstance(answer, list) else type(answer).__name__
            raise ProtocolError(f"the answer to {call.name} is {kind}, not a response", **facts)
        error = answer.get("error")
        number = answer.get("id")
        # the peer may not have got as far as reading the id of what it refuses
        if (number != call.rpc_id or isinstance(number, bool)) and not (error and number is None):
            raise ProtocolError(
                f"the answer to {call.name} has id {number!r}, not {call.rpc_id}", **facts
            )
        if error is None and "result" in answer:
            return answer["result"]
        if error is not None and answer.get("result") is not None:
            raise ProtocolError(f"the answer to {call.name} has a result and an error", **facts)
        if not isinstance(error, dict):
            raise ProtocolError(f"the answer to {call.name} has neither result nor error", **facts)
        code = error.get("code")
        text = error.get("message")
        raise self.error(
            code if isinstance(code, int) else 0,
            text if isinstance(text, str) else "",
            error.get("data"),
            http_status,
        )

    def error(self, code: int, message: str, data: Any, http_status: int) -> A2aError:
        return official_error(code, message, data, http_status, self.dialect)

    def event_result(self, call: Call, event: SseEvent) -> Any:
        """`result` of an event that is a JSON-RPC response, marked as an error or not."""
        answer = jsontext.parse(event.data.encode(), what="an event", max_depth=MAX_DEPTH)
        return self.unwrap(call, answer)


# ---- the official protocol ----------------------------------------------------------

_BY_REASON: dict[str, type[A2aError]] = {
    "TASK_NOT_FOUND": TaskNotFound,
    "TASK_NOT_CANCELABLE": TaskNotCancelable,
    "PUSH_NOTIFICATION_NOT_SUPPORTED": UnsupportedOperation,
    "UNSUPPORTED_OPERATION": UnsupportedOperation,
    "CONTENT_TYPE_NOT_SUPPORTED": UnsupportedOperation,
    "INVALID_AGENT_RESPONSE": ProtocolError,
    "EXTENDED_AGENT_CARD_NOT_CONFIGURED": UnsupportedOperation,
    "EXTENSION_SUPPORT_REQUIRED": UnsupportedOperation,
    "VERSION_NOT_SUPPORTED": VersionNotSupported,
}
_BY_CODE: dict[int, type[A2aError]] = {
    **dict(zip(range(-32001, -32010, -1), _BY_REASON.values())),
    -32700: ProtocolError,
    -32600: ProtocolError,
    -32601: UnsupportedOperation,
    -32602: ProtocolError,
}


def reason_of(data: Any) -> str | None:
    """`reason` of the google.rpc.ErrorInfo among an error's details."""
    for entry in data if isinstance(data, list) else ():
        if isinstance(entry, dict) and str(entry.get("@type")).endswith("google.rpc.ErrorInfo"):
            reason = entry.get("reason")
            return reason if isinstance(reason, str) else None
    return None


def official_error(
    code: int | None, message: str, data: Any, http_status: int, dialect: str
) -> A2aError:
    """The exception for an error of the official protocol; `reason` beats the number,
    which is None where only HTTP has one."""
    cls = _BY_REASON.get(reason_of(data) or "") or _BY_CODE.get(code or 0, A2aError)
    # Servers of 0.2 and 0.3 know these two, but answer with the code of something else.
    if code == -32603 and message.startswith("Task not found"):
        cls = TaskNotFound
    if code == -32600 and "terminal state" in message:
        cls = UnsupportedOperation
    return cls(
        f"the agent answered: {message or 'an error without words'} ({code or http_status})",
        code=code,
        data=data,
        http_status=http_status,
        dialect=dialect,
    )


def _exact(value: Any) -> Any:
    """`value` with integers that a double cannot hold as strings."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return value


def task_metadata(spec: TaskSpec) -> Json:
    """Skill, policy and context, which the official protocol has no place for."""
    told: Json = {}
    if spec.skill is not None:
        told["skill"] = spec.skill
    if spec.policy is not None:
        told["policy"] = _exact(spec.policy.to_dict())
    if spec.context is not None:
        told["context"] = _exact(spec.context.to_dict())
    metadata = dict(spec.metadata)
    if told:
        before = metadata.get("ruvector")
        metadata["ruvector"] = {**(before if isinstance(before, dict) else {}), **told}
    return metadata


def official_message(spec: TaskSpec, *, role: str, extension: bool) -> Json:
    """A message without its parts, which each version writes in its own way."""
    given = spec.input if isinstance(spec.input, Message) else None
    message: Json = {
        "messageId": (given and given.message_id) or str(uuid.uuid4()),
        "role": role,
    }
    task_id = spec.id or (given and given.task_id)
    context_id = spec.context_id or (given and given.context_id)
    metadata = {**(given.metadata if given else {}), **task_metadata(spec)}
    if task_id:
        message["taskId"] = task_id
    if context_id:
        message["contextId"] = context_id
    if extension:
        metadata.setdefault(EXTENSION, metadata.get("ruvector", {}))
        message["extensions"] = [EXTENSION]
    if metadata:
        message["metadata"] = metadata
    if not parts_of(spec.input):
        raise ValueError("a task needs an input: TaskSpec(skill, input=...)")
    return message


def trace_headers(spec: TaskSpec) -> tuple[tuple[str, str], ...]:
    """W3C trace context, where the task has one."""
    if spec.context is None:
        return ()
    return (("traceparent", f"00-{spec.context.trace_id}-{uuid.uuid4().hex[:16]}-01"),)


def status_update(status: Any, task_id: str, final: bool, raw: Json) -> TaskUpdate:
    parsed = TaskStatus.parse(status)
    over = final or parsed.state.is_terminal
    return TaskUpdate("status", task_id, status=parsed, final=over, raw=raw)


def message_update(value: Any, raw: Json) -> TaskUpdate:
    message = Message.parse(value)
    return TaskUpdate("message", message.task_id or "", message=message, final=True, raw=raw)


def artifact_update(obj: Json, task_id: str, raw: Json) -> TaskUpdate:
    return TaskUpdate(
        "artifact",
        task_id,
        artifact=Artifact.parse(obj.get("artifact")),
        append=obj.get("append") is True,
        last_chunk=obj.get("lastChunk") is True,
        raw=raw,
    )


def unknown_update(what: str, raw: Any) -> TaskUpdate:
    """Something newer than this client: told, not hidden, and no reason to stop."""
    told = raw if isinstance(raw, dict) else {"value": raw}
    return TaskUpdate("warning", warning=f"an event that is not understood: {what}", raw=told)
