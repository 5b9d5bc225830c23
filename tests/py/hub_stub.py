"""An HTTP server on this machine that speaks as much of the hub as its client needs.

`Hub.files` is what the one repository holds at its one commit; `fail` gives a path an
answer of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
REPO = "maker/tiny-model"


class Hub:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.commits = {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT}
        self.asked: list[str] = []
        #: the Range headers that came with the requests
        self.ranges: list[str] = []
        #: the User-Agent headers
        self.agents: list[str] = []
        #: file path: bytes after which the connection ends, this many times
        self.cut: dict[str, tuple[int, int]] = {}
        #: status for every request, with the hub's own error code
        self.status: int | None = None
        self.delay = threading.Event()
        self.delay.set()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub = self.hub
        hub.asked.append(f"{self.command} {self.path}")
        hub.agents.append(self.headers.get("User-Agent", ""))
        if hub.status is not None:
            return self.error(hub.status)
        about = re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/revision/([^?/]+))?(?:\?.*)?", self.path
        )
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^?/]+)(?:\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(?:\?.*)?", self.path)
        found = about or tree or file
        if not found or found[1] != REPO:
            return self.error(404, "RepoNotFound")
        if (found[2] or "main") not in hub.commits:
            return self.error(404, "RevisionNotFound")
        if about:
            siblings = [{"rfilename": name} for name in hub.files]
            info = {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "tags": []}
            info |= {"private": False, "downloads": 0, "likes": 0}  # older clients want them
            return self.send(json.dumps(info).encode(), body, {"Content-Type": "application/json"})
        if tree:
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in hub.files.items()
            ]
            return self.send(json.dumps(rows).encode(), body, {"Content-Type": "application/json"})
        if found[3] not in hub.files:
            return self.error(404, "EntryNotFound")
        data = hub.files[found[3]]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if body:
            hub.delay.wait(20)
        self.send(data, body, headers, found[3])

    def send(self, data: bytes, body: bool, headers: dict[str, str], name: str = "") -> None:
        first = 0
        asked = self.headers.get("Range", "")
        self.hub.ranges += [asked] if asked else []
        wanted = re.fullmatch(r"bytes=(\d+)-", asked)
        if wanted and body:
            first = int(wanted[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if first else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if not body:
            return
        after, times = self.hub.cut.get(name, (0, 0))
        if times:
            self.hub.cut[name] = (after, times - 1)
            self.wfile.write(data[first : first + after])
            self.close_connection = True
        else:
            self.wfile.write(data[first:])

    def error(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(files)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.delay.set()
        server.shutdown()
        thread.join()
        server.server_close()
