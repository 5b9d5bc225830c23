"""Cancelling at every point where a stream waits: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import warnings

import pytest
from a2a_stub import Official, RvAgent, now, run, settled
from ruvector.a2a import A2aClient, Retry, TaskSpec, Timeouts

PATIENT = Timeouts(connect=300.0, read=300.0, task=300.0)
LIMITS = {"retry": Retry(first_pause=0.01), "timeouts": PATIENT}


@types.coroutine
def cancelled_at(n, coroutine):
    """Runs `coroutine`; its task is cancelled as it waits for the n-th time."""
    waits = 0
    send, value = coroutine.send, None
    while True:
        try:
            future = send(value)
        except StopIteration as end:
            return end.value
        waits += 1
        if waits == n:
            asyncio.current_task().cancel()
        send, value = coroutine.send, None
        try:
            yield future
        except BaseException as error:
            send, value = coroutine.throw, error


async def outcome(n, coroutine):
    try:
        await cancelled_at(n, coroutine)
    except asyncio.CancelledError:
        return "cancelled"
    return "finished"


async def watch(client):
    async with client.stream_task(TaskSpec("echo", "count 2 1")) as stream:
        return [update async for update in stream]


async def watch_without_care(client):
    return [update async for update in client.stream_task(TaskSpec("echo", "count 2 1"))]


async def working(task, emit):
    for _ in range(2):
        status = {"state": "working", "timestamp": now()}
        emit("status", {"id": task["id"], "status": status, "final": False})
        await asyncio.sleep(0.001)
    return [{"parts": [{"type": "text", "text": "done"}]}]


def open_streams(agent):
    """Streams that the agent is still serving."""
    queues = agent.channels if isinstance(agent, RvAgent) else agent.queues
    return sum(len(listening) for listening in queues.values())


def with_client(stub, use, policy="debug"):
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        async with stub:
            stub.run = working
            async with await A2aClient.connect(stub.url, **LIMITS) as client:
                await use(client, stub)
            assert await settled(lambda: not stub.writers), "a socket was left open"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main(), policy=policy)
        gc.collect()
    left = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    if sys.version_info < (3, 10):
        # asyncio itself forgets a socket when connecting is cancelled
        left = [text for text in left if "TaskStream" in text]
    assert left == []
    assert complaints == []


@pytest.mark.parametrize("task", [watch, watch_without_care])
@pytest.mark.parametrize("make", [RvAgent, lambda: Official("1.0"), lambda: Official("0.3")])
def test_cancelled_at_every_await(make, task):
    async def main(client, agent):
        before = len(asyncio.all_tasks())
        told = []
        for n in range(1, 500):
            told.append(await outcome(n, task(client)))
            if told[-1] == "finished":
                break
            assert await settled(lambda: open_streams(agent) == 0), n
        assert told[-1] == "finished"
        assert len(told) > 5
        assert set(told[:-1]) == {"cancelled"}
        assert await settled(lambda: client._session.idle)
        assert [update.kind for update in await task(client)][-1] == "status"
        # of the tasks that are left, each serves a connection of the stub
        assert await settled(lambda: len(asyncio.all_tasks()) <= before + len(agent.writers))

    with_client(make(), main)


@pytest.mark.parametrize(
    ("make", "policy"),
    [
        (Official, "debug"),
        pytest.param(RvAgent, "asyncio", marks=pytest.mark.extras),
        (RvAgent, "uvloop"),
    ],
)
def test_two_hundred_streams_at_once(make, policy):
    if policy == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main(client, agent):
        told = await asyncio.gather(
            *(asyncio.ensure_future(outcome(n // 2, watch(client))) for n in range(200))
        )
        assert told[:2] == ["finished", "finished"]  # the 0th wait does not come
        assert told.count("cancelled") > 10
        assert told.count("finished") > 10
        assert await settled(lambda: open_streams(agent) == 0)
        assert await settled(lambda: client._session.idle)
        assert len(await watch(client)) > 2

    with_client(make(), main, policy)


def test_cancelled_twice_while_closing():
    async def main(client, agent):
        async def read():
            async with client.stream_task(TaskSpec("echo", "slow")) as stream:
                async for _ in stream:
                    pass

        for pause in (0, 1, 2, 3, 4, 5):
            reading = asyncio.ensure_future(read())
            assert await settled(lambda: open_streams(agent) == 1)
            reading.cancel()
            for _ in range(pause):
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert await settled(lambda: open_streams(agent) == 0)

    with_client(Official("1.0"), main)


def test_a_cancelled_send():
    async def main(client, agent):
        for n in range(1, 100):
            if await outcome(n, client.send_task(TaskSpec("echo", "hi"), wait=True)) == "finished":
                break
        assert 1 < n < 99
        assert len(client._session.gate) == 0

    with_client(Official("1.0"), main)
