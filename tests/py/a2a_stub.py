"""Agents for tests, on real sockets of this machine: what peers do, well and badly.

:class:`Stub` is an HTTP/1.1 server whose answers are functions; :class:`RvAgent` and
:class:`Official` are agents on top of it. Each counts connections and keeps requests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

from a2a_vectors import K1, sign


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Response:
    body: bytes | str | dict | list | AsyncIterator[bytes] = b""
    status: int = 200
    type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  #: so many bytes of the body, then the connection is reset


Handler = Callable[[Request], Any]
GONE = object()


def sse(data: Any, name: str | None = None, id: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {id}"] if id else []
    return ("\n".join([*lines, f"data: {text}"]) + "\n\n").encode()


class Stub:
    """`handlers` maps paths to functions from a Request to a Response (or dict, or None)."""

    def __init__(self, **handlers: Handler) -> None:
        self.requests: list[Request] = []
        self.handlers: dict[str, Handler] = {}
        self.writers: set[asyncio.StreamWriter] = set()
        self.connections = 0  # ever made
        self.tls = None
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=2**25, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if self.tls is not None:
            self.url = f"https://localhost:{self.port}"
        return self

    async def __aexit__(self, *about):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def methods(self) -> list[str]:
        """The JSON-RPC methods that were called."""
        calls = [request for request in self.requests if b'"method"' in request.body]
        return [request.json["method"] for request in calls]

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.writers.add(writer)
        self.connections += 1
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            self.writers.discard(writer)
            writer.close()

    async def _read(self, reader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return Request(method, parts.path, query, headers, body)

    async def _answer(self, request, reader, writer) -> bool:
        handler = self.handlers.get(request.path) or self.fallback
        answer = handler(request)
        if asyncio.iscoroutine(answer):
            answer = await self._unless_gone(answer, reader)
            if answer is GONE:
                return False
        if answer is None:
            answer = Response("no such thing", 404, "text/plain")
        if not isinstance(answer, Response):
            answer = Response(answer)
        body = answer.body
        if isinstance(body, (dict, list)):
            body = json.dumps(body, ensure_ascii=False)
        if isinstance(body, str):
            body = body.encode()
        head = {"Content-Type": answer.type, **answer.headers}
        if isinstance(body, bytes):
            head.setdefault("Content-Length", str(len(body)))
        else:
            head.update({"Transfer-Encoding": "chunked", "Connection": "close"})
        lines = [f"HTTP/1.1 {answer.status} OK", *(f"{k}: {v}" for k, v in head.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if isinstance(body, bytes):
            writer.write(body if answer.cut is None else body[: answer.cut])
            await writer.drain()
            if answer.cut is not None:
                writer.transport.abort()
                return False
            return True
        return await self._stream(body, reader, writer)

    async def _unless_gone(self, answer, reader):
        """What the handler answers. Like many servers, stops it when the caller leaves."""
        answering = asyncio.ensure_future(answer)
        try:
            while not answering.done():
                await asyncio.wait({answering}, timeout=0.05)
                if reader.at_eof():
                    return GONE
            return answering.result()
        finally:
            answering.cancel()
            await asyncio.wait({answering})

    async def _stream(self, body, reader, writer) -> bool:
        """Sends chunks until there are no more, or the other side goes away."""
        gone = asyncio.ensure_future(reader.read(1))
        following = None
        try:
            while True:
                following = asyncio.ensure_future(body.__anext__())
                await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return False
                try:
                    chunk = following.result()
                except StopAsyncIteration:
                    break
                if chunk is None:  # the connection is lost
                    writer.transport.abort()
                    return False
                writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                await writer.drain()
        finally:
            gone.cancel()
            if following is not None:
                following.cancel()
                await asyncio.gather(gone, following, return_exceptions=True)
            await body.aclose()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return False

    def fallback(self, request: Request) -> Any:
        return None


_NANOS = itertools.count()


def now() -> str:
    """A time with nine digits of a second, as Rust writes it."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}{next(_NANOS) % 1000:03}Z"


def rpc_result(request: Request, result: Any) -> dict:
    return {"jsonrpc": "2.0", "id": request.json["id"], "result": result}


def rpc_error(request: Request, code: int, message: str, data: Any = None) -> dict:
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request.json.get("id"), "error": error}


# ---- rvAgent ------------------------------------------------------------------------


