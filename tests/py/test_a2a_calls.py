"""Single calls: what is sent, what answers mean, and when a call is made again."""

from __future__ import annotations

import asyncio
import json

import pytest
from a2a_stub import Official, Response, RvAgent, rpc_error, rpc_result, run, settled
from a2a_vectors import K1, K2
from ruvector.a2a import (
    A2aClient,
    Limits,
    Message,
    Part,
    Retry,
    Task,
    TaskContext,
    TaskPolicy,
    TaskSpec,
    Timeouts,
    codec_v10,
)
from ruvector.errors import (
    A2aError,
    ArtifactVersionUnsupported,
    AuthRequired,
    BudgetExceeded,
    CardSignatureInvalid,
    PolicyViolation,
    ProtocolError,
    RecursionLimit,
    TaskNotCancelable,
    TaskNotFound,
    TransportError,
    UnsupportedOperation,
    VersionNotSupported,
)

FAST = {"retry": Retry(first_pause=0.01), "timeouts": Timeouts(read=30.0, task=30.0)}
OFFICIAL = ["0.2", "0.3", "1.0"]


def with_client(stub, use, policy="asyncio", **options):
    """Runs ``use(client, stub)`` beside a stub agent."""

    async def main():
        async with stub, await A2aClient.connect(stub.url, **{**FAST, **options}) as client:
            return await use(client, stub)

    return run(main(), policy=policy)


# ---- the life of a task -------------------------------------------------------------


def test_lifecycle():
    """The request's own sample, against the kind of agent it was written for."""

    async def main(client, agent):
        spec = TaskSpec(
            skill="rag.query",
            input="What is RaBitQ?",
            policy=TaskPolicy(max_tokens=4_000, max_cost_usd=0.10, max_duration_ms=30_000),
        )
        task = await client.send_task(spec)
        assert str(task.status) == "completed"
        seen = []
        async for update in client.stream_task(task.id):
            if update.kind == "artifact":
                seen.append(update.artifact.text)
            elif update.kind == "status":
                seen.append(str(update.status))
        assert seen == ["submitted", "What is RaBitQ?", "completed"]
        task = await client.cancel_task(task.id)
        assert task.status.state == "completed"  # the peer was not asked to rewrite it
        assert "tasks/cancel" not in agent.methods()
        with pytest.raises(TaskNotCancelable):
            await client.cancel_task(task.id, strict=True)

    with_client(RvAgent(), main, agent_id=K1[2])


@pytest.mark.parametrize("version", OFFICIAL)
def test_lifecycle_of_official_agents(version):
    async def main(client, agent):
        assert client.dialect == version
        task = await client.send_task(TaskSpec("echo", "hello"))
        assert task.status.state == "submitted"
        task = await client.wait_task(task, poll=(0.01, 0.1))
        assert (task.status.state, task.text) == ("completed", "hello")
        seen = [u async for u in client.stream_task(task.id)]
        assert [u.artifact.text for u in seen if u.kind == "artifact"] == ["hello"]
        assert [str(u.status) for u in seen if u.kind == "status"] == ["completed"]
        assert (await client.cancel_task(task.id)) == task
        with pytest.raises(TaskNotCancelable):
            await client.cancel_task(task.id, strict=True)

        task = await client.send_task(TaskSpec("echo", "slow"))
        task = await client.cancel_task(task.id)
        assert task.status.state == "canceled"
        assert (await client.get_task(task.id)).status == task.status

        task = await client.send_task(TaskSpec("echo", "ask"), wait=True)
        assert task.status.state.is_interrupted
        assert task.status.message.text == "which color?"
        task = await client.reply(task, "blue", wait=True)
        assert (task.status.state, task.text) == ("completed", "blue")

        task = await client.send_task(TaskSpec("echo", "message hi"))
        assert (task.id, task.status.state, task.text) == ("", "completed", "you said: message hi")
        assert await client.wait_task(task) is task
        with pytest.raises(ValueError, match="no task"):
            client.stream_task(task)

    with_client(Official(version), main)


def test_waiting_for_a_task_that_is_sent_elsewhere():
    async def main(client, agent):
        async def until_asked(task, emit):
            await settled(lambda: agent.methods().count("tasks/get") == 3)
            return []

        agent.run = until_asked
        sending = asyncio.ensure_future(client.send_task(TaskSpec("echo", "x", id="mine")))
        assert await settled(lambda: "mine" in agent.running)
        with pytest.raises(TaskNotFound):  # a peer does not know what is running
            await client.get_task("mine")
        task = await client.wait_task("mine", poll=(0.05, 0.1))
        assert task.status.state == "completed"
        assert (await sending).id == "mine"
        with pytest.raises(TaskNotFound):
            await client.wait_task("never sent")

    with_client(RvAgent(), main)


