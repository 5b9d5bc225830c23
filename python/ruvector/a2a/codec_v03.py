"""The official protocol 0.2 and 0.3 over JSON-RPC. No I/O."""

from __future__ import annotations

import base64
from typing import Any

from .codec import (
    EXTENSION,
    Call,
    JsonRpcCodec,
    official_message,
    official_sent,
    official_update,
    trace_headers,
)
from .fields import Json
from .parts import Part, parts_of
from .sse import SseEvent
from .types import Task, TaskSpec, TaskUpdate


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
        message = official_message(spec, role="user", extension=self.extension)
        parts = [encode_part(part) for part in parts_of(spec.input)]
        return {"kind": "message", **message, "parts": parts}

    def _headers(self, spec: TaskSpec) -> tuple[tuple[str, str], ...]:
        active = (("X-A2A-Extensions", EXTENSION),) if self.extension else ()
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
        return official_sent(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        return official_update(self.event_result(call, event), self.dialect)


class CodecV02(CodecV03):
    """0.2 says the same things in the same way, at another well-known path."""

    dialect = "0.2"
