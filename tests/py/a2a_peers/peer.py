"""An A2A server made of the official Python SDK, for the tests of the client.

    python peer.py [--modern] [--sign EdDSA|ES256]

It needs a2a-sdk[http-server] and uvicorn, and nothing of the package under test. It
prints one line of JSON, {"url": ..., "sdk": ...}, once it listens on a free port of
127.0.0.1, and ends when its standard input does. --modern: 1.0 only, without the
older protocol. --sign: its card carries a JWS; the line then has the public key as
"jwk". What the skills do is told in README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import uvicorn
from a2a.helpers import proto_helpers as make
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import (
    create_agent_card_routes,
    create_jsonrpc_routes,
    create_rest_routes,
)
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCard, Message, Part, TaskState
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.applications import Starlette

PATH = "/a2a"
Skill = Callable[[TaskUpdater, list[str], RequestContext], Awaitable[None]]


async def echo(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    await task.add_artifact(list(context.message.parts), "echo", "echo", last_chunk=True)
    await task.complete()


async def count(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    times, pause = (*map(int, words), *(5, 10)[len(words) :])
    for i in range(1, times + 1):
        await task.start_work(task.new_agent_message([make.new_text_part(str(i))]))
        await asyncio.sleep(pause / 1000)
    await task.complete()


async def chunks(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    await task.start_work()
    for i, text in enumerate(("one ", "two ", "three")):
        piece = [make.new_text_part(text)]
        await task.add_artifact(piece, "report", "report", append=i > 0, last_chunk=i == 2)
        await asyncio.sleep(int(words[0]) / 1000 if words else 0.01)
    await task.add_artifact([make.new_data_part({"rows": 3})], "table", "table", last_chunk=True)
    await task.complete()


async def parts(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    several = [
        make.new_text_part("Grüße\u2028漢字 😀"),
        Part(raw=bytes(range(256)), filename="all.bin", media_type="application/octet-stream"),
        Part(url="https://example.com/far.png", filename="far.png", media_type="image/png"),
        make.new_data_part({"list": [1, 2.5, None, True, "x"], "deep": {"empty": {}}}),
    ]
    await task.add_artifact(several, "parts", "parts", last_chunk=True)
    await task.complete()


async def slow(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    await task.start_work()
    await asyncio.sleep(30)
    await task.complete()


async def fail(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    await task.start_work()
    await task.failed(task.new_agent_message([make.new_text_part("it went wrong")]))


async def crash(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    raise RuntimeError("the skill broke")


async def ask(task: TaskUpdater, words: list[str], context: RequestContext) -> None:
    if context.current_task.status.state != TaskState.TASK_STATE_INPUT_REQUIRED:
        question = task.new_agent_message([make.new_text_part("which color?")])
        await task.requires_input(question)
        return
    answer = make.new_text_part(make.get_message_text(context.message))
    await task.add_artifact([answer], "answer", "answer", last_chunk=True)
    await task.complete()


SKILLS: dict[str, Skill] = {
    skill.__name__: skill for skill in (echo, count, chunks, parts, slow, fail, crash, ask)
}


class Executor(AgentExecutor):
    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        words = make.get_message_text(message, " ").split()
        name = self.chosen.get(context.task_id) or self._named(message) or (words.pop(0))
        if name == "message":
            text = "you said: " + " ".join(words)
            reply = make.new_text_message(text, context_id=context.context_id)
            await event_queue.enqueue_event(reply)
            return
        self.chosen[context.task_id] = name
        if context.current_task is None:
            message.task_id, message.context_id = context.task_id, context.context_id
            context.current_task = make.new_task_from_user_message(message)
            await event_queue.enqueue_event(context.current_task)
        task = TaskUpdater(event_queue, context.task_id, context.context_id)
        await SKILLS[name](task, words, context)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    @staticmethod
    def _named(message: Message) -> str | None:
        return MessageToDict(message.metadata).get("ruvector", {}).get("skill")


def card(url: str, versions: list[str]) -> AgentCard:
    about = {
        "name": "Python peer",
        "description": "Tests of the client: Grüße, 漢字",
        "version": "1.0.0",
        "provider": {"organization": "tests", "url": "https://example.com"},
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [
            {"id": name, "name": name, "description": name, "tags": ["test"]}
            for name in [*SKILLS, "message"]
        ],
        "supportedInterfaces": [
            {"url": url + path, "protocolBinding": binding, "protocolVersion": version}
            for version in versions
            for path, binding in ((PATH, "JSONRPC"), ("/rest", "HTTP+JSON"))
        ],
    }
    return ParseDict(about, AgentCard())


def signed(about: AgentCard, alg: str) -> tuple[AgentCard, dict[str, Any]]:
    """The card with a JWS of a fresh key, and the public half of that key."""
    import jwt
    from a2a.utils.signing import create_agent_card_signer
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if alg == "EdDSA":
        key, algorithm = ed25519.Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm
    else:
        key, algorithm = ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    header = {"alg": alg, "kid": "test-key", "typ": "JOSE", "jku": None}
    sign = create_agent_card_signer(private, header)
    jwk = algorithm.to_jwk(key.public_key(), as_dict=True)
    return sign(about), {**jwk, "kid": "test-key", "alg": alg}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modern", action="store_true")
    parser.add_argument("--sign", choices=["EdDSA", "ES256"])
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    line: dict[str, Any] = {"url": url, "sdk": f"a2a-sdk {version('a2a-sdk')}"}
    about = card(url, ["1.0"] if options.modern else ["1.0", "0.3"])
    if options.sign:
        about, line["jwk"] = signed(about, options.sign)
    handler = DefaultRequestHandler(Executor(), InMemoryTaskStore(), about)
    compat = not options.modern
    routes = [
        *create_agent_card_routes(about),
        *create_jsonrpc_routes(handler, PATH, enable_v0_3_compat=compat),
        *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=compat),
    ]
    config = uvicorn.Config(Starlette(routes=routes), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    print(json.dumps(line), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
