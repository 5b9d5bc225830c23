"""The official protocol 1.0, over JSON-RPC and as plain HTTP with JSON. No I/O."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from ..errors import ProtocolError
from . import jsontext
from .codec import (
    EXTENSION,
    MAX_DEPTH,
    Call,
    Codec,
    JsonRpcCodec,
    error_event,
    in_url,
    official_error,
    official_message,
    official_sent,
    official_update,
    trace_headers,
)
from .fields import Json
from .parts import Part, parts_of
from .sse import SseEvent
from .types import Task, TaskSpec, TaskUpdate

VERSION_HEADER = ("A2A-Version", "1.0")


def encode_part(part: Part) -> Json:
    """A part as 1.0 writes it: told by its members."""
    result: Json = {}
    if part.kind == "text":
        result["text"] = part.text
    elif part.kind == "data":
        result["data"] = part.data
    elif part.bytes is not None:
        result["raw"] = base64.b64encode(part.bytes).decode()
    else:
        result["url"] = part.uri
    for name, value in (("filename", part.name), ("mediaType", part.media_type)):
        if value is not None:
            result[name] = value
    if part.metadata:
        result["metadata"] = part.metadata
    return result


def _send_params(codec: Codec, spec: TaskSpec, wait: bool | None) -> Json:
    message = official_message(spec, role="ROLE_USER", extension=codec.extension)
    message["parts"] = [encode_part(part) for part in parts_of(spec.input)]
    params: Json = {"message": message}
    if wait is not None:
        params["configuration"] = {"returnImmediately": not wait}
    return params


def _send_headers(codec: Codec, spec: TaskSpec) -> tuple[tuple[str, str], ...]:
    active = (("A2A-Extensions", EXTENSION),) if codec.extension else ()
    return (VERSION_HEADER, *active, *trace_headers(spec))


class CodecV10(JsonRpcCodec):
    dialect = "1.0"

    def _call(self, method: str, params: Json, safe: bool = True) -> Call:
        if self._tenant:
            params["tenant"] = self._tenant
        return self.call(method, params, safe=safe, headers=(VERSION_HEADER,))

    def _sending(self, method: str, spec: TaskSpec, wait: bool | None) -> Call:
        params = _send_params(self, spec, wait)
        if self._tenant:
            params["tenant"] = self._tenant
        return self.call(method, params, safe=False, headers=_send_headers(self, spec))

    def send(self, spec: TaskSpec, *, wait: bool) -> Call:
        return self._sending("SendMessage", spec, wait)

    def stream(self, spec: TaskSpec) -> Call:
        return self._sending("SendStreamingMessage", spec, None)

    def get(self, task_id: str, history_length: int | None = None) -> Call:
        params: Json = {"id": task_id}
        if history_length is not None:
            params["historyLength"] = history_length
        return self._call("GetTask", params)

    def cancel(self, task_id: str) -> Call:
        return self._call("CancelTask", {"id": task_id})

    def subscribe(self, task_id: str, last_event_id: str | None = None) -> Call:
        return self._call("SubscribeToTask", {"id": task_id})

    def sent(self, result: Any) -> Task:
        return official_sent(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        return official_update(self.event_result(call, event), self.dialect)


class CodecV10Rest(Codec):
    dialect = "1.0-rest"

    def _call(
        self,
        name: str,
        verb: str,
        path: str,
        body: Json | None = None,
        *,
        query: tuple[tuple[str, str], ...] = (),
        safe: bool = True,
        headers: tuple[tuple[str, str], ...] = (VERSION_HEADER,),
    ) -> Call:
        if self._tenant:
            path = f"/{quote(self._tenant, safe='')}{path}"
        return Call(name, body, path, query, verb, safe, headers=headers)

    def send(self, spec: TaskSpec, *, wait: bool) -> Call:
        body, headers = _send_params(self, spec, wait), _send_headers(self, spec)
        return self._call("send", "POST", "/message:send", body, safe=False, headers=headers)

    def stream(self, spec: TaskSpec) -> Call:
        body, headers = _send_params(self, spec, None), _send_headers(self, spec)
        return self._call("stream", "POST", "/message:stream", body, safe=False, headers=headers)

    def get(self, task_id: str, history_length: int | None = None) -> Call:
        query = () if history_length is None else (("historyLength", str(history_length)),)
        return self._call("get", "GET", f"/tasks/{quote(in_url(task_id), safe='')}", query=query)

    def cancel(self, task_id: str) -> Call:
        return self._call("cancel", "POST", f"/tasks/{quote(in_url(task_id), safe='')}:cancel", {})

    def subscribe(self, task_id: str, last_event_id: str | None = None) -> Call:
        return self._call("subscribe", "GET", f"/tasks/{quote(in_url(task_id), safe='')}:subscribe")

    def _unwrap(self, call: Call, answer: Any, http_status: int) -> Any:
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            text = error.get("message")
            raise official_error(
                None,
                text if isinstance(text, str) else str(error.get("status") or ""),
                error.get("details"),
                http_status,
                self.dialect,
                self.masker,
            )
        if http_status >= 300:
            raise ProtocolError(
                f"{call.name} was answered with HTTP {http_status}", http_status=http_status
            )
        return answer

    def result(self, call: Call, data: bytes, http_status: int = 200) -> Any:
        answer = jsontext.parse(data, what=f"the answer to {call.name}", max_depth=MAX_DEPTH)
        return self._unwrap(call, answer, http_status)

    def sent(self, result: Any) -> Task:
        return official_sent(result, self.dialect)

    def event(self, call: Call, event: SseEvent) -> TaskUpdate:
        with error_event(event, self):
            answer = jsontext.parse(event.data.encode(), what="an event", max_depth=MAX_DEPTH)
            return official_update(self._unwrap(call, answer, 200), self.dialect)