def rvagent_card(url: str, **ruvector: Any) -> dict:
    return {
        "name": "stub",
        "description": "An agent for tests \u2014 nothing else",
        "url": url,
        "provider": {"organization": "tests"},
        "version": "0.1.0",
        "capabilities": {"streaming": True, "pushNotifications": False},
        "skills": [
            {"id": name, "name": name, "description": name, "tags": [], "inputModes": []}
            for name in ("echo", "count", "slow", "rag.query")
        ],
        "authentication": {"schemes": []},
        "metadata": {"ruvector": ruvector},
    }


class RvAgent(Stub):
    """An rvAgent peer: tasks run while tasks/send waits, events come on other routes.

    `run` is a coroutine function (task, emit) that returns artifacts; ``emit(name, event)``
    sends an event. A text "fail" makes the stock runner fail.
    """

    def __init__(self, key: tuple | None = K1, **ruvector: Any) -> None:
        super().__init__()
        self.key = key
        self.ruvector = ruvector
        self.tasks: dict[str, dict] = {}
        self.running: dict[str, asyncio.Task] = {}
        self.history: dict[str, list[bytes]] = {}
        self.channels: dict[str, list[asyncio.Queue]] = {}
        self.unstored = 0  #: so often an ended task is not known yet
        self.hang_after_final = True
        self.run: Callable = self.echo

    async def __aenter__(self):
        await super().__aenter__()
        card = rvagent_card(self.url, **self.ruvector)
        self.card = card if self.key is None else sign(card, self.key)
        self.handlers = {
            "/.well-known/agent.json": lambda request: self.card,
            "/": self.rpc,
            "/tasks/sendSubscribe": self.subscribe,
            "/tasks/resubscribe": self.resubscribe,
        }
        return self

    async def echo(self, task, emit):
        parts = task["history"][0]["parts"]
        if parts[0].get("text") == "fail":
            raise RuntimeError("the skill broke")
        return [{"name": "echo", "parts": parts, "index": 0, "append": False, "lastChunk": True}]

    # -- JSON-RPC

    async def rpc(self, request):
        call = request.json
        params = call.get("params") or {}
        method = call["method"]
        if method in ("tasks/send", "tasks/sendSubscribe"):
            for name in ("id", "skill", "message", "context"):
                if name not in params:
                    return rpc_error(
                        request, -32600, f"{method}: invalid params: missing field `{name}`"
                    )
            refused = self.refuse(request, params)
            if refused is not None:
                return refused
            return rpc_result(request, await self.send(params))
        if method == "tasks/get":
            task = self.tasks.get(params["id"])
            if task is not None and self.unstored:
                self.unstored -= 1
                task = None
            if task is None:
                return rpc_error(request, -32010, f"not found: task {params['id']}")
            return rpc_result(request, task)
        if method == "tasks/cancel":
            task = self.tasks.get(params["id"])
            if params["id"] in self.running:
                self.running[params["id"]].cancel()
            elif task is not None:
                task["status"] = {"state": "canceled", "timestamp": now()}
            return rpc_result(request, {"id": params["id"], "canceled": True})
        return rpc_error(request, -32600, f"method not found: {method}")

    def refuse(self, request, params):
        policy = params.get("policy") or {}
        context = params["context"]
        allowed = policy.get("allowed_skills")
        if allowed is not None and params["skill"] not in allowed:
            text = f"policy violation: skill {params['skill']} not in allow list"
            return rpc_error(request, -32002, text)
        if context["root_agent_id"] in context.get("visited_agents", []):
            path = context["visited_agents"]
            text = f"recursion limit at depth {context['depth']}"
            return rpc_error(request, -32004, text, {"path": path})
        return None

    async def send(self, params):
        task_id = params["id"]
        task = {
            "id": task_id,
            "status": {"state": "submitted", "timestamp": now()},
            "history": [{**params["message"], "metadata": None}],
            "artifacts": [],
            "metadata": None,
        }

        def emit(name, event):
            frame = sse(event, name)
            if name == "status":
                self.history.setdefault(task_id, []).append(frame)
                del self.history[task_id][:-256]
            for queue in self.channels.get(task_id, []):
                queue.put_nowait(frame)

        def status(state, final=False, text=None):
            value = {"state": state, "timestamp": now()}
            if text is not None:
                part = {"type": "text", "text": text}
                value["message"] = {"role": "agent", "parts": [part], "metadata": None}
            task["status"] = value
            emit("status", {"id": task_id, "status": value, "final": final, "metadata": None})

        status("submitted")
        runner = self.running[task_id] = asyncio.ensure_future(self.run(task, emit))
        try:
            task["artifacts"] = await asyncio.shield(runner) or []
            status("completed", final=True)
        except asyncio.CancelledError:
            if not runner.cancelled():
                runner.cancel()
                raise
            status("canceled", final=True)
        except RuntimeError as why:
            status("failed", final=True, text=f"internal error: {why}")
        finally:
            self.running.pop(task_id, None)
        self.tasks[task_id] = task
        return task

    # -- events

    def subscribe(self, request):
        if "id" not in request.query:
            return Response("id is missing", 400, "text/plain")
        task_id = request.query["id"]
        return Response(self.events(task_id, [], self.attach(task_id)), type="text/event-stream")

    def attach(self, task_id):
        queue = asyncio.Queue()
        self.channels.setdefault(task_id, []).append(queue)
        return queue

    def resubscribe(self, request):
        task_id = request.query["id"]
        after = request.query.get("last_event_id") or request.headers.get("last-event-id")
        if task_id not in self.history:
            event = {
                "id": task_id,
                "status": {"state": "failed", "timestamp": now()},
                "final": True,
                "metadata": None,
            }
            return Response(self.closing([sse(event, "status")]), type="text/event-stream")
        frames = self.history[task_id]
        if after is not None:
            stamp = lambda f: json.loads(f.split(b"data: ")[1])["status"]["timestamp"]  # noqa: E731
            frames = [frame for frame in frames if stamp(frame) > after]
        replay = list(frames)
        if task_id in self.tasks and replay:
            return Response(self.closing(replay), type="text/event-stream")
        events = self.events(task_id, replay, self.attach(task_id))
        return Response(events, type="text/event-stream")

    async def closing(self, frames):
        for frame in frames:
            yield frame

    async def events(self, task_id, replay, queue):
        try:
            yield b":\n\n"
            for frame in replay:
                yield frame
            while True:
                frame = await queue.get()
                yield frame
                if frame is not None and b'"final": true' in frame and not self.hang_after_final:
                    return
        finally:
            self.channels[task_id].remove(queue)

    def drop(self, task_id):
        """Loses the connections that watch a task."""
        for queue in self.channels.get(task_id, []):
            queue.put_nowait(None)


