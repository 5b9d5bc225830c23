"""Starts the A2A servers of other makers; tools/a2a_peers.py installs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[2] / "build" / "a2a"
JAVASCRIPT = ("js-1.3.0", "js-0.3.14", "js-0.2.5")
SECONDS_TO_START = 60
# What is meant for the interpreter of the tests alone.
OURS = ("LD_PRELOAD", "PYTHONPATH", "PYTHONMALLOC")


def missing(name: str) -> str | None:
    """Why the peer cannot run here, or None if it can."""
    about = FOLDER / "peers.json"
    if not about.exists():
        return "the A2A servers are not installed: make build/a2a/ready"
    return json.loads(about.read_text())["missing"].get(name, f"{name} was never installed")


def command(name: str) -> list[str]:
    if name == "rvagent":
        return [str(FOLDER / name / "debug" / "a2a-peer")]
    if name == "python":
        return [str(FOLDER / name / "bin" / "python"), str(HERE / "peer.py")]
    node = json.loads((FOLDER / "peers.json").read_text())["node"]
    return [node, str(HERE / "peer.mjs"), str(FOLDER / name)]


@contextmanager
def stock_rvagent(seed: str, config: str = "") -> Iterator[str]:
    """The URL of a server of rvagent-cli with this key and configuration, while it runs."""
    reason = missing("rvagent-stock")
    if reason:
        pytest.skip(f"A2A peer rvagent-stock: {reason}")
    with TemporaryDirectory() as folder:
        file = Path(folder, "a2a.toml")
        file.write_text(config)
        # Its card names the address as it is given, so the port has to be known before.
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        program = str(FOLDER / "rvagent" / "stock" / "bin" / "rvagent")
        server = subprocess.Popen(
            [program, "a2a", "serve", "--bind", address, "--config", str(file)],
            env={**os.environ, "RVAGENT_A2A_SIGNING_KEY": seed},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        alarm = Timer(SECONDS_TO_START, server.kill)
        alarm.start()
        try:
            assert server.stdout.readline() == f"listening on {address}\n"
            alarm.cancel()
            yield f"http://{address}"
        finally:
            alarm.cancel()
            server.kill()  # asked to end it would wait five seconds
            server.wait()
            server.stdout.close()


@contextmanager
def running(name: str, *flags: str) -> Iterator[dict[str, Any]]:
    """The line a server prints about itself, while it runs; skips if it cannot."""
    reason = missing(name)
    if reason:
        pytest.skip(f"A2A peer {name}: {reason}")
    logs = FOLDER / "logs"
    logs.mkdir(exist_ok=True)
    with open(logs / "-".join([name, *(flag.strip("-") for flag in flags)]), "wb") as log:
        server = subprocess.Popen(
            [*command(name), *flags],
            env={name: value for name, value in os.environ.items() if name not in OURS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        alarm = Timer(SECONDS_TO_START, server.kill)
        alarm.start()
        try:
            line = server.stdout.readline()
            alarm.cancel()
            assert line, f"{name} ended before it listened: {Path(log.name).read_text()[-2000:]}"
            yield json.loads(line)
        finally:
            alarm.cancel()
            server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            server.stdout.close()