def test_cancelling_a_running_task():
    async def main(client, agent):
        async def forever(task, emit):
            await asyncio.sleep(60)

        agent.run = forever
        sending = asyncio.ensure_future(client.send_task(TaskSpec("echo", "x", id="mine")))
        assert await settled(lambda: "mine" in agent.running)
        task = await client.cancel_task("mine")
        assert task.status.state == "canceled"
        assert (await sending).status.state == "canceled"
        task = await client.cancel_task("never sent")
        assert task.status.message.text == "canceled, unconfirmed"

    with_client(RvAgent(), main)


# ---- what is sent -------------------------------------------------------------------


def test_what_an_rvagent_peer_is_sent():
    async def main(client, agent):
        context = TaskContext("4bf92f3577b34da6a3ce929d0e0e4736", K2[2], current_agent=K2[2])
        policy = TaskPolicy(max_tokens=4000, allowed_skills=("echo",))
        await client.send_task(
            TaskSpec("echo", ["hi", Part("file", bytes=b"x")], policy, "t", context=context)
        )
        request = agent.requests[-1]
        assert request.json["params"] == {
            "id": "t",
            "skill": "echo",
            "message": {
                "role": "user",
                "parts": [
                    {"type": "text", "text": "hi"},
                    {"type": "file", "file": {"bytes": "eA=="}},
                ],
            },
            "policy": {"max_tokens": 4000, "allowed_skills": ["echo"]},
            "context": {
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "depth": 0,
                "root_agent_id": K2[2],
                "current_agent": K2[2],
                "visited_agents": [],
            },
            "metadata": {},
        }
        version, trace, span, flags = request.headers["traceparent"].split("-")
        assert (version, trace, flags) == ("00", context.trace_id, "01")
        assert len(span) == 16
        await client.send_task(TaskSpec("echo", "hi"))
        params = agent.requests[-1].json["params"]
        assert params["id"].startswith("py-")
        assert params["context"]["root_agent_id"] == K1[2]
        assert "policy" not in params
        with pytest.raises(ValueError, match="skill"):
            await client.send_task(TaskSpec(None, "hi"))

    with_client(RvAgent(), main, identity=K1[2].upper())


def test_a_caller_without_identity():
    async def main(client, agent):
        await client.send_task(TaskSpec("echo", "hi"))
        assert agent.requests[-1].json["params"]["context"]["root_agent_id"] == "0" * 64

    with_client(RvAgent(), main)


@pytest.mark.parametrize("version", ["0.3", "1.0"])
@pytest.mark.parametrize("listed", [True, False])
def test_what_an_official_agent_is_sent(version, listed):
    extension = "urn:ruvector:a2a:task:1"
    extensions = [{"uri": extension}] if listed else []
    stub = Official(version, capabilities={"streaming": True, "extensions": extensions})

    async def main(client, agent):
        message = Message("user", (Part("text", "hi"),), "my-id", metadata={"a": 1})
        await client.send_task(
            TaskSpec("echo", message, TaskPolicy(max_tokens=5), metadata={"b": 2}), wait=True
        )
        request = agent.requests[-1]
        sent = request.json["params"]["message"]
        told = {"skill": "echo", "policy": {"max_tokens": 5}}
        expected = {"a": 1, "b": 2, "ruvector": told}
        if listed:
            expected[extension] = told
        assert sent["metadata"] == expected
        assert sent.get("extensions", []) == ([extension] if listed else [])
        header = "a2a-extensions" if version == "1.0" else "x-a2a-extensions"
        assert request.headers.get(header) == (extension if listed else None)
        assert sent["messageId"] == "my-id"
        assert sent["role"] == ("ROLE_USER" if version == "1.0" else "user")
        configuration = request.json["params"]["configuration"]
        waits = {"returnImmediately": False} if version == "1.0" else {"blocking": True}
        assert configuration == waits
        assert "traceparent" not in request.headers

    with_client(stub, main)