# ---- the official protocol ----------------------------------------------------------


class Official(Stub):
    """An agent of 1.0 or 0.3, over JSON-RPC. Text decides what a task does:

    ``count N MS`` works N times, ``watched N`` too, once a stream is watching; ``ask``
    wants input, ``fail``, ``slow``, ``message``, ``chunks`` gives an artifact in three
    pieces; anything else is echoed. `lose` loses a connection after so many updates.
    """

    def __init__(self, version: str = "1.0", **card: Any) -> None:
        super().__init__()
        self.version = version
        self.more = card
        self.tasks: dict[str, dict] = {}
        self.queues: dict[str, list[asyncio.Queue]] = {}
        self.workers: dict[str, asyncio.Task] = {}
        self.lose: int | None = None

    async def __aenter__(self):
        await super().__aenter__()
        path = "/.well-known/agent-card.json"
        if self.version == "0.2":
            path = "/.well-known/agent.json"
        self.card = self.make_card()
        self.handlers = {path: lambda request: self.card, "/a2a": self.rpc}
        return self

    async def __aexit__(self, *about):
        for worker in self.workers.values():
            worker.cancel()
        await asyncio.gather(*self.workers.values(), return_exceptions=True)
        await super().__aexit__(*about)

    def make_card(self):
        card = {
            "name": "official stub",
            "description": "",
            "version": "1.0.0",
            "capabilities": {"streaming": True},
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "skills": [{"id": "echo", "name": "echo", "description": "", "tags": []}],
        }
        url = f"{self.url}/a2a"
        if self.version == "1.0":
            interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            card["supportedInterfaces"] = [interface]
        else:
            card.update(url=url, preferredTransport="JSONRPC")
            if self.version == "0.3":
                card["protocolVersion"] = "0.3.0"
        return {**card, **self.more}

    @property
    def new(self):
        return self.version == "1.0"

    def state(self, name):
        return "TASK_STATE_" + name.upper().replace("-", "_") if self.new else name

    def message(self, text, task=None):
        part = {"text": text} if self.new else {"kind": "text", "text": text}
        message = {"messageId": str(uuid.uuid4()), "parts": [part]}
        message["role"] = "ROLE_AGENT" if self.new else "agent"
        if not self.new:
            message["kind"] = "message"
        if task is not None:
            message.update(taskId=task["id"], contextId=task["contextId"])
        return message

    def wrap(self, name, value):
        if self.new:
            return {name: value}
        kinds = {"statusUpdate": "status-update", "artifactUpdate": "artifact-update"}
        return {"kind": kinds.get(name, name), **value}

    def bare(self, value):
        return value if self.new else {"kind": "task", **value}

    # -- what tasks do

    def publish(self, task, update):
        for queue in self.queues.get(task["id"], []):
            queue.put_nowait(update)

    def status(self, task, name, text=None, final=False):
        status = {"state": self.state(name), "timestamp": now()}
        if text is not None:
            status["message"] = self.message(text, task)
        task["status"] = status
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        update = {**ids, "status": status}
        if not self.new:
            update["final"] = final
        self.publish(task, self.wrap("statusUpdate", update))

    def artifact(self, task, text, append=False, last=True, name="echo"):
        part = {"text": text} if self.new else {"kind": "text", "text": text}
        artifact = {"artifactId": name, "name": name, "parts": [part]}
        held = {a["artifactId"]: a for a in task.setdefault("artifacts", [])}
        if append:
            held[name]["parts"] = [*held[name]["parts"], part]
        else:
            task["artifacts"].append(dict(artifact))
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        update = {**ids, "artifact": artifact, "append": append, "lastChunk": last}
        self.publish(task, self.wrap("artifactUpdate", update))

    async def work(self, task, text):
        word, *numbers = text.split() or [""]
        try:
            if word in ("count", "watched"):
                if word == "watched":
                    await settled(lambda: bool(self.queues.get(task["id"])))
                    numbers.append("0")
                for i in range(int(numbers[0])):
                    await asyncio.sleep(int(numbers[1]) / 1000)
                    self.status(task, "working", str(i + 1))
            elif word == "chunks":
                for i, piece in enumerate(("one ", "two ", "three")):
                    self.artifact(task, piece, append=i > 0, last=i == 2)
                    await asyncio.sleep(0.02)
            elif word == "slow":
                self.status(task, "working")
                await asyncio.sleep(60)
            elif word == "ask":
                self.status(task, "input-required", "which color?", final=True)
                self.publish(task, None)
                return
            elif word == "fail":
                self.status(task, "failed", "it went wrong", final=True)
                self.publish(task, None)
                return
            else:
                self.artifact(task, text)
            self.status(task, "completed", final=True)
        except asyncio.CancelledError:
            self.status(task, "canceled", final=True)
        self.publish(task, None)

    # -- JSON-RPC

    def rpc(self, request):
        call = request.json
        method, params = call["method"], call.get("params") or {}
        if self.new and request.headers.get("a2a-version") != "1.0":
            return rpc_error(request, -32009, "supported versions: 1.0")
        names = {
            "SendMessage": self.send,
            "SendStreamingMessage": self.stream,
            "GetTask": self.get,
            "CancelTask": self.cancel,
            "SubscribeToTask": self.subscribe,
        }
        if not self.new:
            older = "message/send message/stream tasks/get tasks/cancel tasks/resubscribe"
            names = dict(zip(older.split(), names.values()))
        if method not in names:
            return rpc_error(request, -32601, "Method not found")
        return names[method](request, params)

    def error(self, request, code, reason, text):
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
        return rpc_error(request, code, text, [info] if self.new else None)

    def start(self, params):
        message = params["message"]
        text = message["parts"][0].get("text", "")
        known = self.tasks.get(message.get("taskId"))
        if known is None:
            task = {
                "id": str(uuid.uuid4()),
                "contextId": message.get("contextId") or str(uuid.uuid4()),
                "status": {"state": self.state("submitted"), "timestamp": now()},
                "history": [message],
            }
            self.tasks[task["id"]] = task
        else:
            task = known
            task["history"] = [*task["history"], message]
        return task, text

    async def send(self, request, params):
        text = params["message"]["parts"][0].get("text", "")
        if text.startswith("message"):
            answer = self.message("you said: " + text)
            return rpc_result(request, self.wrap("message", answer) if self.new else answer)
        task_id = params["message"].get("taskId")
        if task_id is not None:
            if task_id not in self.tasks:
                return self.error(request, -32001, "TASK_NOT_FOUND", "Task not found")
            if self.over(self.tasks[task_id]):
                return self.error(request, -32004, "UNSUPPORTED_OPERATION", "it has ended")
        task, text = self.start(params)
        worker = self.workers[task["id"]] = asyncio.ensure_future(self.work(task, text))
        configuration = params.get("configuration", {})
        wait = not configuration.get("returnImmediately", False)
        if not self.new:
            wait = configuration.get("blocking", False)
        if wait:
            await asyncio.wait({worker})
        else:
            task = json.loads(json.dumps(task))
        return rpc_result(request, {"task": task} if self.new else self.bare(task))

    def over(self, task):
        name = task["status"]["state"].lower().replace("task_state_", "")
        return name in ("completed", "failed", "canceled", "rejected")

    def get(self, request, params):
        task = self.tasks.get(params["id"])
        if task is None:
            return self.error(request, -32001, "TASK_NOT_FOUND", "Task not found")
        return rpc_result(request, self.bare(task))

    async def cancel(self, request, params):
        task = self.tasks.get(params["id"])
        if task is None:
            return self.error(request, -32001, "TASK_NOT_FOUND", "Task not found")
        if self.over(task):
            return self.error(request, -32002, "TASK_NOT_CANCELABLE", "it has ended")
        worker = self.workers[params["id"]]
        worker.cancel()
        await asyncio.wait({worker})
        return rpc_result(request, self.bare(task))

    # -- streams

    def stream(self, request, params):
        text = params["message"]["parts"][0].get("text", "")
        if text.startswith("message"):
            answer = self.message("you said: " + text)
            result = self.wrap("message", answer) if self.new else answer
            frames = self.frames(request, [result])
            return Response(frames, type="text/event-stream")
        task, text = self.start(params)
        queue = self.listen(task)
        first = json.loads(json.dumps(task))
        self.workers[task["id"]] = asyncio.ensure_future(self.work(task, text))
        events = self.events(request, task, queue, first)
        return Response(events, type="text/event-stream")

    def subscribe(self, request, params):
        task = self.tasks.get(params["id"])
        if task is None:
            return self.error(request, -32001, "TASK_NOT_FOUND", "Task not found")
        if self.over(task):
            return self.error(request, -32004, "UNSUPPORTED_OPERATION", "it has ended")
        first = json.loads(json.dumps(task))
        events = self.events(request, task, self.listen(task), first)
        return Response(events, type="text/event-stream")

    def listen(self, task):
        queue = asyncio.Queue()
        self.queues.setdefault(task["id"], []).append(queue)
        return queue

    async def frames(self, request, results):
        for result in results:
            yield sse(rpc_result(request, result))

    async def events(self, request, task, queue, first):
        sent = 0
        try:
            yield sse(rpc_result(request, {"task": first} if self.new else self.bare(first)))
            while (update := await queue.get()) is not None:
                yield sse(rpc_result(request, update))
                sent += 1
                if self.lose is not None and sent >= self.lose:
                    self.lose = None
                    yield None
        finally:
            self.queues[task["id"]].remove(queue)


