"""A process that forks while its threads embed: the children embed too, and nothing hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from installed import MINILM, need

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

# Each child must end by itself; one that hangs is ended, and told by "hung".
FORKING = """
import os, signal, sys, threading, time
import numpy as np
from letters import DIM, LetterTokenizer, TableSession, make

def children(count, work, until=lambda: None):
    told = []
    for _ in range(count):
        until()
        pid = os.fork()
        if pid == 0:
            signal.alarm(0)
            try:
                os._exit(0 if work() else 3)
            except BaseException:
                os._exit(4)
        end = time.monotonic() + 20
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done or time.monotonic() > end:
                break
            time.sleep(0.002)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        told.append(os.waitstatus_to_exitcode(status) if done else "hung")
        if not done:
            break
    return told
"""

# A library with a lock of its own, which no fork's child can free.
LOCKED = """
native = threading.Lock()
entered = threading.Event()

class Locked(TableSession):
    def run(self, ids, mask):
        with native:
            entered.set()
            if threading.current_thread() is not threading.main_thread():
                time.sleep(0.01)
            return super().run(ids, mask)

class LockedTokenizer(LetterTokenizer):
    def encode(self, text):
        with native:
            return super().encode(text)

made = make(Locked(), threads=int(sys.argv[1]))
made._tokenizer = LockedTokenizer()
want = made.embed("hello")
stop = threading.Event()

def busy():
    while not stop.is_set():
        made.embed_batch(["x" * 40] * 40, progress=False)

threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()

def in_the_middle():
    entered.clear()
    assert entered.wait(20)

told = children(15, lambda: np.array_equal(made.embed("hello"), want), in_the_middle)
stop.set()
for thread in threads:
    thread.join(20)
print(told == [0] * 15, told, any(thread.is_alive() for thread in threads), made.stats.texts > 0)
"""

MODEL = """
import ruvector
made = ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2", local_files_only=True, threads=2)
want = made.embed("hello")
stop = threading.Event()

def busy():
    while not stop.is_set():
        made.embed_batch(["a text about nothing " * 20] * 8, progress=False)

threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()

told = children(4, lambda: np.array_equal(made.embed("hello"), want), lambda: time.sleep(0.05))
stop.set()
for thread in threads:
    thread.join(20)
print(told == [0] * 4, told, any(thread.is_alive() for thread in threads))
"""

IMAGES = """
import mobilenet_reference, ruvector
mobilenet_reference.save(mobilenet_reference.state_dict(), "model.safetensors")
made = ruvector.Embedder.from_pretrained("model.safetensors", threads=2)
image = np.arange(60 * 50 * 3, dtype=np.uint8).reshape(60, 50, 3)
want = made.embed_image(image)
stop = threading.Event()

def busy():
    while not stop.is_set():
        made.embed_image([image] * 8)

threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
told = children(10, lambda: np.array_equal(made.embed_image(image), want))
stop.set()
for thread in threads:
    thread.join(20)
print(told == [0] * 10, told, any(thread.is_alive() for thread in threads))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_fork_waits_for_the_libraries(run_python, threads: str) -> None:
    done = run_python(FORKING + LOCKED, threads)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True"), done.stdout
    assert done.stdout.split()[-2:] == ["False", "True"]


@pytest.mark.parametrize("work", [MODEL, IMAGES], ids=["texts", "images"])
def test_children_embed(run_python, tmp_path: Path, monkeypatch, work: str) -> None:
    need("safetensors", *MINILM)
    monkeypatch.chdir(tmp_path)
    done = run_python(FORKING + work, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True"), done.stdout
    assert done.stdout.split()[-1] == "False"


def test_a_fork_from_inside_does_not_wait_for_itself(run_python) -> None:
    """As a signal's handler may do, which runs wherever the main thread is."""
    code = """
class Forking(TableSession):
    def run(self, ids, mask):
        if len(self.shapes) == 1:
            print(children(1, lambda: True), flush=True)
        return super().run(ids, mask)

made = make(Forking())
print(made.embed("hello").shape == (DIM,), made.embed("again").shape == (DIM,))
"""
    done = run_python(FORKING + code)
    assert (done.stdout, done.stderr) == ("[0]\nTrue True\n", "")


def test_a_handler_may_fork_at_every_step(run_python) -> None:
    """A trace stands in for a signal, whose handler runs between any two lines. The children
    go on where they are, and fork in their turn."""
    code = """
made = make(TableSession())
made.embed("hello")

def at_lines(frame, event, arg):
    if frame.f_code.co_name not in ("enter", "leave"):
        return None
    if event == "line":
        lines.append(frame.f_lineno)
        pid = os.fork()
        if pid == 0:
            sys.settrace(None)
            frame.f_trace = None
            place.append(len(lines))
        else:
            ends.append(os.waitpid(pid, 0)[1])
    return at_lines

lines, ends, place = [], [], []
signal.alarm(60)
sys.settrace(at_lines)
embedded = made.embed("again").shape == (DIM,)
sys.settrace(None)
if place:
    signal.alarm(20)
    right = embedded and children(1, lambda: made.embed("more").shape == (DIM,)) == [0]
    os._exit(0 if right else 3)
print(embedded, len(set(lines)) > 5, set(ends), made.embed("more").shape == (DIM,))
"""
    done = run_python(FORKING + code)
    assert (done.stdout, done.stderr) == ("True True {0} True\n", "")