def test_a_tenant_is_echoed():
    async def main(client, agent):
        await client.send_task(TaskSpec("echo", "hi"))
        await client.get_task(next(iter(agent.tasks)), history_length=3)
        sent = [r.json["params"] for r in agent.requests if r.method == "POST"]
        assert [params["tenant"] for params in sent] == ["acme", "acme"]
        assert sent[1]["historyLength"] == 3

    stub = Official("1.0")
    make = stub.make_card
    stub.make_card = lambda: {
        **make(),
        "supportedInterfaces": [{**make()["supportedInterfaces"][0], "tenant": "acme"}],
    }
    with_client(stub, main)


def test_what_a_plain_http_agent_is_sent():
    codec = codec_v10.CodecV10Rest(tenant="a/b")
    calls = [
        codec.send(TaskSpec("echo", "x"), wait=False),
        codec.stream(TaskSpec("echo", "x")),
        codec.get("id/1", 5),
        codec.cancel("id/1"),
        codec.subscribe("id/1"),
    ]
    assert [(call.verb, call.path) for call in calls] == [
        ("POST", "/a%2Fb/message:send"),
        ("POST", "/a%2Fb/message:stream"),
        ("GET", "/a%2Fb/tasks/id%2F1"),
        ("POST", "/a%2Fb/tasks/id%2F1:cancel"),
        ("GET", "/a%2Fb/tasks/id%2F1:subscribe"),
    ]
    assert calls[2].query == (("historyLength", "5"),)
    assert [call.safe for call in calls] == [False, False, True, True, True]
    assert all(("A2A-Version", "1.0") in call.headers for call in calls)
    error = {"code": 404, "status": "NOT_FOUND", "message": "no", "details": []}
    error["details"] = [{"@type": INFO, "reason": "TASK_NOT_FOUND"}]
    with pytest.raises(TaskNotFound) as caught:
        codec.result(calls[2], json.dumps({"error": error}).encode(), 404)
    assert (caught.value.code, caught.value.http_status) == (None, 404)
    with pytest.raises(ProtocolError):
        codec.result(calls[2], b"{}", 500)


# ---- what errors mean ---------------------------------------------------------------

INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def answering(make, stub=None):
    """An agent whose every answer is `make(request)`."""
    stub = stub or Official("1.0")
    enter = stub.__aenter__

    class Answering:
        async def __aenter__(self):
            await enter()
            stub.handlers["/a2a"] = stub.handlers["/"] = make
            return stub

        async def __aexit__(self, *about):
            await stub.__aexit__(*about)

        def __getattr__(self, name):
            return getattr(stub, name)

    return Answering()


def error_of(make, stub=None, call=None, **options):
    async def main(client, agent):
        with pytest.raises(A2aError) as caught:
            await (call or (lambda c: c.get_task("t")))(client)
        return caught.value, agent

    return with_client(answering(make, stub), main, **options)


@pytest.mark.parametrize(
    ("code", "official", "rvagent"),
    [
        (-32001, TaskNotFound, AuthRequired),
        (-32002, TaskNotCancelable, PolicyViolation),
        (-32003, UnsupportedOperation, BudgetExceeded),
        (-32004, UnsupportedOperation, RecursionLimit),
        (-32005, UnsupportedOperation, ArtifactVersionUnsupported),
        (-32006, ProtocolError, CardSignatureInvalid),
        (-32009, VersionNotSupported, A2aError),
        (-32010, A2aError, TaskNotFound),
        (-32603, A2aError, A2aError),
        (-32600, ProtocolError, ProtocolError),
        (-32601, UnsupportedOperation, UnsupportedOperation),
        (-32602, ProtocolError, ProtocolError),
        (-32700, ProtocolError, ProtocolError),
        (7, A2aError, A2aError),
    ],
)
@pytest.mark.parametrize("data", [None, ["x", {"@type": 5}], {"k": 1}, "words", [[]]])
def test_a_number_means_what_its_dialect_says(code, official, rvagent, data):
    def make(request):
        return rpc_error(request, code, "no", data)

    for stub, cls in (
        (Official("1.0"), official),
        (Official("0.3"), official),
        (RvAgent(), rvagent),
    ):
        error, _ = error_of(make, stub)
        assert type(error) is cls
        assert (error.code, error.data, error.http_status) == (code, data, 200)
        assert error.dialect in ("1.0", "0.3", "rvagent")
        if hasattr(error, "remote"):
            assert error.remote


def test_the_reason_counts_more_than_the_number():
    data = [{"@type": "other"}, {"@type": INFO, "reason": "TASK_NOT_FOUND"}]
    error, _ = error_of(lambda request: rpc_error(request, -32004, "no", data))
    assert type(error) is TaskNotFound


