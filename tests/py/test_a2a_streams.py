"""Streams of updates: order, end, reconnection, duplicates, back-pressure."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings

import numpy as np
import pytest
import ruvector
from a2a_stub import Official, Response, RvAgent, now, rpc_error, rpc_result, run, settled, sse
from ruvector.a2a import A2aClient, Limits, Retry, TaskSpec, Timeouts
from ruvector.errors import A2aError, ProtocolError, TaskNotFound, TransportError

FAST = {
    "retry": Retry(first_pause=0.01, stream_first_pause=0.01),
    "timeouts": Timeouts(read=30.0, task=30.0),
}
OFFICIAL = ["0.2", "0.3", "1.0"]


def with_client(stub, use, policy="debug", **options):
    async def main():
        async with stub:
            async with await A2aClient.connect(stub.url, **{**FAST, **options}) as client:
                result = await use(client, stub)
            assert await settled(lambda: not stub.writers), "a connection was left open"
            return result

    return run(main(), policy=policy)


def brief(updates):
    """What happened, in short."""
    short = []
    for update in updates:
        if update.kind == "status":
            text = update.status.message.text if update.status.message else ""
            short.append(f"{update.status} {text}".strip())
        elif update.kind == "artifact":
            short.append(f"{'+' if update.append else '='}{update.artifact.text}")
        else:
            short.append(update.kind)
    return short


async def collect(stream):
    return [update async for update in stream]


# ---- official -----------------------------------------------------------------------


@pytest.mark.parametrize("version", OFFICIAL)
def test_a_stream_from_start_to_end(version):
    async def main(client, agent):
        stream = client.stream_task(TaskSpec("echo", "count 3 1"))
        assert (stream.task_id, stream.task) == (None, None)
        updates = await collect(stream)
        assert brief(updates) == ["task", "working 1", "working 2", "working 3", "completed"]
        assert [u.final for u in updates] == [False] * 4 + [True]
        assert {u.task_id for u in updates} == {stream.task_id}
        assert stream.task.status.state == "completed"
        assert not any(u.synthetic or u.gap for u in updates)
        assert await collect(stream) == []  # it stays at its end

    with_client(Official(version), main)


@pytest.mark.parametrize("version", OFFICIAL)
def test_chunks(version):
    async def main(client, agent):
        async with client.stream_task(TaskSpec("echo", "chunks")) as stream:
            updates = await collect(stream)
        assert brief(updates) == ["task", "=one ", "+two ", "+three", "completed"]
        assert [u.last_chunk for u in updates if u.kind == "artifact"] == [False, False, True]
        assert stream.task.text == "one two three"
        assert stream.task.artifacts == (await client.get_task(stream.task_id)).artifacts

    with_client(Official(version), main)


@pytest.mark.parametrize("version", OFFICIAL)
def test_other_ends(version):
    async def main(client, agent):
        updates = await collect(client.stream_task(TaskSpec("echo", "fail")))
        assert brief(updates) == ["task", "failed it went wrong"]
        updates = await collect(client.stream_task(TaskSpec("echo", "message hi")))
        assert brief(updates) == ["message"]
        assert updates[0].final
        stream = client.stream_task(TaskSpec("echo", "ask"))
        updates = await collect(stream)
        assert brief(updates) == ["task", "input-required which color?"]
        assert stream.task.status.state.is_interrupted
        # what follows begins with a snapshot that still waits, which is not the end
        answer = TaskSpec("echo", "blue", id=stream.task_id, context_id=stream.task.context_id)
        updates = await collect(client.stream_task(answer))
        assert brief(updates)[-2:] == ["=blue", "completed"]

    with_client(Official(version), main)


@pytest.mark.parametrize("version", OFFICIAL)
def test_watching_a_task_that_runs(version):
    async def main(client, agent):
        task = await client.send_task(TaskSpec("echo", "watched 5"))
        updates = await collect(client.stream_task(task))
        assert updates[0].kind == "task"
        assert brief(updates)[-2:] == ["working 5", "completed"]
        again = await collect(client.resubscribe(task.id))
        assert brief(again) == ["task", "completed"]
        with pytest.raises(TaskNotFound):
            await collect(client.stream_task("no such task"))

    with_client(Official(version), main)


@pytest.mark.parametrize("version", OFFICIAL)
@pytest.mark.parametrize("text", ["count 6 10", "chunks"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_lost_connection(version, text, after):
    async def main(client, agent):
        agent.lose = after
        stream = client.stream_task(TaskSpec("echo", text))
        updates = await collect(stream)
        told = brief(updates)
        assert told.count("warning") <= 1
        if "warning" in told:
            assert next(u for u in updates if u.kind == "warning").gap
        assert told[-1] == "completed"
        statuses = [t for t in told if t.startswith("working")]
        assert len(set(statuses)) == len(statuses), "a status came twice"
        whole = await client.get_task(stream.task_id)
        assert stream.task.artifacts == whole.artifacts
        assert stream.task.status == whole.status

    with_client(Official(version), main)


def test_a_lost_connection_that_nobody_wants_back():
    async def main(client, agent):
        agent.lose = 1
        with pytest.raises(TransportError) as caught:
            await collect(client.stream_task(TaskSpec("echo", "count 6 10"), reconnect=False))
        assert caught.value.retryable
        assert agent.methods() == ["SendStreamingMessage"]

    with_client(Official("1.0"), main)


def scripted(frames, version="1.0", subscribed=(), task=None):
    """An agent whose streams are these lists of results, bytes or pauses."""
    agent = Official(version)
    calls = iter([frames, *subscribed])

    async def events(request, script):
        for item in script:
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif item is None or isinstance(item, bytes):
                yield item
            else:
                yield sse(rpc_result(request, item))

    def rpc(request):
        method = request.json["method"]
        if method in ("GetTask", "tasks/get"):
            found = task() if callable(task) else task
            return rpc_result(request, found) if found else rpc_error(request, -32001, "no")
        script = next(calls)
        if isinstance(script, dict):
            return {**script, "id": request.json["id"]}
        return Response(events(request, script), type="text/event-stream; charset=utf-8")

    agent.rpc = rpc
    return agent


def status(name, message=None, stamp=None, **more):
    value = {"state": f"TASK_STATE_{name}", "timestamp": stamp or now()}
    if message:
        parts = [{"text": message}]
        value["message"] = {"messageId": message, "role": "ROLE_AGENT", "parts": parts}
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": value, **more}}


def artifact(text, **more):
    held = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": held, **more}}


def snapshot(name, *texts, stamp="2026-01-01T00:00:00Z"):
    task = {
        "id": "t",
        "contextId": "c",
        "status": {"state": f"TASK_STATE_{name}", "timestamp": stamp},
    }
    if texts:
        task["artifacts"] = [{"artifactId": "a", "parts": [{"text": t} for t in texts]}]
    return {"task": task}


def updates_of(agent, streams=None, **options):
    async def main(client, agent):
        updates = []
        stream = client.stream_task(TaskSpec("echo", "x"))
        if streams is not None:
            streams.append(stream)
        try:
            async for update in stream:
                updates.append(update)
        except A2aError as why:
            return updates, why
        return updates, None

    return with_client(agent, main, **options)


def test_after_a_gap_the_snapshot_fills_in_what_is_missing():
    agent = scripted(
        [snapshot("SUBMITTED"), status("WORKING", stamp="S1"), artifact("one"), None],
        subscribed=[
            [
                snapshot("WORKING", "one", "two", stamp="S1"),
                status("WORKING", stamp="S1"),  # some servers repeat what is latest
                artifact("three", append=True),
                status("COMPLETED"),
            ]
        ],
    )
    updates, error = updates_of(agent)
    assert error is None
    assert brief(updates) == [
        *("task", "working", "=one", "warning", "+two", "+three", "completed")
    ]
    assert [u.gap for u in updates] == [False] * 3 + [True, True, False, False]
    assert [u.synthetic for u in updates] == [False] * 4 + [True, False, False]


def test_a_snapshot_that_contradicts_what_came_before_replaces_it():
    agent = scripted(
        [snapshot("WORKING"), artifact("one"), None],
        subscribed=[[snapshot("COMPLETED", "other")]],
    )
    assert brief(updates_of(agent)[0]) == ["task", "=one", "warning", "=other", "completed"]


def test_without_a_snapshot_the_task_is_asked_for():
    first = {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "working"}}
    ids = {"taskId": "t", "contextId": "c"}
    end = {"kind": "status-update", **ids, "status": {"state": "completed"}, "final": True}
    task = {**first, "artifacts": [{"artifactId": "a", "parts": [{"kind": "text", "text": "one"}]}]}
    agent = scripted([first, None], "0.3", subscribed=[[end]], task=task)
    updates, error = updates_of(agent)
    assert error is None
    assert brief(updates) == ["task", "warning", "=one", "completed"]


def test_a_piece_that_came_both_live_and_in_the_task_is_told_once():
    ids = {"taskId": "t", "contextId": "c"}
    first = {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "working"}}
    end = {"kind": "status-update", **ids, "status": {"state": "completed"}, "final": True}

    def piece(text, append=True):
        held = {"artifactId": "a", "parts": [{"kind": "text", "text": text}]}
        return {"kind": "artifact-update", **ids, "artifact": held, "append": append}

    def task(state, *texts):
        parts = [{"kind": "text", "text": text} for text in texts]
        artifacts = [{"artifactId": "a", "parts": parts}]
        return {**first, "status": {"state": state}, "artifacts": artifacts}

    # "two" was lost; the task that is asked for after "three" holds it already, or does not
    both = ["three", "four"]
    whole = ["one", "two", "three", "four"]
    for found, live, pieces in (
        (["one", "two", "three"], both, ["+twothree", "+four"]),
        (["one", "two"], both, ["+two", "+three", "+four"]),
        (whole, both, ["+twothreefour"]),
        # what cannot be told apart is put right in the end
        (["one", "two"], ["two", "three", "four"], ["+two", "+three", "+four"]),
        (["one"], ["two", "three", "two"], ["+two", "+three", "+two", "=onetwothreefour"]),
    ):
        tasks = iter([task("working", *found), task("completed", *whole)])
        agent = scripted(
            [first, piece("one", append=False), None],
            "0.3",
            subscribed=[[*map(piece, live), end]],
            task=lambda tasks=tasks: next(tasks),
        )
        streams = []
        updates, error = updates_of(agent, streams=streams)
        assert error is None
        assert brief(updates) == ["task", "=one", "warning", *pieces, "completed"]
        assert streams[0].task.text == "onetwothreefour"


def test_a_task_that_ended_while_the_connection_was_lost():
    ended = {"jsonrpc": "2.0", "error": {"code": -32004, "message": "it has ended"}}
    task = snapshot("COMPLETED", "one", "two")["task"]
    for error in (ended, [b'event: error\ndata: {"id":2,"error":{"code":-32004}}\n\n']):
        agent = scripted(
            [snapshot("WORKING"), artifact("one"), None], subscribed=[error], task=task
        )
        updates, why = updates_of(agent)
        assert why is None
        told = brief(updates)
        assert told[-2:] == ["+two", "completed"]
        assert updates[-1].gap


def test_it_is_not_tried_for_ever():
    agent = scripted([snapshot("WORKING"), None], subscribed=[[]] * 9)
    _, error = updates_of(agent)
    assert isinstance(error, TransportError)
    assert agent.methods() == ["SendStreamingMessage"] + ["SubscribeToTask"] * 5


def test_progress_is_a_reason_to_go_on_trying():
    lost = [[snapshot("WORKING"), status("WORKING", str(i)), None] for i in range(12)]
    agent = scripted([snapshot("WORKING"), None], subscribed=[*lost, [snapshot("COMPLETED")]])
    updates, error = updates_of(agent)
    assert error is None
    assert [t for t in brief(updates) if t.startswith("working")] == [
        f"working {i}" for i in range(12)
    ]


BROKE = b'data: {"id":1,"error":{"code":-32603,"message":"the skill broke"}}\n\n'


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([], TransportError),  # closed before the task had a name
        ([b"data: {"], TransportError),
        ([snapshot("WORKING"), b"data: not json\n\n"], ProtocolError),
        ([snapshot("WORKING"), b"data: \xff\n\n"], ProtocolError),
        ([snapshot("WORKING"), b"data: []\n\n"], ProtocolError),
        ([snapshot("WORKING"), b'data: {"jsonrpc":"2.0","id":77,"result":{}}\n\n'], ProtocolError),
        ([snapshot("WORKING"), b"data: " + b"x" * 2000], TransportError),
        (
            [snapshot("WORKING"), b'event: error\ndata: {"id":1,"error":{"code":-32603}}\n\n'],
            A2aError,
        ),
        (
            [snapshot("WORKING"), b'data: {"id":1,"error":{"code":-32603,"message":"x"}}\n\n'],
            A2aError,
        ),
        ({"jsonrpc": "2.0", "error": {"code": -32603, "message": "before it began"}}, A2aError),
    ],
)
def test_streams_that_break(script, error):
    updates, why = updates_of(scripted(script), limits=Limits(sse_line_bytes=1000))
    assert type(why) is error
    assert len(updates) <= 1


def test_events_of_an_unknown_kind_are_told_and_passed_over():
    strange = [{"weatherUpdate": {"rain": True}}, {}]
    updates, _ = updates_of(scripted([snapshot("WORKING"), *strange, status("COMPLETED")]))
    assert brief(updates) == ["task", "warning", "warning", "completed"]
    assert updates[1].raw == {"weatherUpdate": {"rain": True}}


def test_repeated_event_ids_mean_nothing():
    def event(number, body):
        return b"id: 5\n" + sse({"jsonrpc": "2.0", "id": number, "result": body})

    agent = scripted(
        [event(1, snapshot("WORKING")), event(1, status("WORKING")), event(1, status("COMPLETED"))]
    )
    assert brief(updates_of(agent)[0]) == ["task", "working", "completed"]


def test_line_separators_inside_json():
    text = "a\u2028b\u2029c\u0085d"
    agent = scripted([snapshot("WORKING"), artifact(text), status("COMPLETED")])
    assert brief(updates_of(agent)[0]) == ["task", "=" + text, "completed"]


def test_a_peer_that_keeps_the_connection_after_the_end():
    agent = scripted([snapshot("WORKING"), status("COMPLETED"), float("inf")])
    assert brief(updates_of(agent)[0])[-1] == "completed"


def test_a_large_event():
    text = "x" * 1_000_000
    agent = scripted([snapshot("WORKING"), artifact(text), status("COMPLETED")])
    assert brief(updates_of(agent)[0])[1] == "=" + text


def test_comments_keep_a_quiet_stream_alive():
    six_minutes = [b": still here\n\n", 15.0] * 24
    agent = scripted([snapshot("WORKING"), *six_minutes, status("COMPLETED")])
    updates, _ = updates_of(agent, policy="fake clock")
    assert brief(updates) == ["task", "completed"]
    assert agent.methods() == ["SendStreamingMessage"]


def test_a_stream_gone_silent_is_taken_up_again():
    for minutes, told in ((4.9, ["completed"]), (5.1, ["warning", "completed"])):
        agent = scripted(
            [snapshot("WORKING"), minutes * 60, status("COMPLETED")],
            subscribed=[[snapshot("COMPLETED")]],
        )
        updates, _ = updates_of(agent, policy="fake clock")
        assert brief(updates) == ["task", *told]
    agent = scripted([snapshot("WORKING"), float("inf")])

    async def main(client, agent):
        with pytest.raises(TransportError) as caught:
            await collect(client.stream_task(TaskSpec("echo", "x"), reconnect=False))
        assert caught.value.phase == "idle"

    with_client(agent, main, policy="fake clock")


def test_an_agent_that_does_not_stream():
    async def main(client, agent):
        updates = await collect(client.stream_task(TaskSpec("echo", "chunks")))
        assert brief(updates)[0] == "task"
        assert "".join(u.artifact.text for u in updates if u.kind == "artifact") == "one two three"
        assert brief(updates)[-1] == "completed"
        assert "SendStreamingMessage" not in agent.methods()
        task = await client.send_task(TaskSpec("echo", "chunks"))
        updates = await collect(client.stream_task(task.id))
        assert "".join(u.artifact.text for u in updates if u.kind == "artifact") == "one two three"
        assert brief(updates)[-1] == "completed"
        assert "SubscribeToTask" not in agent.methods()
        with pytest.raises(TaskNotFound):
            await collect(client.stream_task("no such task"))

    with_client(Official("1.0", capabilities={}), main)


# ---- rvAgent ------------------------------------------------------------------------


def text_artifact(text, index=0, **more):
    return {"name": f"a{index}", "parts": [{"type": "text", "text": text}], "index": index, **more}


async def chatty(task, emit):
    """Works three times, tells of the first of two artifacts."""
    for i in range(3):
        status = {"state": "working", "timestamp": now()}
        parts = [{"type": "text", "text": str(i)}]
        status["message"] = {"role": "agent", "parts": parts}
        emit("status", {"id": task["id"], "status": status, "final": False})
        await asyncio.sleep(0.02)
    emit("artifact", {"id": task["id"], "artifact": text_artifact("one", lastChunk=True)})
    emit("warning", {"lagged": 7})
    return [text_artifact("one"), text_artifact("two", 1)]


CHATTY = [
    *("submitted", "working 0", "working 1", "working 2", "=one", "warning", "=two", "completed")
]


@pytest.mark.parametrize("hang", [True, False])
def test_an_rvagent_stream(hang):
    async def main(client, agent):
        agent.run, agent.hang_after_final = chatty, hang
        stream = client.stream_task(TaskSpec("echo", "x", id="t"))
        assert stream.task_id == "t"
        updates = await collect(stream)
        assert brief(updates) == CHATTY
        assert [u.synthetic for u in updates] == [False] * 6 + [True, False]
        assert updates[5].gap
        assert "7 events" in updates[5].warning
        assert [a.text for a in stream.task.artifacts] == ["one", "two"]
        # the stream is there before the task is sent: nothing is missed
        assert [r.path for r in agent.requests[-2:]] == ["/tasks/sendSubscribe", "/"]

    with_client(RvAgent(), main)


def watched(agent, run=chatty):
    """`run`, as soon as a stream watches the task."""

    async def wait(task, emit):
        await settled(lambda: bool(agent.channels.get(task["id"])))
        return await run(task, emit)

    return wait


def test_watching_an_rvagent_task():
    async def main(client, agent):
        agent.run = watched(agent)
        sending = asyncio.ensure_future(client.send_task(TaskSpec("echo", "x", id="t")))
        await settled(lambda: "t" in agent.running)
        updates = await collect(client.stream_task("t"))
        assert brief(updates) == CHATTY
        await sending
        updates = await collect(client.stream_task("t"))  # once more, from its history
        assert brief(updates) == [*CHATTY[:4], "=one", "=two", "completed"]

    with_client(RvAgent(), main)


def test_right_after_the_end_a_peer_does_not_know_the_task():
    async def main(client, agent):
        agent.run, agent.unstored = watched(agent), 4
        sending = asyncio.ensure_future(client.send_task(TaskSpec("echo", "x", id="t")))
        await settled(lambda: "t" in agent.running)
        updates = await collect(client.stream_task("t"))
        assert brief(updates)[-2:] == ["=two", "completed"]
        assert agent.methods().count("tasks/get") == 5
        await sending

    with_client(RvAgent(), main)


def test_an_unknown_task_of_an_rvagent_peer():
    async def main(client, agent):
        with pytest.raises(TaskNotFound):
            await collect(client.stream_task("no such task"))

    with_client(RvAgent(), main)


def test_resuming_where_one_left():
    async def main(client, agent):
        agent.run = chatty
        stream = client.stream_task(TaskSpec("echo", "x", id="t"))
        seen = await collect(stream)
        # from the second working on; equal timestamps are not told again
        stamp = seen[1].status.timestamp
        updates = await collect(client.resubscribe("t", last_event_id=stamp))
        assert brief(updates)[-1] == "completed"
        # after the end a peer would say nothing, for ever
        updates = await collect(client.resubscribe("t", last_event_id=seen[-1].status.timestamp))
        assert brief(updates) == ["task", "=one", "=two", "completed"]

    with_client(RvAgent(), main)


def test_resuming_a_task_that_runs():
    async def main(client, agent):
        agent.run = watched(agent)
        sending = asyncio.ensure_future(client.send_task(TaskSpec("echo", "x", id="t")))
        await settled(lambda: bool(agent.history.get("t")))
        stamp = json.loads(agent.history["t"][0].split(b"data: ")[1])["status"]["timestamp"]
        updates = await collect(client.resubscribe("t", last_event_id=stamp))
        assert brief(updates) == CHATTY[1:]
        assert [r.query["last_event_id"] for r in agent.requests if "last_event_id" in r.query] == [
            stamp
        ]
        await sending

    with_client(RvAgent(), main)


def test_an_rvagent_stream_that_is_lost():
    async def main(client, agent):
        async def run(task, emit):
            result = await chatty(task, emit)
            agent.drop(task["id"])
            await settled(lambda: agent.count("/tasks/resubscribe") > 0)
            return result

        agent.run = run
        stream = client.stream_task(TaskSpec("echo", "x", id="t"))
        updates = await collect(stream)
        told = brief(updates)
        assert told.count("submitted") == 1
        assert [t for t in told if t.startswith("working")] == CHATTY[1:4]
        assert any(u.kind == "warning" and "connection" in u.warning for u in updates)
        assert told[-2:] == ["=two", "completed"]
        assert agent.methods().count("tasks/send") == 1
        resumed = next(r for r in agent.requests if r.path == "/tasks/resubscribe")
        assert resumed.query["last_event_id"] == updates[3].status.timestamp

    with_client(RvAgent(), main)


@pytest.mark.parametrize("reconnect", [True, False])
def test_an_rvagent_stream_that_stays_lost(reconnect):
    async def main(client, agent):
        given_up = asyncio.Event()

        async def run(task, emit):
            del agent.handlers["/tasks/resubscribe"]
            agent.drop(task["id"])
            await given_up.wait()
            return [text_artifact("one")]

        agent.run = run
        updates = []
        stream = client.stream_task(TaskSpec("echo", "x", id="t"), reconnect=reconnect)
        if not reconnect:
            with pytest.raises(TransportError):
                await collect(stream)
            given_up.set()
            assert await settled(lambda: "t" in agent.tasks)  # the task does not mind
            return
        async for update in stream:
            updates.append(update)
            if update.kind == "warning":
                given_up.set()
        assert brief(updates) == ["submitted", "warning", "=one", "completed"]
        assert agent.count("/tasks/resubscribe") == 5
        assert updates[1].gap

    with_client(RvAgent(), main)


def test_other_tasks_get_turns_during_a_burst():
    async def main(client, agent):
        async def burst(request):
            results = [snapshot("WORKING"), *[status("WORKING")] * 300, status("COMPLETED")]
            yield b"".join(sse(rpc_result(request, result)) for result in results)

        agent.handlers["/a2a"] = lambda request: Response(burst(request), type="text/event-stream")
        turns = []
        reading = asyncio.ensure_future(collect(client.stream_task(TaskSpec("echo", "x"))))
        while not reading.done():
            await asyncio.sleep(0)
            turns.append(1)
        assert len(await reading) == 302
        assert len(turns) > 18

    with_client(Official("1.0"), main)


def test_the_first_of_two_equal_events_counts():
    async def main(client, agent):
        async def run(task, emit):  # a router tells of the same status once more
            emit("status", {"id": task["id"], "status": task["status"], "final": False})
            return []

        agent.run = run
        updates = await collect(client.stream_task(TaskSpec("echo", "x")))
        assert brief(updates) == ["submitted", "completed"]

    with_client(RvAgent(), main)


def test_an_rvagent_task_that_fails_or_is_refused():
    async def main(client, agent):
        updates = await collect(client.stream_task(TaskSpec("echo", "fail")))
        assert brief(updates) == ["submitted", "failed internal error: the skill broke"]
        agent.refuse = lambda request, params: rpc_error(request, -32002, "no")
        with pytest.raises(A2aError, match="no"):
            await collect(client.stream_task(TaskSpec("echo", "x")))

    with_client(RvAgent(), main)


def test_a_peer_without_the_event_route():
    async def main(client, agent):
        del agent.handlers["/tasks/sendSubscribe"]
        updates = await collect(client.stream_task(TaskSpec("echo", "x")))
        assert brief(updates) == ["=x", "completed"]

    with_client(RvAgent(), main)


def test_the_answer_may_overtake_the_events():
    async def main(client, agent):
        async def late(*about):
            async for frame in type(agent).events(agent, *about):
                await asyncio.sleep(0.1)
                yield frame

        agent.events = late
        updates = await collect(client.stream_task(TaskSpec("echo", "x")))
        assert brief(updates) == ["submitted", "=x", "completed"]
        assert not updates[-1].synthetic

    with_client(RvAgent(), main, policy="fake clock")


# ---- being a good reader ------------------------------------------------------------


@pytest.mark.parametrize("policy", ["asyncio", "uvloop"])
def test_stream_no_thread_fight(policy, rng):
    """A thousand updates beside awaited searches of a lake, in one loop: all there, in
    order, and the loop goes on with other things in between."""
    if policy == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    vectors = rng.standard_normal((20_000, 64), dtype=np.float32)
    backend = ruvector.LocalBackend(name="local")
    backend.upsert("docs", ids=np.arange(len(vectors)), vectors=vectors)
    lake = ruvector.RuLake()
    lake.register_backend(backend)
    queries = vectors[:200]
    expected = [lake.search_one("docs", query, k=5) for query in queries]

    async def main(client, agent):
        beats = 0
        at_beat = []
        begun = asyncio.Event()

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0)
                beats += 1

        async def watch():
            numbers = []
            async for update in client.stream_task(TaskSpec("echo", "count 1000 0")):
                at_beat.append(beats)
                if update.status and update.status.message:
                    numbers.append(int(update.status.message.text))
                if len(numbers) == 100:
                    begun.set()
            return numbers

        async def search():
            await begun.wait()
            return [await lake.search_one_async("docs", query, k=5) for query in queries]

        beating = asyncio.ensure_future(beat())
        numbers, *found = await asyncio.gather(watch(), search(), search())
        beating.cancel()
        await asyncio.wait({beating})
        assert numbers == list(range(1, 1001))
        assert found == [expected, expected]
        assert len(set(at_beat)) > 50, "the stream kept the loop to itself"

    with_client(Official("1.0"), main, policy=policy)


def test_nothing_is_read_while_nobody_asks():
    async def main(client, agent):
        sent = 0

        async def flood(request):
            nonlocal sent
            yield sse(rpc_result(request, snapshot("WORKING")))
            while True:
                yield sse(rpc_result(request, artifact("x" * 50_000)))
                sent += 1

        agent.handlers["/a2a"] = lambda request: Response(flood(request), type="text/event-stream")
        async with client.stream_task(TaskSpec("echo", "x")) as stream:
            for _ in range(3):
                await stream.__anext__()
            for _ in range(50):  # until the system's buffers are full
                before = sent
                await asyncio.sleep(0.2)
                if sent == before:
                    break
            assert sent == before, "events are taken although nobody asked"
            assert len(stream._feed.out) == 0

    with_client(Official("1.0"), main)


def test_one_reader_at_a_time():
    async def main(client, agent):
        async with client.stream_task(TaskSpec("echo", "slow")) as stream:
            assert (await stream.__anext__()).kind == "task"
            await stream.__anext__()
            reading = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.05)
            with pytest.raises(RuntimeError, match="being read"):
                await stream.__anext__()
            reading.cancel()
            await asyncio.wait({reading})
        assert await collect(stream) == []

    with_client(Official("1.0"), main)


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_a_stream_that_another_task_closes_ends(stub):
    async def main(client, agent):
        async def forever(task, emit):
            await asyncio.sleep(600)

        agent.run = forever
        stream, heard = client.stream_task(TaskSpec("echo", "slow")), []

        async def read():
            async for update in stream:
                heard.append(update.kind)

        reading = asyncio.ensure_future(read())
        assert await settled(lambda: len(heard) == (1 if stub is RvAgent else 2))
        await stream.aclose()
        await reading
        await client.cancel_task(stream.task_id)

    with_client(stub(), main)


def test_leaving_early_closes_the_connection_and_not_the_task():
    async def main(client, agent):
        async with client.stream_task(TaskSpec("echo", "slow")) as stream:
            async for _ in stream:
                break
        assert await settled(lambda: len(agent.writers) <= 1)
        assert agent.methods() == ["SendStreamingMessage"]

    with_client(Official("1.0"), main)


def test_leaving_early_does_not_cut_the_call_that_an_rvagent_task_lives_by():
    async def main(client, agent):
        left = asyncio.Event()

        async def slowly(task, emit):
            await left.wait()
            return []

        agent.run = slowly
        async with client.stream_task(TaskSpec("echo", "x", id="t")) as stream:
            async for _ in stream:
                break
        assert await settled(lambda: not agent.channels["t"])  # no one watches any more
        assert "t" in agent.running
        left.set()
        assert await settled(lambda: "t" in agent.tasks)
        assert (await client.get_task("t")).status.state == "completed"
        assert agent.methods() == ["tasks/send", "tasks/get"]

    with_client(RvAgent(), main)


def test_closing_the_client_ends_such_calls():
    async def main():
        async with RvAgent() as agent:

            async def forever(task, emit):
                await asyncio.sleep(60)

            agent.run = forever
            client = await A2aClient.connect(agent.url)
            async with client, client.stream_task(TaskSpec("echo", "x")) as stream:
                async for _ in stream:
                    break
            assert await settled(lambda: not agent.writers)

    run(main())


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_cancelling_the_task_on_leaving(stub):
    async def main(client, agent):
        async def forever(task, emit):
            await asyncio.sleep(60)

        agent.run = forever
        async with client.stream_task(TaskSpec("echo", "slow"), cancel_remote=True) as stream:
            async for _ in stream:
                break
        assert sum("ancel" in method for method in agent.methods()) == 1

    with_client(stub(), main)


def test_a_stream_that_is_forgotten_warns_and_closes():
    async def main(client, agent):
        async for _ in client.stream_task(TaskSpec("echo", "slow")):
            break
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
            await asyncio.sleep(0)
        assert await settled(lambda: len(agent.writers) <= 1)
        return caught

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with_client(Official("1.0"), main)
    assert any("was not closed" in str(w.message) for w in caught)


def test_a_stream_that_was_never_read_costs_nothing():
    async def main(client, agent):
        client.stream_task(TaskSpec("echo", "slow"))
        gc.collect()
        assert agent.methods() == []

    with_client(Official("1.0"), main)
