"""The client without an event loop: threads, Ctrl-C, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest
from a2a_stub import InThread, Official, RvAgent
from a2a_vectors import K1
from ruvector.a2a import A2aClient, Retry, TaskSpec, Timeouts
from ruvector.errors import CardSignatureInvalid, TaskNotFound, TransportError

FAST = {"retry": Retry(first_pause=0.01), "timeouts": Timeouts(read=30.0)}


@pytest.fixture
def agent():
    with InThread(Official("1.0")) as agent:
        yield agent


@pytest.fixture
def client(agent):
    with A2aClient.connect_sync(agent.url, **FAST) as client:
        yield client


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name == "ruvector-a2a"]


def test_the_same_methods(client):
    assert client.card.name == "official stub"
    assert (client.dialect, client.trust.level) == ("1.0", "none")
    assert client.refresh_card(force=True) == client.card
    task = client.wait_task(client.send_task(TaskSpec("echo", "hi")), poll=(0.01, 0.1))
    assert task.text == "hi"
    assert client.get_task(task.id) == client.cancel_task(task.id) == task
    task = client.send_task(TaskSpec("echo", "ask"), wait=True)
    assert client.reply(task, "blue", wait=True).text == "blue"
    with client.stream_task(TaskSpec("echo", "count 2 1")) as stream:
        kinds = [update.kind for update in stream]
    assert kinds == ["task", "status", "status", "status"]
    assert stream.task.status.state == "completed"
    assert next(client.resubscribe(task.id)).kind == "task"
    assert repr(client).startswith("SyncA2aClient('official stub'")
    with pytest.raises(TaskNotFound):
        client.get_task("no such task")


def test_against_an_rvagent_peer():
    with InThread(RvAgent()) as agent:
        with A2aClient.connect_sync(agent.url, agent_id=K1[2]) as client:
            assert client.send_task(TaskSpec("echo", "hi")).text == "hi"
            kinds = [update.kind for update in client.stream_task(TaskSpec("echo", "hi"))]
            assert kinds == ["status", "artifact", "status"]
        with pytest.raises(CardSignatureInvalid):
            A2aClient.connect_sync(agent.url, agent_id="0" * 64)
    assert not loop_threads()


def test_leaving_a_stream_early(client, agent):
    with client.stream_task(TaskSpec("echo", "slow")) as stream:
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_from_several_threads(client):
    found = []

    def work(n):
        text = f"text {n}"
        task = client.send_task(TaskSpec("echo", text), wait=True)
        updates = list(client.stream_task(TaskSpec("echo", text)))
        found.append((text, task.text, updates[1].artifact.text))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(len(set(texts)) == 1 for texts in found)


def test_inside_a_loop_it_refuses(client):
    async def main():
        with pytest.raises(RuntimeError, match="inside an event loop"):
            client.get_task("t")

    asyncio.run(main())


def test_closed_means_closed(agent):
    client = A2aClient.connect_sync(agent.url)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_task("t")
    with pytest.raises(RuntimeError, match="closed"):
        client.close()
    assert not loop_threads()


def test_a_client_that_is_forgotten_warns_and_ends_its_thread(agent):
    spec = TaskSpec("echo", "count 2 1")
    streams = [A2aClient.connect_sync(agent.url, **FAST).stream_task(spec)]
    gc.collect()
    assert [update.kind for update in streams[0]][-1] == "status"  # a stream keeps its client
    (thread,) = loop_threads()
    with pytest.warns(ResourceWarning, match="was not closed"):
        streams.clear()
    thread.join(30)
    assert not loop_threads()


def test_a_failed_connection_leaves_no_thread():
    with pytest.raises(TransportError):
        A2aClient.connect_sync("http://127.0.0.1:9/", **FAST)
    assert not loop_threads()


def test_ctrl_c_cancels_the_call(client, agent, monkeypatch):
    import concurrent.futures

    result = concurrent.futures.Future.result

    def interrupted(self, timeout=None):
        monkeypatch.setattr(concurrent.futures.Future, "result", result)
        # the call is under way by then
        for _ in range(3000):
            if agent.workers:
                break
            threading.Event().wait(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.send_task(TaskSpec("echo", "slow"), wait=True)
    for _ in range(3000):
        if len(client._client._session.gate) == 0:
            break
        threading.Event().wait(0.01)
    assert len(client._client._session.gate) == 0
    assert client.send_task(TaskSpec("echo", "hi"), wait=True).text == "hi"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded")
def test_a_child_process_refuses(client):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.get_task("t")
        except RuntimeError as why:
            os.write(write, str(why).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"parent process" in os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert client.card is not None