def test_what_servers_of_03_say_in_other_words():
    for code, text, cls in (
        (-32603, "Task not found: t", TaskNotFound),
        (-32600, "Task t is in a terminal state (completed)", UnsupportedOperation),
    ):
        error, _ = error_of(lambda r, c=code, t=text: rpc_error(r, c, t), Official("0.3"))
        assert type(error) is cls


def test_facts_in_the_words_of_an_rvagent_peer():
    text = "budget exceeded: budget exceeded on dim tasks: current 4 > limit 3"
    error, _ = error_of(lambda r: rpc_error(r, -32003, text), RvAgent())
    assert (error.dim, error.current, error.limit, error.remote) == ("tasks", 4, 3, True)
    data = {"path": ["a", "b"]}
    error, _ = error_of(
        lambda r: rpc_error(r, -32004, "recursion limit at depth 9", data), RvAgent()
    )
    assert (error.depth, error.path) == (9, ("a", "b"))
    for words in ("dim usd: current 1.2.3 > limit 4", "dim usd: current . > limit .", ""):
        error, _ = error_of(lambda r, words=words: rpc_error(r, -32003, words), RvAgent())
        assert (type(error), error.limit) == (BudgetExceeded, None)
    error, _ = error_of(lambda r: rpc_error(r, -32005, "", {"supported": ["1"]}), RvAgent())
    assert error.supported == ("1",)


TASK = {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}}


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: {"jsonrpc": "2.0", "id": r.json["id"] + 1, "result": TASK},
        lambda r: {"jsonrpc": "2.0", "id": True, "result": TASK},
        lambda r: {**rpc_result(r, TASK), "error": {"code": 1, "message": "both"}},
        lambda r: {"jsonrpc": "2.0", "id": r.json["id"]},
        lambda r: {"jsonrpc": "2.0", "id": r.json["id"], "error": "words"},
        lambda r: [rpc_result(r, TASK)],
        lambda r: Response("null"),
        lambda r: Response("[" * 129 + "]" * 129),
        lambda r: Response("<html>", type="text/html"),
        lambda r: Response(b"", type=""),
        lambda r: rpc_result(r, {"id": "t"}),
        lambda r: rpc_result(r, None),
    ],
)
def test_answers_that_break_the_protocol(answer):
    error, _ = error_of(answer)
    assert type(error) is ProtocolError


def test_an_error_may_lack_the_id():
    # the peer could not read the request
    error, _ = error_of(lambda r: {"jsonrpc": "2.0", "id": None, "error": {"code": -32700}})
    assert error.code == -32700


def test_an_error_beside_a_null_result():
    error, _ = error_of(lambda r: {**rpc_error(r, -32001, "no"), "result": None})
    assert type(error) is TaskNotFound


@pytest.mark.parametrize("status", [204, 400, 404, 413, 500])
def test_statuses_that_say_no(status):
    error, agent = error_of(lambda r: Response("sorry", status, "text/plain"))
    assert error.http_status == status
    assert isinstance(error, ProtocolError if status == 204 else TransportError)
    assert len(agent.methods()) == 1


def test_a_status_that_says_no_with_an_error_of_the_protocol():
    error, _ = error_of(lambda r: Response(rpc_error(r, -32001, "no"), 404))
    assert type(error) is TaskNotFound


def test_answers_that_are_too_large():
    body = json.dumps({"jsonrpc": "2.0", "result": "x" * 5000})
    error, _ = error_of(lambda r: Response(body), limits=Limits(response_bytes=1000))
    assert "too large" in str(error)


# ---- trying again -------------------------------------------------------------------


def attempts(first, call, stub=None):
    """How often an agent is asked that answers `first`, then well, and what comes."""
    answered = []

    def make(request):
        answered.append(request)
        if len(answered) == 1:
            return first(request) if callable(first) else first
        return rpc_result(request, {"task": TASK} if "Send" in request.json["method"] else TASK)

    async def main(client, agent):
        try:
            return await call(client)
        except A2aError as why:
            return why

    return with_client(answering(make, stub), main), len(answered)


def get(client):
    return client.get_task("t")


def send(client):
    return client.send_task(TaskSpec("echo", "x"))


