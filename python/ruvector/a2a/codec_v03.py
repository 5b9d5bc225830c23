"""The official protocol 0.2 and 0.3 over JSON-RPC. No I/O."""

from __future__ import annotations

import base64
from typing import Any

from ..errors import ProtocolError
from .codec import (
    EXTENSION,
    Call,
    JsonRpcCodec,
    artifact_update,
    message_update,
    official_message,
    status_update,
    trace_headers,
    unknown_update,
)
from .fields import Json
from .sse import SseEvent
from .types import Message, Part, Task, TaskSpec, TaskUpdate, parts_of


def encode_part(part: Part) -> Json:
    """A part as 0.2 and 0.3 write it. Data has to be an object there."""
    if part.kind == "text":
        result: Json = {"kind": "text", "text": part.text}
    elif part.kind == "data":
        if not isinstance(part.data, dict):
            raise ValueError("the data of a part is a JSON object for this agent (A2A 0.3)")
        result = {"kind": "data", "data": part.data}
    else:
        file: Json = {"name": part.name, "mimeType": part.media_type}
        if part.bytes is not None:
            file["bytes"] = base64.b64encode(part.bytes).decode()
        else:
            file["uri"] = part.uri
        result = {"kind": "file", "file": {k: v for k, v in file.items() if v is not None}}
    if part.metadata:
        result["metadata"] = part.metadata
    return result


class CodecV03(JsonRpcCodec):
    dialect = "0.3"

    def _message(self, spec: TaskSpec) -> Json:
        message = official_message(spec, role="user", extension=self._extension)
        parts = [encode_part(part) for part in parts_of(spec.input)]
        return {"kind": "message", **message, "parts": parts}

    def _headers(self, spec: TaskSpec) -> tuple[tuple[str, str], ...]:
        active = (("X-A2A-Extensions", EXTENSION),) if self._extension else ()
        return (*active, *trace_headers(spec))

    def send(self, spec: TaskSpec, *, wait: bool) -> Call:
        params = {"message": self._message(spec), "configuration": {"blocking": wait}}
        return self.call("message/send", params, safe=False, headers=self._headers(spec))

    def stream(self, spec: TaskSpec) -> Call:
        params = {"message": self._message(spec)}
        return self.call("message/stream", params, safe=False, headers=self._headers(spec))

    def get(self, task_id: str, history_length: int | None = None) -> Call:
        params: Json = {"id": task_id}
        if history_length is not None:
            params["historyLength"] = history_length
        return self.call("tasks/get", params, safe=True)

    def cancel(self, task_id: str) -> Call:
        return self.call("tasks/cancel", {"id": task_id}, safe=True)

    def subscribe(self, task_id: str, last_event_id: str | None = None) -> Call:
        return self.call("tasks/resubscribe", {"id": task_id}, safe=True)

    def sent(self, result: Any) -> Task:
        if isinstance(result, dict) and (result.get("kind") == "message" or "parts" in result):
            return Task.of_message(Message.parse(result), self.dialect, result)
        return Task.parse(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        result = self.event_result(call, event)
        if not isinstance(result, dict):
            raise ProtocolError("an event of the stream is not an object", dialect=self.dialect)
        kind = result.get("kind")
        task_id = str(result.get("taskId") or "")
        if kind == "status-update":
            status = result.get("status")
            return status_update(status, task_id, result.get("final") is True, result)
        if kind == "artifact-update":
            return artifact_update(result, task_id, result)
        if kind == "message":
            return message_update(result, result)
        if kind == "task":
            task = Task.parse(result, self.dialect)
            return TaskUpdate("task", task.id, task=task, raw=result)
        return unknown_update(f"kind {kind!r}", result)


class CodecV02(CodecV03):
    """0.2 says the same things in the same way, at another well-known path."""

    dialect = "0.2"
