"""An A2A server, in a process of its own, that streams so many updates at a given pace.

    python -m bench.sse_server

Prints its URL, {"url": ...}, and ends when its standard input does. It speaks protocol
0.3 as far as bench.gate_g2 does, with nothing but the standard library: the text of a
message is "N MS", N updates MS milliseconds apart.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

TASK, CONTEXT = "task-1", "context-1"
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nConnection: close\r\n\r\n"


def card(url: str) -> dict[str, Any]:
    return {
        "name": "paced",
        "description": "streams updates at a given pace",
        "url": url,
        "version": "1",
        "protocolVersion": "0.3.0",
        "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": True},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "count", "name": "count", "description": "counts", "tags": []}],
    }


def status(state: str, number: int | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"state": state, "timestamp": "2026-01-01T00:00:00Z"}
    if number is not None:
        parts = [{"kind": "text", "text": str(number)}]
        said["message"] = {
            "kind": "message",
            "messageId": f"message-{number}",
            "role": "agent",
            "parts": parts,
        }
    return said


def update(state: str, number: int | None = None) -> dict[str, Any]:
    final = state == "completed"
    ids = {"taskId": TASK, "contextId": CONTEXT, "kind": "status-update"}
    return {**ids, "status": status(state, number), "final": final}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if head.startswith("GET"):
        host, port = writer.get_extra_info("sockname")
        body = json.dumps(card(f"http://{host}:{port}/"))
        writer.write((HEAD.format("application/json") + body).encode())
    else:
        fields = (line.split(":", 1) for line in head.splitlines()[1:] if ":" in line)
        length = {name.lower(): value for name, value in fields}["content-length"]
        request = json.loads(await reader.readexactly(int(length)))
        await stream(writer, request)
    await writer.drain()
    writer.close()


async def stream(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
    times, pause = map(float, request["params"]["message"]["parts"][0]["text"].split())
    loop = asyncio.get_running_loop()
    writer.write(HEAD.format("text/event-stream").encode())
    task = {"kind": "task", "id": TASK, "contextId": CONTEXT, "status": status("submitted")}
    events = [task, *(update("working", i + 1) for i in range(int(times))), update("completed")]
    begin = loop.time()
    for i, event in enumerate(events):
        # By the clock and not from one event to the next, so that the pace is kept.
        await asyncio.sleep(begin + i * pause / 1000 - loop.time())
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": event}
        writer.write(f"data: {json.dumps(answer)}\n\n".encode())
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"url": f"http://{host}:{port}/"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