@pytest.mark.parametrize(
    ("first", "call", "times"),
    [
        (Response(status=503), get, 2),
        (Response(status=502), get, 2),
        (Response(status=500), get, 1),
        (Response(status=429), get, 2),
        (Response(status=429, headers={"Retry-After": "0"}), get, 2),
        (Response(status=429, headers={"Retry-After": "31"}), get, 1),
        (Response(b"x" * 50, cut=0), get, 1),
        (Response(status=503), send, 2),
        (Response(status=429, headers={"Retry-After": "0"}), send, 2),
        (Response(status=502), send, 1),
        (Response(status=504), send, 1),
        (Response(b"x" * 50, cut=10), send, 1),
        (lambda request: rpc_error(request, -32603, "no"), get, 1),
    ],
)
def test_what_is_tried_again(first, call, times):
    result, asked = attempts(first, call)
    assert asked == times
    assert isinstance(result, Task if times == 2 else A2aError)


def test_a_task_is_not_sent_twice_when_the_answer_is_late():
    async def late(request):
        await asyncio.sleep(1)
        return rpc_result(request, {"task": TASK})

    async def main(client, agent):
        with pytest.raises(TransportError) as caught:
            await client.send_task(TaskSpec("echo", "x"))
        assert caught.value.phase == "read"
        assert len(agent.methods()) == 1

    with_client(answering(late), main, "fake clock", timeouts=Timeouts(read=0.2))


def test_a_timeout_of_the_callers():
    async def main(client, agent):
        with pytest.raises(TransportError, match=r"0\.1 s") as caught:
            await client.send_task(TaskSpec("echo", "slow"), wait=True, timeout=0.1)
        assert caught.value.phase == "read"
        task_id = next(iter(agent.tasks))
        with pytest.raises(TransportError):
            await client.wait_task(task_id, timeout=0.1)
        assert agent.tasks[task_id]["status"]["state"] == "TASK_STATE_WORKING"

    with_client(Official("1.0"), main, "fake clock")


# ---- objects and their loops --------------------------------------------------------


def test_a_client_belongs_to_its_loop():
    async def connect(stub):
        async with stub:
            return await A2aClient.connect(stub.url)

    client = run(connect(RvAgent()))

    async def use():
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.get_task("t")
        with pytest.raises(RuntimeError, match="another event loop"):
            client.stream_task("t")

    run(use())


def test_a_client_is_closed_after_its_loop():
    async def call(stub):
        async with stub:
            client = await A2aClient.connect(stub.url)
            await client.send_task(TaskSpec("echo", "x"))  # a connection that is kept
            return client

    client = run(call(Official()))

    async def close():
        await client.aclose()
        await client.aclose()

    run(close())


def test_a_client_whose_loop_runs_is_closed_there():
    async def main(client, agent):
        def elsewhere():
            with pytest.raises(RuntimeError, match="close it there"):
                asyncio.run(client.aclose())

        await asyncio.to_thread(elsewhere)
        assert (await client.send_task(TaskSpec("echo", "x"))).id  # it was not closed by that

    with_client(Official(), main)


def test_a_closed_client_says_so():
    async def main(client, agent):
        await client.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get_task("t")

    with_client(RvAgent(), main)


@pytest.mark.parametrize("stub", [RvAgent, Official])
def test_a_client_that_is_closed_while_a_stream_is_read(stub):
    async def main():
        async with stub() as agent:

            async def forever(task, emit):
                await asyncio.sleep(60)

            agent.run = forever
            client = await A2aClient.connect(agent.url, **FAST)
            stream, heard = client.stream_task(TaskSpec("echo", "slow")), []

            async def read():
                async for update in stream:
                    heard.append(update)

            reading = asyncio.ensure_future(read())
            assert await settled(lambda: len(heard) > 0)
            before = agent.connections
            await client.aclose()
            await asyncio.wait({reading})
            assert isinstance(reading.exception(), (RuntimeError, TransportError))
            assert agent.connections == before, "a closed client has connected again"
            assert await settled(lambda: not agent.writers)

    run(main())


def test_wrong_arguments():
    async def main(client, agent):
        with pytest.raises(TypeError, match="TaskSpec"):
            await client.send_task("echo")
        assert "signed" in repr(client)

    with_client(RvAgent(), main)


def test_an_http_client_of_ones_own():
    from ruvector.a2a.extra import http

    async def main():
        async with http().AsyncClient() as mine, Official("1.0") as agent:
            client = await A2aClient.connect(agent.url, http_client=mine)
            async with client:
                task = await client.send_task(TaskSpec("echo", "hi"), wait=True)
                assert task.text == "hi"
                updates = [u.kind async for u in client.stream_task(TaskSpec("echo", "hi"))]
                assert updates == ["task", "artifact", "status"]
            assert not mine.is_closed

    run(main())
