"""What a stranger sends costs time in proportion to its size. Work is counted, not timed."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest
from a2a_stub import InThread, Official
from ruvector.a2a import A2aClient, GlobalBudget, TaskSpec
from ruvector.a2a import trust as trusts
from ruvector.a2a.address import split
from ruvector.a2a.card import AgentCard
from ruvector.a2a.fold import Ahead, Fold
from ruvector.a2a.sse import SseDecoder
from ruvector.a2a.types import Artifact, Part, TaskState, TaskStatus, TaskUpdate


class Counted(str):
    """A str that counts comparisons with others of its kind."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def compared(work, size):
    Counted.compared = 0
    work(size)
    return Counted.compared


def lines_run(work, size):
    """Lines of Python that `work` runs."""
    count = 0

    def trace(frame, event, about):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(size)
    finally:
        sys.settrace(before)
    return count


def pieces(size):
    """An artifact in pieces, as a feed folds it."""
    fold = Fold("t")
    fold.apply(TaskUpdate("status", "t", status=TaskStatus(TaskState.WORKING)))
    for i in range(size):
        artifact = Artifact("a", (Part("text", str(i)),))
        fold.apply(TaskUpdate("artifact", "t", artifact=artifact, append=i > 0))
    assert len(fold.task.artifacts[0].parts) == size
    return fold


def test_pieces_of_an_artifact_are_not_copied_with_each():
    """The list that grows is one and the same object from the first piece to the last."""
    fold = pieces(1)
    held = fold._parts["a"]
    for i in range(1000):
        artifact = Artifact("a", (Part("text", str(i)),))
        fold.apply(TaskUpdate("artifact", "t", artifact=artifact, append=True))
    assert fold._parts["a"] is held
    assert len(held) == 1001


def told_again(size):
    """After a gap the stream repeats all that the task held: the worst case."""
    ahead = Ahead(tuple(Part("text", Counted(i)) for i in range(size)))
    for i in range(size):
        assert ahead.skip((Part("text", Counted(i)),))
    assert not ahead.skip((Part("text", "another"),))


def many_interfaces(size):
    interfaces = [{"url": f"http://127.0.0.1/{i}"} for i in range(size)]
    card = AgentCard.parse({"name": "n", "additionalInterfaces": interfaces})
    assert len(card.interfaces) == size


def tiny_chunks(size):
    decoder = SseDecoder()
    for _ in range(size):
        decoder.feed(b"data: x\n")
        assert decoder.next() is None
    decoder.feed(b"\n")
    assert len(decoder.next().data) == 2 * size - 1


def one_long_line(size):
    decoder = SseDecoder()
    decoder.feed(b"data: ")
    for _ in range(size):
        decoder.feed(b"x")
        assert decoder.next() is None
    assert decoder._searched == size + 6  # nothing is looked at twice


@pytest.mark.parametrize(
    "work",
    [pieces, told_again, many_interfaces, tiny_chunks, one_long_line],
    ids=lambda w: w.__name__,
)
def test_four_times_as_much_is_four_times_the_work(work):
    small, large = lines_run(work, 250), lines_run(work, 1000)
    assert large < 5 * small
    small, large = compared(work, 250), compared(work, 1000)
    assert large <= 5 * max(small, 1)


def test_a_card_of_many_addresses_makes_few_ways():
    """Each of them may cost a request before a call succeeds."""
    url = "https://peer.example.com"
    interface = {"protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    listed = [{**interface, "url": f"{url}/{i}"} for i in range(2000)]
    data = json.dumps({"name": "n", "supportedInterfaces": listed}).encode()
    card, _ = trusts.read_card(data, trusts.Demands(), split(url)[0], certified=True)
    assert len(card.interfaces) == 2000
    assert len(trusts.ways(card, trusts.Demands(), url)) <= 16


# ---- fork ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
def test_a_forked_child(run_python):
    """The parent's client says whose it is, one of the child's own works, nothing hangs:
    a thread held the budget's lock, and another waited for an answer, at the fork."""
    with InThread(Official()) as agent:
        code = f"""
import os, signal, threading, warnings
from ruvector.a2a import A2aClient, GlobalBudget, TaskSpec
warnings.simplefilter("ignore")
url, budget = {agent.url!r}, GlobalBudget(max_tasks_per_minute=50)
client = A2aClient.connect_sync(url, budget=budget)
waiting = threading.Thread(target=client.send_task, args=(TaskSpec("echo", "slow"),),
                           kwargs={{"wait": True}}, daemon=True)
waiting.start()
stream = client.stream_task(TaskSpec("echo", "slow"))
next(stream)
budget._lock.acquire()
child = os.fork()
if child == 0:
    signal.alarm(60)
    said = []
    for call in (lambda: client.get_task("t"), lambda: next(stream), client.close):
        try:
            call()
        except RuntimeError as why:
            said.append("parent" in str(why))
    with A2aClient.connect_sync(url, budget=budget) as mine:
        said.append(mine.send_task(TaskSpec("echo", "hi"), wait=True).text)
    os._exit(0 if said == [True, True, True, "hi"] else 1)
budget._lock.release()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
print(client.send_task(TaskSpec("echo", "still here"), wait=True).text)
os._exit(0) if print(end="", flush=True) is None else None
"""
        done = run_python(code)
        assert done.stdout.split(), done.stderr
        assert done.stdout.split() == ["0", "still", "here"]


def test_a_budget_is_free_in_a_child():
    budget = GlobalBudget(max_tasks_per_minute=1)
    before = budget._lock
    budget._in_child()
    assert budget._lock is not before
    assert threading.Lock().acquire(blocking=False)
    assert A2aClient is not None
    assert TaskSpec("echo", "x").skill == "echo"
