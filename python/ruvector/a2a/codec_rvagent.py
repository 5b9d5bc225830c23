"""The dialect of rvAgent servers: the first public draft of A2A, with policies. No I/O.

A peer runs a task while ``tasks/send`` waits for it, stores it only afterwards, and
streams on routes of their own whose events are bare objects.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import replace
from typing import Any

from ..errors import (
    A2aError,
    ArtifactVersionUnsupported,
    AuthRequired,
    BudgetExceeded,
    CardSignatureInvalid,
    PolicyViolation,
    ProtocolError,
    RecursionLimit,
    TaskNotFound,
    UnsupportedOperation,
)
from . import jsontext
from .codec import (
    MAX_DEPTH,
    Call,
    JsonRpcCodec,
    artifact_update,
    error_event,
    in_url,
    said,
    status_update,
    trace_headers,
    unknown_update,
)
from .excerpt import shorten
from .fields import Json, as_object
from .parts import Part, parts_of
from .sse import SseEvent
from .types import Task, TaskContext, TaskSpec, TaskUpdate

NO_IDENTITY = "0" * 64

_EXCEEDED = re.compile(r"dim (\w+): current (\d+(?:\.\d+)?) > limit (\d+(?:\.\d+)?)")


def encode_part(part: Part) -> Json:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    if part.kind == "data":
        return {"type": "data", "data": part.data}
    file: Json = {"name": part.name, "mimeType": part.media_type, "uri": part.uri}
    if part.bytes is not None:
        file["bytes"] = base64.b64encode(part.bytes).decode()
    return {"type": "file", "file": {k: v for k, v in file.items() if v is not None}}


def complete(spec: TaskSpec, identity: str | None) -> TaskSpec:
    """`spec` with the id and the context that a peer wants, made up where missing."""
    if spec.skill is None:
        raise ValueError("an rvAgent peer needs to know the skill: TaskSpec(skill=...)")
    who = identity or NO_IDENTITY
    context = spec.context or TaskContext(uuid.uuid4().hex, who, current_agent=who)
    return replace(spec, id=spec.id or f"py-{uuid.uuid4().hex}", context=context)


class CodecRvAgent(JsonRpcCodec):
    dialect = "rvagent"
    path = "/"

    def send(self, spec: TaskSpec, *, wait: bool = True) -> Call:
        """`spec` is complete, see above. The peer always waits for the task's end."""
        assert spec.id is not None
        assert spec.context is not None
        parts = [encode_part(part) for part in parts_of(spec.input)]
        params: Json = {
            "id": spec.id,
            "skill": spec.skill,
            "message": {"role": "user", "parts": parts},
            "context": spec.context.to_dict(),
            "metadata": dict(spec.metadata),
        }
        if spec.policy is not None:
            params["policy"] = spec.policy.to_dict()
        return self.call("tasks/send", params, safe=False, headers=trace_headers(spec))

    def stream(self, spec: TaskSpec) -> Call:
        """The events of a task that is yet to be sent; nothing is replayed."""
        assert spec.id is not None
        query = (("id", in_url(spec.id)),)
        return Call("sendSubscribe", None, "/tasks/sendSubscribe", query, "GET", safe=True)

    def get(self, task_id: str, history_length: int | None = None) -> Call:
        return self.call("tasks/get", {"id": task_id}, safe=True)

    def cancel(self, task_id: str) -> Call:
        return self.call("tasks/cancel", {"id": task_id}, safe=True)

    def subscribe(self, task_id: str, last_event_id: str | None = None) -> Call:
        """Status events after the timestamp `last_event_id`, then live ones."""
        query = [("id", in_url(task_id))]
        if last_event_id is not None:
            query.append(("last_event_id", last_event_id))
        path = "/tasks/resubscribe"
        return Call("resubscribe", None, path, tuple(query), "GET", safe=True)

    def sent(self, result: Any) -> Task:
        return Task.parse(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        with error_event(event, self):
            value = jsontext.parse(event.data.encode(), what="an event", max_depth=MAX_DEPTH)
            if event.name == "error":
                raise ProtocolError("an error")
        if event.name not in ("status", "artifact", "warning"):
            return unknown_update(event.name, value)
        obj = as_object(value, "an event of the stream")
        task_id = str(obj.get("id") or "")
        if event.name == "status":
            return status_update(obj.get("status"), task_id, obj.get("final") is True, obj)
        if event.name == "artifact":
            return artifact_update(
                {**as_object(obj.get("artifact"), "an artifact"), "artifact": obj["artifact"]},
                task_id,
                obj,
            )
        lost = obj.get("lagged")
        text = f"the agent dropped {lost} events: they were read too slowly"
        return TaskUpdate("warning", task_id, warning=text, gap=True, raw=obj)

    def error(self, code: int, message: str, data: Any, http_status: int) -> A2aError:
        text, whole = said(message, data, self.masker)
        facts: Json = {
            "code": code,
            "data": data,
            "body": shorten(whole),
            "http_status": http_status,
            "dialect": self.dialect,
        }
        text = f"the agent answered: {text} ({code}){whole[len(text) :]}"
        if code == -32001:
            return AuthRequired(text, **facts)
        if code == -32002:
            return PolicyViolation(text, remote=True, **facts)
        if code == -32003:
            found = _EXCEEDED.search(message)
            if found:
                current, limit = float(found[2]), float(found[3])
                facts.update(dim=found[1], current=current, limit=limit)
            return BudgetExceeded(text, remote=True, **facts)
        if code == -32004:
            path = data.get("path") if isinstance(data, dict) else None
            depth = re.search(r"depth (\d{1,9})", message)
            return RecursionLimit(
                text,
                path=tuple(map(str, path)) if isinstance(path, list) else (),
                depth=int(depth[1]) if depth else None,
                **facts,
            )
        if code == -32005:
            known = data.get("supported") if isinstance(data, dict) else None
            supported = tuple(map(str, known)) if isinstance(known, list) else ()
            return ArtifactVersionUnsupported(text, supported=supported, **facts)
        if code == -32006:
            return CardSignatureInvalid(text, remote=True, **facts)
        if code == -32010:
            return TaskNotFound(text, **facts)
        if code == -32601 or (code == -32600 and message.startswith("method not found")):
            return UnsupportedOperation(text, **facts)
        if code in (-32700, -32600, -32602):
            return ProtocolError(text, **facts)
        return A2aError(text, **facts)
