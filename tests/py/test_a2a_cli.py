"""The command line: ruvector a2a card, send, watch."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial

import pytest
from a2a_stub import InThread, Official, RvAgent, settled
from a2a_vectors import K1, K2, V4, V4_JWK, V4_PROTECTED, V4_SIGNATURES
from ruvector import cli
from ruvector.cli import progress


@pytest.fixture
def agent():
    with InThread(Official("1.0", name="stub \x1b[31mred", description="does\nthings")) as agent:
        yield agent


@pytest.fixture
def peer():
    with InThread(RvAgent()) as agent:
        yield agent


def command(capsys, *args):
    code = cli.main(["a2a", *args])
    out, err = capsys.readouterr()
    return code, out, err


# ---- card ---------------------------------------------------------------------------


def test_a_card(peer, capsys):
    code, out, err = command(capsys, "card", peer.url, "--agent-id", K1[2])
    assert (code, err) == (0, "")
    shown = dict(re.findall(r"^(\w[\w ]*):\s+(.*)$", out, re.MULTILINE))
    assert shown["agent id"] == K1[2]
    assert shown["trust"] == "pinned"
    assert shown["endpoint"] == peer.url
    assert shown["dialect"] == "rvagent"
    assert re.search(r"^  rag.query +rag.query$", out, re.MULTILINE)


def test_a_card_for_machines(agent, capsys):
    code, out, _ = command(capsys, "card", agent.url, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["card"]["name"] == "stub \x1b[31mred"
    assert (told["dialect"], told["trust"]["level"]) == ("1.0", "none")


def test_a_strangers_words_cannot_move_the_cursor(agent, capsys):
    out = command(capsys, "card", agent.url)[1]
    assert "\x1b" not in out
    assert "stub \ufffd[31mred" in out
    assert "does things" in out


def test_a_card_of_somebody_else(peer, capsys):
    code, out, err = command(capsys, "card", peer.url, "--agent-id", K2[2])
    assert (code, out) == (1, "")
    assert err.startswith("ruvector: the card is signed by agent " + K1[2])


def test_a_key_from_a_file(agent, capsys, tmp_path):
    file = tmp_path / "key.json"
    file.write_text(json.dumps(V4_JWK))
    entry = {"protected": V4_PROTECTED, "signature": V4_SIGNATURES["strict"]}
    agent.card = {**V4, "signatures": [entry]}
    options = ["--trusted-key", str(file), "--endpoint", agent.url + "/a2a"]
    assert "pinned (JWS key k1)" in command(capsys, "card", agent.url, *options)[1]


# ---- send and watch -----------------------------------------------------------------


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_a_task(stub, capsys):
    with InThread(stub()) as agent:
        code, out, err = command(capsys, "send", agent.url, "hello there", "--skill", "echo")
        assert (code, out) == (0, "hello there\n")
        assert err.splitlines()[-1] == "completed"


def test_chunks_are_printed_as_they_come(agent, capsys):
    assert command(capsys, "send", agent.url, "chunks")[:2] == (0, "one two three\n")


def test_a_task_from_stdin_with_data(agent, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    code, out, _ = command(capsys, "send", agent.url, "-", "--data", '{"a": 1}')
    assert (code, out) == (0, "from a pipe\n")
    parts = agent.requests[-1].json["params"]["message"]["parts"]
    assert parts == [{"text": "from a pipe"}, {"data": {"a": 1}}]


def test_updates_for_machines(agent, capsys):
    code, out, err = command(capsys, "send", agent.url, "count 2 1", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [t["kind"] for t in told] == ["task", "status", "status", "status"]
    assert [t["state"] for t in told] == ["submitted", "working", "working", "completed"]
    assert [t.get("message") for t in told[1:3]] == ["1", "2"]
    assert told[-1]["final"]
    assert len({t["task_id"] for t in told}) == 1


def test_what_the_agent_says_on_the_way(agent, capsys):
    err = command(capsys, "send", agent.url, "count 2 1")[2]
    assert "working: 1" in err
    assert "working: 2" in err


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("fail", 1, "the task is failed: it went wrong"),
        ("ask", 3, "the task is input-required: which color?"),
    ],
)
def test_other_ends(agent, capsys, text, code, words):
    got, out, err = command(capsys, "send", agent.url, text)
    assert (got, out) == (code, "")
    assert err.splitlines()[-1] == "ruvector: " + words


def test_leaving_a_task_and_watching_it(agent, capsys):
    code, out, _ = command(capsys, "send", agent.url, "watched 5", "--no-wait")
    assert code == 0
    code, out, err = command(capsys, "watch", agent.url, out.strip())
    assert (code, out) == (0, "")
    assert "working: 5" in err
    code, out, _ = command(capsys, "send", agent.url, "hi", "--no-wait", "--json")
    assert json.loads(out)["state"] == "submitted"
    task_id = json.loads(out)["task_id"]
    assert command(capsys, "watch", agent.url, task_id)[:2] == (0, "hi\n")
    assert command(capsys, "watch", agent.url, "no such task")[0] == 1


def test_limits(agent, capsys):
    code, _, err = command(capsys, "send", agent.url, "slow", "--max-duration-ms", "2000")
    assert code == 1
    assert "longer than the 2000 ms" in err
    assert agent.methods()[-1] == "CancelTask"


def test_a_token_comes_from_the_environment(agent, capsys, monkeypatch):
    options = ["send", agent.url, "hi", "--token-env", "MY_TOKEN"]
    assert "MY_TOKEN is not set" in command(capsys, *options)[2]
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    assert command(capsys, *options)[0] == 0
    assert agent.requests[-1].headers["authorization"] == "Bearer s3cret"


# ---- the command itself -------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [[], ["a2a"], ["a2a", "card"], ["a2a", "dance", "x"], ["nothing"], ["--wrong"]]
)
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 2
    assert "usage: ruvector" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["a2a", "--help"], ["a2a", "send", "--help"]])
def test_help(args, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 0
    assert "usage: ruvector" in capsys.readouterr().out


def test_nobody_is_there(capsys):
    code, out, err = command(capsys, "card", "http://127.0.0.1:9/")
    assert (code, out) == (1, "")
    assert err.startswith("ruvector: the card from http://127.0.0.1:9/")


def start(*args):
    return subprocess.Popen(
        [sys.executable, "-m", "ruvector", *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell ignores it for what it runs in the background, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_as_a_program():
    out, err = start("--version").communicate(timeout=60)
    assert re.fullmatch(r"ruvector \d+\.\d+\.\d+\S*\n", out), err


def test_ctrl_c(agent):
    process = start("a2a", "send", agent.url, "slow", "--json")
    assert '"submitted"' in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_output_that_nobody_reads(agent):
    process = start("a2a", "send", agent.url, "count 200 5", "--json")
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 1
    assert err == ""


# ---- the line that moves ------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_that_changes(monkeypatch):
    import asyncio

    monkeypatch.setenv("COLUMNS", "30")

    async def main():
        out = Terminal()
        async with progress.Progress(out) as line:
            line.tell("working:\n\x1b[2Jone")
            assert await settled(lambda: out.getvalue().count("\r") > 3)
            line.tell("x" * 100)
        return out.getvalue()

    lines = asyncio.run(main()).split("\r\x1b[K")
    assert lines[0] == lines[-1] == ""  # nothing is left of it
    assert lines[1].endswith("working: \ufffd[2Jone"[:19])
    assert all(len(line) <= 29 for line in lines)
    assert len(lines) > 4, "it moves while nothing is told"


def test_elsewhere_a_line_for_each_change():
    import asyncio

    async def main():
        out = io.StringIO()
        async with progress.Progress(out) as line:
            for text in ("one", "one", "two"):
                line.tell(text)
        return out.getvalue()

    assert asyncio.run(main()) == "one\ntwo\n"