# ---- in a thread --------------------------------------------------------------------


class InThread:
    """A stub that serves from a loop of its own, for tests that block."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub

    def __enter__(self) -> Stub:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.stub.__aenter__(), self.loop).result(10)
        return self.stub

    def __exit__(self, *about) -> None:
        asyncio.run_coroutine_threadsafe(self.stub.__aexit__(*about), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


async def settled(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether `condition` comes true soon."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not condition():
        if loop.time() > until:
            return False
        await asyncio.sleep(0.01)
    return True


class FakeClock(asyncio.SelectorEventLoop):
    """A loop whose time stands still while there is anything to do, and skips to the next
    timer when there is not: minutes take no time, and nothing is late on a busy machine."""

    _in_flight_s = 0.001  # real time that bytes take from one socket to another

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._jobs = 0
        self._really = self._selector.select
        self._selector.select = self._select

    def time(self) -> float:
        return self._now

    def _select(self, timeout=None):
        events = self._really(0)
        if events or timeout == 0:
            return events
        if timeout is None or self._jobs:
            return self._really(None)
        events = self._really(self._in_flight_s)
        if not events:
            self._now += timeout
        return events

    def run_in_executor(self, executor, function, *args):
        future = super().run_in_executor(executor, function, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, future):
        self._jobs -= 1


def run(main, *, policy: str = "asyncio"):
    """Runs a coroutine in a fresh loop; nothing it started may be left behind. The policy
    is "asyncio", "debug", "uvloop" or "fake clock"."""

    async def checked():
        try:
            return await asyncio.wait_for(main, 3600 if policy == "fake clock" else 600)
        finally:
            # what was cancelled a moment ago has yet to notice
            await settled(lambda: len(asyncio.all_tasks()) == 1)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

    if policy == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    elif policy == "fake clock":
        loop = FakeClock()
    else:
        loop = asyncio.new_event_loop()
    loop.set_debug(policy == "debug")
    try:
        return loop.run_until_complete(checked())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
