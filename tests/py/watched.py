"""Runs a program and tells what the kernel saw of it: which files it wrote and whom it
tried to reach. Nothing it sends can leave the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CALLS = "open,openat,openat2,creat,mkdir,mkdirat,connect,sendto,sendmsg,sendmmsg"
# Settings by which a user, or a machine that runs tests, has decided about telemetry.
DECIDED = re.compile(r"CI|.*TELEMETRY.*|DO_NOT_TRACK|HF_.*|HUGGING.*|XDG_.*|GITHUB_.*")


@dataclass(frozen=True)
class Seen:
    """What a program did: paths it opened for writing or made, and places it called."""

    output: str
    written: list[str]
    asked: list[str]


@cache
def _trials(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def tracer() -> list[str]:
    """strace; without it nothing was watched, and the test does not pass."""
    if sys.platform == "linux" and _trials(("strace", "-qq", "-e", "trace=none")):
        return ["strace", "-ff", "-qq", "-s", "256"]
    reason = "strace is missing, or this process may not trace another: nothing was watched"
    if os.environ.get("RUVECTOR_TEST_COMPLETE"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def no_network() -> list[str]:
    """A prefix that gives a program a network of its own, without a way out; empty where
    the system grants none."""
    for prefix in (("unshare", "-n"), ("unshare", "-r", "-n")):
        if shutil.which("unshare") and _trials(prefix):
            return list(prefix)
    return []


def watch(code: str, folder: Path, **env: str) -> Seen:
    """Run `code` in `folder`/work with the home `folder`/home, as a user who decided nothing."""
    for name in ("work", "home"):
        (folder / name).mkdir(exist_ok=True)
    trace, prefix = tracer(), no_network()
    if not prefix:  # then the tracer cuts the way out: whom it tried to reach is seen as well
        trace += ["-e", "inject=connect:error=ENETUNREACH"]
    kept = {name: value for name, value in os.environ.items() if not DECIDED.fullmatch(name)}
    watched = [*prefix, *trace, "-o", str(folder / "log"), "-e", f"trace={CALLS}"]
    done = subprocess.run(
        [*watched, sys.executable, "-c", code],
        env={
            **kept,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "work"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
            **env,
        },
        cwd=folder / "work",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = "".join(path.read_text(errors="replace") for path in sorted(folder.glob("log.*")))
    assert re.search(r'open(?:at)?\(.*"[^"]*ruvector', calls), "nothing was watched"
    return Seen(done.stdout, _written(calls, folder / "work"), _asked(calls))


def _written(calls: str, folder: Path) -> list[str]:
    opened = re.findall(
        r'(?:open(?:at2?)?)\((?:AT_FDCWD, )?"([^"]+)", [^)]*O_(?:W|RDWR|CREAT)', calls
    )
    made = re.findall(r'(?:mkdir(?:at)?|creat)\((?:AT_FDCWD, )?"([^"]+)"', calls)
    places = {Path(os.path.normpath(folder / path)) for path in (*opened, *made)}
    devices = (Path("/dev"), Path("/proc"))
    return sorted(
        str(path)
        for path in places
        if folder not in path.parents and not any(device in path.parents for device in devices)
    )


def _asked(calls: str) -> list[str]:
    """Calls to other machines, and to whoever looks up their names."""
    sent = re.findall(r"((?:connect|sendto|sendm+sg)\(.*sa_family=AF_INET.*)", calls)
    named = re.findall(r'(connect\(.*sun_path="[^"]*(?:nscd|resolve)[^"]*".*)', calls)
    looked_up = re.findall(r'(open(?:at)?\(.*"/etc/(?:resolv\.conf|hosts)".*)', calls)
    here = re.compile(r'inet_addr\("127\.|"::1"')
    return [call for call in (*sent, *named, *looked_up) if not here.search(call)]
