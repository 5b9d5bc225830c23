"""The A2A client and servers of other makers: streams of updates, whole, left and broken.

The servers are those of test_a2a_peers.py.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager

import pytest
from a2a_peers import launch
from a2a_peers.matrix import PYTHON, RVAGENT, all_peers, in_loop, numbers, official, read
from ruvector import errors
from ruvector.a2a import A2aClient, Retry, TaskSpec


@all_peers
@in_loop
async def test_updates_come_in_order_and_complete(peer):
    async with await peer.connect() as client:
        stream = client.stream_task(TaskSpec("count", "50 2"))
        updates = await read(stream)
        assert numbers(updates) == list(range(1, 51))
        assert [update.final for update in updates] == [False] * (len(updates) - 1) + [True]
        assert stream.task.status.state == "completed"
        assert not any(update.gap or update.kind == "warning" for update in updates)
        assert {update.task_id for update in updates} == {stream.task_id}


@all_peers
@in_loop
async def test_pieces_of_artifacts(peer):
    async with await peer.connect() as client:
        stream = client.stream_task(TaskSpec("chunks", "10"))
        updates = await read(stream)
        pieces = [update for update in updates if update.kind == "artifact"]
        assert [(u.artifact.text, u.append, u.last_chunk) for u in pieces[:3]] == [
            ("one ", False, False),
            ("two ", True, False),
            ("three", True, True),
        ]
        assert len(pieces) == 4
        assert pieces[3].last_chunk
        report, table = stream.task.artifacts
        assert (report.name, report.text, len(report.parts)) == ("report", "one two three", 3)
        assert (table.name, table.parts[0].data) == ("table", {"rows": 3})


@pytest.mark.parametrize("peer", [PYTHON, RVAGENT], indirect=True)
@in_loop
async def test_a_thousand_updates(peer):
    """All of them come in order, and other tasks get their turns in between."""
    loop = asyncio.get_running_loop()
    run, runs = 0, []

    def turn():
        nonlocal run
        runs.append(run)
        run = 0

    updates = []
    async with await peer.connect() as client:
        async for update in client.stream_task(TaskSpec("count", "1000 0")):
            updates.append(update)
            if run == 0:
                loop.call_soon(turn)
            run += 1
    assert numbers(updates) == list(range(1, 1001))
    assert updates[-1].status.state == "completed"
    assert max(runs) <= 32


@all_peers
@in_loop
async def test_many_streams_at_once(peer):
    async with await peer.connect() as client:

        async def one(times: int) -> list[int]:
            return numbers(await read(client.stream_task(TaskSpec("count", f"{times} 5"))))

        counted = await asyncio.gather(*(one(times) for times in range(1, 11)))
        assert counted == [list(range(1, times + 1)) for times in range(1, 11)]


@all_peers
@in_loop
async def test_a_reader_that_leaves_does_not_end_the_task(peer):
    async with await peer.connect() as client:
        stream = client.stream_task(TaskSpec("count", "30 20"))
        async for update in stream:
            if numbers([update]) == [3]:
                break
        await stream.aclose()
        again = client.resubscribe(stream.task_id)
        updates = await read(again)
        assert updates[-1].final
        assert again.task.status.state == "completed"
        counted = numbers(updates)
        assert counted == list(range(counted[0], 31))
        assert counted[0] > 3 or peer.name == "rvagent"  # which tells all of it again


@all_peers
@in_loop
async def test_a_stream_of_a_finished_task(peer):
    async with await peer.connect() as client:
        done = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        stream = client.stream_task(done.id)
        updates = await read(stream)
        assert updates[-1].final
        assert (stream.task.status.state, stream.task.text) == ("completed", "hello")


@official
@in_loop
async def test_a_stream_of_an_unknown_task(peer):
    async with await peer.connect() as client:
        with pytest.raises(errors.TaskNotFound):
            await read(client.resubscribe("no-such-task"))


@asynccontextmanager
async def severed(url: str, events: int):
    """A way to the server at the URL that breaks once, after so many events."""
    host, port = url.split("//")[1].split("/")[0].split(":")
    left, broken = events, []

    async def copy(reader, writer, answers):
        nonlocal left
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            if answers and left > 0:
                left -= data.count(b"data:")
                if left <= 0:
                    broken.append(True)
                    return
        if writer.can_write_eof():
            writer.write_eof()

    async def serve(reader, writer):
        there, away = await asyncio.open_connection(host, int(port))
        ways = [copy(reader, away, False), copy(there, writer, True)]
        ways = [asyncio.ensure_future(way) for way in ways]
        try:
            await ways[1]
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            ways[0].cancel()
            writer.close()
            away.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", broken
    finally:
        proxy.close()


@all_peers
@in_loop
async def test_a_broken_connection_is_taken_up_again(peer):
    soon = Retry(stream_first_pause=0.05)
    async with await peer.connect() as direct:
        endpoint = direct.endpoint
    async with severed(endpoint, events=8) as (proxy, broken):
        through = endpoint.replace(peer.about["url"], proxy)
        async with await peer.connect(endpoint=through, retry=soon) as client:
            stream = client.stream_task(TaskSpec("count", "30 20"))
            updates = await read(stream)
        assert broken
    assert updates[-1].final
    assert stream.task.status.state == "completed"
    counted = numbers(updates)
    assert counted == sorted(set(counted))
    assert counted[0] == 1
    assert counted[-1] == 30
    if peer.name == "rvagent":
        assert counted == list(range(1, 31))
    else:
        assert counted == list(range(1, 31)) or any(update.gap for update in updates)


@all_peers
@in_loop
async def test_a_broken_connection_ends_the_stream_if_told_so(peer):
    async with await peer.connect() as direct:
        endpoint = direct.endpoint
    async with severed(endpoint, events=4) as (proxy, _):
        through = endpoint.replace(peer.about["url"], proxy)
        async with await peer.connect(endpoint=through) as client:
            stream = client.stream_task(TaskSpec("count", "60 5"), reconnect=False)
            heard = []
            with pytest.raises(errors.TransportError):
                await read(stream, heard)
    counted = numbers(heard)
    assert counted == list(range(1, len(counted) + 1))
    assert len(heard) <= 5


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("js-0.3.14", marks=pytest.mark.a2a_js_0_3),
        pytest.param("python", marks=pytest.mark.a2a_python),
        pytest.param("rvagent", marks=pytest.mark.a2a_rvagent),
    ],
)
@in_loop
async def test_a_server_that_goes_away(name):
    retry = Retry(attempts=2, first_pause=0.05, stream_attempts=2, stream_first_pause=0.05)
    with ExitStack() as stack:
        about = stack.enter_context(launch.running(name))
        async with await A2aClient.connect(about["url"], retry=retry) as client:
            stream = client.stream_task(TaskSpec("count", "1000 10"))
            heard = []
            async for update in stream:
                heard.append(update)
                if numbers(heard)[-1:] == [5]:
                    break
            await asyncio.to_thread(stack.close)
            with pytest.raises(errors.TransportError):
                await read(stream, heard)
    counted = numbers(heard)
    assert counted == list(range(1, len(counted) + 1))
    assert not any(update.final for update in heard)
