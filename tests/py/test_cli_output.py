"""What the commands print arrives: in encodings that lack a character, for machines, and
where a stream is closed, full, or nobody reads it any more, as docs/cli.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector
from a2a_stub import InThread, Response, Stub, rpc_result
from ruvector import cli

HERE = "größe-漢字"  # a folder's name
ANSWER = "grün 漢字 \U0001f408 \ud800 end"
SAID = "grün \udcff"

posix = pytest.mark.skipif(sys.platform == "win32", reason="streams of a POSIX shell")
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


class Speaker(Stub):
    """An agent of A2A 0.3 whose every answer is ANSWER."""

    def fallback(self, request):
        if request.method == "GET":
            card = {
                "name": "漢字 agent",
                "description": "grün 漢",
                "version": "1",
                "protocolVersion": "0.3.0",
                "url": self.url + "/",
                "capabilities": {},
                "skills": [{"id": "ü", "name": "技"}],
            }
            return Response(json.dumps(card))
        part = {"kind": "text", "text": ANSWER}
        words = {"kind": "message", "role": "agent", "messageId": "m"}
        words["parts"] = [{"kind": "text", "text": SAID}]
        task = {
            "kind": "task",
            "id": "t",
            "contextId": "c",
            "status": {"state": "completed", "message": words},
            "artifacts": [{"artifactId": "a", "parts": [part]}],
        }
        return Response(json.dumps(rpc_result(request, task)))


@pytest.fixture(scope="module")
def agent():
    with InThread(Speaker()) as stub:
        yield stub


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Vectors, an index and a downloaded model that is not whole, in HERE."""
    made = tmp_path_factory.mktemp("work")
    (made / HERE / "a--b" / "c").mkdir(parents=True)
    (made / HERE / "a--b" / "c" / "lock.json").write_text("{}")
    vectors = np.random.default_rng(0).standard_normal((200, 8), dtype=np.float32)
    np.save(made / HERE / "v.npy", vectors)
    ruvector.RabitqPlusIndex.build(vectors).save(made / HERE / "i.rbpx")
    return made


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "ruvector", *args]


def run(args, folder, *, redirect="", encoding="utf-8", **given):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["sh", "-c", f'exec "$@" {redirect}', "sh", *command(*args)] if redirect else None
    return subprocess.run(
        words or command(*args),
        cwd=folder,
        env=env,
        capture_output=not given,
        timeout=120,
        check=False,
        **given,
    )


def commands(url: str) -> dict[str, list[str]]:
    """Commands that print a result, by name."""
    i, v = f"{HERE}/i.rbpx", f"{HERE}/v.npy"
    return {
        "build": ["build", v, "-o", f"{HERE}/new.rbpx"],
        "search": ["search", i, v, "-k", "20"],
        "search -o": ["search", i, v, "-o", f"{HERE}/ids.npy"],
        "info": ["info", i],
        "verify": ["verify", i],
        "models list": ["models", "list", "--cache-dir", HERE],
        "models verify": ["models", "verify", "--cache-dir", HERE],
        "a2a card": ["a2a", "card", url],
        "a2a send": ["a2a", "send", url, "x"],
    }


