"""What the dialects share: calls as values, JSON-RPC envelopes, errors. No I/O.

A codec turns what the client wants into a :class:`Call` and the peer's answer into a
task, an update or an exception. The numbers of JSON-RPC errors mean different things in
the rvAgent dialect and in the official protocol, so each codec maps its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from collections.abc import Iterator
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
from .artifacts import Artifact
from .excerpt import Masker, shorten, visible, words
from .fields import Json, as_object
from .parts import Message, parts_of
from .shape import task_of, told
from .sse import SseEvent
from .types import Task, TaskSpec, TaskStatus, TaskUpdate

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

    def __init__(
        self,
        *,
        tenant: str | None = None,
        extension: bool = False,
        masker: Masker | None = None,
    ) -> None:
        self.masker = masker or Masker()  #: for what is repeated of a peer's words
        self._tenant = tenant
        self.extension = extension  #: the peer's card lists EXTENSION
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
        return task_of(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        """An event of a stream.

        Raises:
            A2aError: the event tells of an error, or is not understood.
        """
        raise NotImplementedError


def _short(value: Any) -> str:
    return shorten(visible(repr(value)), 80)


def in_url(task_id: str) -> str:
    """`task_id`, which goes into the path or the query of a URL.

    Raises:
        ValueError: no URL can hold it.
    """
    for place, character in enumerate(task_id):
        if "\ud800" <= character <= "\udfff":
            raise ValueError(
                f"a task's id: {_short(task_id)} holds a lone surrogate at character {place}"
            )
    return task_id


def task_named_in(result: Any) -> str | None:
    """The id of the task a result speaks of, whatever else is wrong with it."""
    if not isinstance(result, dict):
        return None
    for name in ("task", "statusUpdate", "artifactUpdate"):
        if isinstance(result.get(name), dict):
            return task_named_in(result[name])
    found = result.get("taskId") or (result.get("id") if "status" in result else None)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else None


def name_task(error: A2aError, result: Any) -> None:
    """Notes in `error` which task it is about: it runs, whatever is wrong with the answer."""
    found = task_named_in(result)
    if found is not None and error.task_id is None:
        error.task_id = found
        error.args = (f"{error}; the task's id is {_short(found)}",)


@contextlib.contextmanager
def error_event(event: SseEvent, codec: Codec) -> Iterator[None]:
    """Within: what cannot be read of an event called "error" is told as that error."""
    try:
        yield
    except ProtocolError as why:
        if event.name != "error" or why.code is not None:
            raise
        said = words(event.data, codec.masker)
        raise A2aError(
            f"the agent sent an error: {said}", body=said, dialect=codec.dialect
        ) from None


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
        if not self._answers(call, answer.get("id")):
            wrong = ProtocolError(
                f"the answer to {call.name} has id {_short(answer.get('id'))}, not {call.rpc_id}",
                **facts,
            )
            name_task(wrong, answer.get("result"))
            raise wrong
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

    @staticmethod
    def _answers(call: Call, number: Any) -> bool:
        """Whether an id is that of `call`. Each has an HTTP response to itself: the id adds
        nothing, so one that is missing or was made a string does no harm. Another number
        is the answer to another question."""
        if isinstance(number, bool):
            return False
        return number is None or number == call.rpc_id or number == str(call.rpc_id)

    def error(self, code: int, message: str, data: Any, http_status: int) -> A2aError:
        return official_error(code, message, data, http_status, self.dialect, self.masker)

    def event_result(self, call: Call, event: SseEvent) -> Any:
        """`result` of an event that is a JSON-RPC response, marked as an error or not."""
        with error_event(event, self):
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


def said(message: str, data: Any, masker: Masker) -> tuple[str, str]:
    """An error's words, and all of it that is to be shown."""
    text = words(message, masker) or "an error without words"
    if isinstance(data, list):  # what is told by the error's class is not repeated
        data = [entry for entry in data if reason_of([entry]) is None] or None
    if data in (None, "", {}):
        return text, text
    more = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return text, f"{text}; with it came: {words(more, masker)}"


def official_error(
    code: int | None, message: str, data: Any, http_status: int, dialect: str, masker: Masker
) -> A2aError:
    """The exception for an error of the official protocol; `reason` beats the number,
    which is None where only HTTP has one."""
    cls = _BY_REASON.get(reason_of(data) or "") or _BY_CODE.get(code or 0, A2aError)
    # Servers of 0.2 and 0.3 know these two, but answer with the code of something else.
    if code == -32603 and message.startswith("Task not found"):
        cls = TaskNotFound
    if code == -32600 and "terminal state" in message:
        cls = UnsupportedOperation
    text, whole = said(message, data, masker)
    return cls(
        f"the agent answered: {text} ({code or http_status}){whole[len(text) :]}",
        code=code,
        data=data,
        body=shorten(whole),
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


def official_sent(result: Any, dialect: str) -> Task:
    """The task in the answer to a send, or one made of the message that it is."""
    obj = as_object(result, "the answer to a send")
    name, value = told(obj) or ("task", obj)
    if name == "message":
        return Task.of_message(Message.parse(value), dialect, obj)
    return Task.parse(value, dialect)


def official_update(result: Any, dialect: str) -> TaskUpdate:
    """What an event of a stream tells."""
    obj = as_object(result, "an event of the stream")
    found = told(obj)
    if found is None:
        kind = obj.get("kind")
        text = ", ".join(obj) or "an empty object" if kind is None else f"kind {kind!r}"
        return unknown_update(text, obj)
    name, value = found
    if name == "task":
        task = Task.parse(value, dialect)
        return TaskUpdate("task", task.id, task=task, raw=obj)
    if name == "message":
        return message_update(value, obj)
    update = as_object(value, name)
    task_id = str(update.get("taskId") or "")
    if name == "artifactUpdate":
        return artifact_update(update, task_id, obj)
    return status_update(update.get("status"), task_id, update.get("final") is True, obj)


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
    text = f"an event that is not understood: {shorten(visible(what))}"
    return TaskUpdate("warning", warning=text, raw=told)
