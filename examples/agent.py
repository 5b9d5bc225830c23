#!/usr/bin/env python3
"""An A2A agent to try a client on: it gives back in upper case what it is sent.

    python examples/agent.py [--port 8642]

It prints its address, answers this machine only, and ends with Ctrl-C. Its card is not signed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8642
DONE = {"state": "TASK_STATE_COMPLETED"}
SKILL = {"id": "upper", "name": "upper", "description": "upper-cases text"}


class Agent(BaseHTTPRequestHandler):
    """Whatever is read is its card, whatever is posted a JSON-RPC call."""

    def do_GET(self) -> None:
        address = f"http://127.0.0.1:{self.server.server_port}"
        interface = {"url": address, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        self.answer(
            {
                "name": "upper",
                "description": "upper-cases text",
                "version": "1.0.0",
                "capabilities": {},
                "skills": [SKILL],
                "supportedInterfaces": [interface],
            }
        )

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = {"jsonrpc": "2.0", "id": call["id"]}
        if call["method"] == "SendMessage":
            text = "".join(part.get("text", "") for part in call["params"]["message"]["parts"])
            artifact = {"artifactId": "upper", "parts": [{"text": text.upper()}]}
            task = {"id": "task-1", "contextId": "1", "status": DONE, "artifacts": [artifact]}
            self.answer({**reply, "result": {"task": task}})
        else:
            error = {"code": -32601, "message": f"this agent has no {call['method']}"}
            self.answer({**reply, "error": error})

    def answer(self, what: object) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *about: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=PORT, help="0 for any that is free")
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Agent) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
