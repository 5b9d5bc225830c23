"""The base install opens no socket and reads nothing outside the interpreter, its folder and
its cache: every module imported, every kind of work done, watched from Python and from the
kernel's side, which sees the compiled part too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import ruvector
from watched import tracer

# What a process reads that runs the interpreter: programs and libraries, how they are set
# up, and what the kernel tells about the machine, of which the library counts processors.
SYSTEM = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/etc/ld.so.cache")
SYSTEM += ("/etc/locale.alias", "/etc/localtime", "/etc/ssl/openssl.cnf")

AUDIT = """
import os, socket, sys
seen = []
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        if isinstance(arguments[0], (str, bytes)):
            seen.append(os.path.abspath(os.fsdecode(arguments[0])))
    elif event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.exec", "os.spawn")):
        # what asyncio wakes its own loop with leads nowhere
        if event != "socket.__new__" or arguments[1] != socket.AF_UNIX:
            print("USED", event, flush=True)
sys.addaudithook(note)
"""
TOLD = """
for path in seen:
    print("READ", path)
"""
WORK = """
import asyncio, importlib, os, pickle, pkgutil, sys
import numpy as np
import ruvector
from ruvector import cli

for module in pkgutil.walk_packages(ruvector.__path__, "ruvector."):
    if module.name != "ruvector.__main__":
        importlib.import_module(module.name)

rows = np.random.default_rng(1).standard_normal((5000, 16), dtype=np.float32)
for name in ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"):
    cls = getattr(ruvector, name)
    index = cls.build(rows)
    index.search(rows[0])
    index.search_batch(rows[:50])
    index.save("x.rbpx")
    assert cls.load("x.rbpx") == pickle.loads(pickle.dumps(index))
    index.add_batch(rows[:3])
    index.remove([1])
ruvector.recommend(100_000, 128)
ruvector.cpu_features()

lake = ruvector.RuLake()
memory, files = ruvector.LocalBackend("memory"), ruvector.FsBackend("files", ".")
memory.upsert("docs", range(100), rows[:100])
files.write("notes", "notes.bin", range(100), rows[:100])
lake.register_backend(memory)
lake.register_backend(files)
lake.search_federated(targets=[("memory", "docs"), ("files", "notes")], query=rows[0])
asyncio.run(lake.search_one_async("docs", rows[0]))
lake.save_cache_to_dir("docs", "snapshot")
lake.publish_bundle("docs", "snapshot")
ruvector.RuLake().warm_from_dir(("memory", "docs"), "snapshot")

np.save("x.npy", rows)
for line in (
    "build x.npy -o x.rbpx", "search x.rbpx x.npy -o ids.npy", "info x.rbpx",
    "verify x.rbpx snapshot notes.bin", "bench x.npy --kinds plus --rows 500",
    "models list", "models verify",
):
    assert cli.main(line.split()) == 0, line
"""


def allowed(folder: Path) -> tuple[str, ...]:
    paths = sysconfig.get_paths().values()
    package = Path(ruvector.__file__).parent
    library = Path(np.__file__).parents[1]
    homes = (sys.prefix, sys.base_prefix, sys.exec_prefix, package, library)
    found = {str(Path(path).resolve()) for path in (*paths, *homes, *filter(None, sys.path))}
    return (*found, str(folder), *SYSTEM)


def outside(paths: set[str], folder: Path) -> list[str]:
    roots = {Path(root) for root in allowed(folder)}
    return sorted(
        path
        for path in paths
        if roots.isdisjoint([Path(path).resolve(), *Path(path).resolve().parents])
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Where the work is done. The home is elsewhere, and nobody has a business there."""
    work = tmp_path / "work"
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("RUVECTOR_CACHE", str(work / "cache"))
    monkeypatch.setenv("HF_HOME", str(work / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)  # which reads its own files
    return work


def test_python_opens_nothing_else(folder, run_python) -> None:
    done = run_python(AUDIT + WORK + TOLD, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    assert not re.findall("^USED .*", done.stdout, re.MULTILINE)
    read = set(re.findall("^READ (.*)", done.stdout, re.MULTILINE))
    assert any(path.startswith(str(folder)) for path in read), "nothing was watched"
    assert not outside(read, folder)


def test_what_it_would_find(folder, run_python, tmp_path: Path) -> None:
    secret = tmp_path / "home" / "secret"
    secret.write_text("")
    code = f"""
open({str(secret)!r}).close()
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError:
    pass
"""
    done = run_python(AUDIT + code + TOLD)
    assert "USED socket.connect" in done.stdout
    read = set(re.findall("^READ (.*)", done.stdout, re.MULTILINE))
    assert outside(read, folder) == [str(secret)]


def test_the_compiled_part_cannot_call_the_network() -> None:
    found = find_spec("ruvector._core")
    assert found is not None
    names = set(Path(found.origin).read_bytes().split(b"\0"))
    assert {name for name in names if name.startswith((b"PyErr_", b"Py_"))}, "no names are seen"
    assert not names & {b"socket", b"connect", b"getaddrinfo", b"gethostbyname", b"sendto"}


def test_the_kernel_sees_nothing_else(folder) -> None:
    log = folder.parent / "log"  # and a file of its own for each thread
    command = [*tracer(), "-o", str(log), "-e", "trace=openat,open,socket,connect"]
    subprocess.run(
        [*command, sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=600,
    )
    calls = "".join(path.read_text() for path in folder.parent.glob("log.*"))
    assert not re.findall(r"socket\(AF_(?!UNIX).*|connect\(.*", calls)
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)".*= \d+$', calls, re.MULTILINE)
    opened = {str((folder / path).resolve()) for path in opened}
    assert str(folder / "x.rbpx") in opened, "nothing was watched"
    assert not outside(opened, folder)