# ---- encodings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "wanted", "encoding"),
    [
        ("build", 0, f"{HERE}/new.rbpx: ", "cp1252"),
        ("search -o", 0, f"written to {HERE}/ids.npy", "cp1252"),
        ("info", 0, f"{HERE}/i.rbpx\n", "ascii"),
        ("verify", 0, f"ok  {HERE}/i.rbpx: ", "ascii"),
        ("models verify", 1, f"BAD {HERE}", "cp1252"),
        ("a2a card", 0, "漢字 agent\n", "cp1252"),
        ("a2a send", 0, ANSWER + "\n", "ascii"),
        ("a2a send", 0, ANSWER + "\n", "cp1252"),
        ("a2a send", 0, ANSWER + "\n", "utf-8"),
    ],
)
def test_people_see_every_character_or_its_escape(name, code, wanted, encoding, agent, folder):
    done = run(commands(agent.url)[name], folder, encoding=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    shown = done.stdout.replace(os.linesep.encode(), b"\n")
    assert wanted.encode(encoding, "backslashreplace") in shown


def test_an_error_handler_that_the_caller_chose_stays(agent, folder):
    done = run(commands(agent.url)["a2a card"], folder, encoding="ascii:replace")
    assert done.stdout.splitlines()[0].split() == [b"name:", b"??", b"agent"]


def test_machines_get_ascii(agent, folder):
    got = {}
    for name in ("search -o", "info", "verify", "models verify", "a2a card", "a2a send"):
        done = run([*commands(agent.url)[name], "--json"], folder, encoding="cp1252")
        assert done.stdout.isascii(), done.stdout
        got[name] = [json.loads(line) for line in done.stdout.splitlines()]
    assert got["search -o"][0]["written"] == [str(Path(HERE, "ids.npy"))]
    assert got["info"][0]["file"] == got["verify"][0]["file"] == str(Path(HERE, "i.rbpx"))
    assert got["models verify"][0]["folder"] == str(Path(HERE, "a--b", "c"))
    assert got["a2a card"][0]["card"]["description"] == "grün 漢"
    assert [u["text"] for u in got["a2a send"] if "text" in u] == [ANSWER]


@posix
def test_a_path_that_is_no_text(agent, folder):
    os.link(folder / HERE / "i.rbpx", os.fsencode(folder) + b"/b\xff.rbpx")
    done = run(["info", os.fsdecode(b"b\xff.rbpx")], folder)
    assert done.stdout.splitlines()[0].split() == [b"file:", rb"b\udcff.rbpx"]


def test_streams_are_as_before_afterwards(folder, capsys):
    before = sys.stdout, sys.stderr, sys.stdout.errors
    assert cli.main(["info", str(folder / HERE / "v.npy")]) == 0
    assert cli.main(["info", "absent"]) == 1
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == before
    assert HERE in capsys.readouterr().out


# ---- stdout that cannot be written --------------------------------------------------


@posix
def test_nothing_is_done_where_stdout_is_closed(agent, folder):
    (folder / HERE / "new.rbpx").unlink(missing_ok=True)
    asked = len(agent.requests)
    for name in ("build", "search -o", "models list", "a2a send"):
        done = run(commands(agent.url)[name], folder, redirect=">&-")
        assert done.returncode == 1, name
        assert done.stderr == b"ruvector: standard output: closed\n", name
    assert len(agent.requests) == asked
    assert not (folder / HERE / "new.rbpx").exists()


@full
@pytest.mark.parametrize("name", ["search", "info", "a2a send"])
def test_a_full_disk_is_told(name, agent, folder):
    done = run(commands(agent.url)[name], folder, redirect=">/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (b"ruvector: standard output: No space left on device")
    assert b"Exception" not in done.stderr


@posix
@pytest.mark.parametrize("name", ["search", "info", "a2a card", "help"])
def test_a_reader_who_has_gone_is_no_news(name, agent, folder):
    reading, writing = os.pipe()
    os.close(reading)
    args = {**commands(agent.url), "help": ["--help"]}[name]
    done = run(args, folder, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


# ---- stderr that cannot be written --------------------------------------------------


@posix
@pytest.mark.parametrize("redirect", ["2>&-", pytest.param("2>/dev/full", marks=full)])
def test_messages_that_cannot_be_told_stop_nothing(redirect, agent, folder):
    done = run(commands(agent.url)["a2a send"], folder, redirect=redirect)
    assert (done.returncode, done.stdout) == (0, ANSWER.encode("utf-8", "backslashreplace") + b"\n")
    # an error is no result: it does not turn up on the other stream
    done = run(["info", "absent"], folder, redirect=redirect)
    assert (done.returncode, done.stdout) == (1, b"")


@posix
def test_a_reader_of_messages_who_has_gone(agent, folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(commands(agent.url)["a2a send"], folder, stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, ANSWER.encode("utf-8", "backslashreplace") + b"\n")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc/self/fd")
def test_no_file_gets_the_number_of_a_closed_stream(folder):
    """Else what a library prints to stderr would go into an index or a connection."""
    code = (
        "import os, sys, ruvector.cli\n"
        "run = ruvector.cli._parser\n"
        "def looked_at(argv):\n"
        "    assert not (sys.stderr.closed or sys.stderr.isatty()) and sys.stderr.encoding\n"
        "    return run(argv)\n"
        "ruvector.cli._parser = looked_at\n"
        "assert ruvector.cli.main(['info', sys.argv[1]]) == 0\n"
        "print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)])"
    )
    words = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", code, f"{HERE}/i.rbpx"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, check=False)
    assert done.stdout.splitlines()[-1] == b"['/dev/null', '/dev/null']"


# ---- stdin --------------------------------------------------------------------------


@posix
def test_a_task_from_a_closed_stdin_is_not_sent(agent, folder):
    asked = len(agent.requests)
    done = run(["a2a", "send", agent.url, "-"], folder, redirect="<&-")
    assert (done.returncode, len(agent.requests)) == (1, asked)
    assert done.stderr == b"ruvector: TEXT is -, and standard input is closed\n"
