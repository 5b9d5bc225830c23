"""Values in the forms that agents of others give them, and streams that are none.

What a form means is that of the specification: proto3's JSON (null is absent, enums by name
or number, either alphabet of base64), the HTML standard's event streams, and the members that
each version of the protocol requires.
"""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from a2a_stub import Official, Response, RvAgent, rpc_error, rpc_result, run, sse
from ruvector.a2a import A2aClient, Retry, TaskSpec
from ruvector.a2a.types import Message, Part, TaskState, TaskStatus
from ruvector.errors import A2aError, ProtocolError, TransportError, UnsupportedOperation

IDS = {"taskId": "t-1", "contextId": "c-1"}
WORKING = {**IDS, "status": {"state": "working"}}
PIECE = {**IDS, "artifact": {"artifactId": "a", "parts": [{"text": "x"}]}}
TASK = {"id": "t-1", "contextId": "c-1", "status": {"state": "submitted"}}
DONE = {**IDS, "status": {"state": "completed"}, "final": True}
SAID = {"messageId": "m", "role": "agent", "parts": [{"text": "hello"}]}
TOLD = ["task", "working", "x", "completed"]


class Scripted(Official):
    """Sends `frames`, bytes or results, on every stream, and `sent` for a task."""

    def __init__(self, version, *frames, sent=None, got=None):
        super().__init__(version)
        self.frames, self.sent, self.got = frames, sent, got
        self.asked = 0  # times a stream was asked for

    def rpc(self, request):
        method = request.json["method"]
        if "tream" in method or "ubscribe" in method:
            self.asked += 1
            return Response(self.events(request), type="text/event-stream")
        if method in ("GetTask", "tasks/get") and self.got is None:
            return rpc_error(request, -32001, "Task not found")
        return rpc_result(request, self.sent if self.got is None else self.got)

    async def events(self, request):
        for frame in self.frames:
            frame = frame(request) if callable(frame) else frame
            yield frame if isinstance(frame, bytes) else sse(rpc_result(request, frame))


def ask(agent, use, **options):
    async def main():
        async with agent, await A2aClient.connect(agent.url, **options) as client:
            return await use(client)

    return run(main())


def brief(update):
    if update.kind == "status":
        return str(update.status)
    return update.artifact.text if update.artifact else update.kind


async def follow(client):
    async with client.stream_task(TaskSpec("echo", "hi")) as updates:
        return [brief(update) async for update in updates]


def send(client):
    return client.send_task(TaskSpec("echo", "hi"))


# ---- which value it is ------------------------------------------------------------------


def wrapped(task, status, artifact, message):
    return {"task": task, "statusUpdate": status, "artifactUpdate": artifact, "message": message}


def tagged(name):
    return [
        {name: "task", **TASK},
        {name: "status-update", **WORKING},
        {name: "artifact-update", **PIECE},
        {name: "status-update", **DONE},
    ]


FORMS = {
    "tagged by kind": tagged("kind"),
    "tagged by type": tagged("type"),
    "not tagged": [TASK, WORKING, PIECE, DONE],
    "wrapped": [
        {"task": TASK},
        {"statusUpdate": WORKING},
        {"artifactUpdate": PIECE},
        {"statusUpdate": DONE},
    ],
    "wrapped, others null": [
        wrapped(TASK, None, None, None),
        wrapped(None, WORKING, None, None),
        wrapped(None, None, PIECE, None),
        wrapped(None, DONE, None, None),
    ],
}


@pytest.mark.parametrize("version", ["0.3", "1.0"])
@pytest.mark.parametrize("form", FORMS)
def test_events_of_every_form_in_every_version(form, version):
    assert ask(Scripted(version, *FORMS[form]), follow) == TOLD


OVER = {**TASK, "status": {"state": "completed"}, "artifacts": [PIECE["artifact"]]}


@pytest.mark.parametrize("version", ["0.3", "1.0"])
@pytest.mark.parametrize(
    "result",
    [OVER, {"kind": "task", **OVER}, {"task": OVER}, {"message": None, "task": OVER}],
)
def test_tasks_of_every_form(result, version):
    task = ask(Scripted(version, sent=result), send)
    assert (task.id, str(task.status), task.text) == ("t-1", "completed", "x")
    if "message" not in result:
        got = ask(Scripted(version, got=result), lambda client: client.get_task("t-1"))
        assert got.text == "x"


@pytest.mark.parametrize("version", ["0.3", "1.0"])
@pytest.mark.parametrize(
    "result", [SAID, {"kind": "message", **SAID}, {"message": SAID, "task": None}]
)
def test_messages_of_every_form(result, version):
    assert ask(Scripted(version, sent=result), send).text == "hello"
    assert ask(Scripted(version, result), follow) == ["message"]


# ---- what is in it ----------------------------------------------------------------------

# a2a.proto, enum TaskState
NUMBERS = {
    0: "unknown",
    1: "submitted",
    2: "working",
    3: "completed",
    4: "failed",
    5: "canceled",
    6: "input-required",
    7: "rejected",
    8: "auth-required",
    9: "unknown",
    -1: "unknown",
}


@pytest.mark.parametrize("version", ["0.3", "1.0"])
def test_a_number_is_no_id_and_the_error_has_it(version):
    """The specification has a string; a2a-sdk 0.3.26 and 1.3.0 refuse a number, too."""
    numbered = {**TASK, "id": 42}
    result = {"task": numbered} if version == "1.0" else {**numbered, "kind": "task"}
    with pytest.raises(
        ProtocolError, match=r"id should be a string.*the task's id is '42'"
    ) as caught:
        ask(Scripted(version, sent=result), lambda client: client.send_task(TaskSpec(input="x")))
    assert caught.value.task_id == "42"


@pytest.mark.parametrize(("number", "name"), NUMBERS.items())
def test_states_by_number(number, name):
    assert TaskState.parse(number) == name


@pytest.mark.parametrize("value", [True, 2.0, ["working"], {}])
def test_what_is_no_state(value):
    with pytest.raises(ProtocolError, match="state"):
        TaskState.parse(value)


@pytest.mark.parametrize("status", [{}, {"state": None}, {"state": ""}])
def test_a_state_that_is_left_out_is_the_unspecified_one(status):
    assert TaskStatus.parse(status).state is TaskState.UNKNOWN


@pytest.mark.parametrize("time", [None, "", 1764500000000, 1764500000.5, [2025, 6, 3], {}])
def test_a_time_that_is_no_text_costs_no_answer(time):
    status = TaskStatus.parse({"state": "completed", "timestamp": time})
    assert (status.state, status.timestamp, status.time) == ("completed", None, None)


@pytest.mark.parametrize(("role", "name"), [(1, "user"), (2, "agent"), ("ROLE_USER", "user")])
def test_roles_by_number(role, name):
    assert Message.parse({"role": role, "parts": []}).role == name


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("content", [b"", b"\xfb\xff", b"\xfb\xff\xbe", b"abcd", bytes(range(256))])
def test_bytes_in_every_base64(content, encode):
    text = encode(content).decode()
    lines = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))  # MIME
    for raw in (text, text.rstrip("="), lines):
        assert Part.parse({"raw": raw}).bytes == content
        assert Part.parse({"kind": "file", "file": {"bytes": raw}}).bytes == content


@pytest.mark.parametrize("raw", ["a", "ab*d", "aGk=aGk=", "\u00e9a==", "data:,x"])
def test_what_is_no_base64(raw):
    with pytest.raises(ProtocolError, match="base64"):
        Part.parse({"raw": raw})


NULLS = dict.fromkeys(("text", "data", "raw", "url", "file", "kind", "metadata", "filename"))


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"text": "x"}, "text"),
        ({"data": {"a": 1}}, "data"),
        ({"raw": "aGk="}, "file"),
        ({"url": "https://example.com/x"}, "file"),
        ({"kind": "file", "file": {"uri": "https://example.com/x", "bytes": None}}, "file"),
    ],
)
def test_members_that_are_null_are_absent(members, kind):
    assert Part.parse({**NULLS, **members}) == Part.parse(members)
    assert Part.parse(members).kind == kind


# ---- streams ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        *(b"data:\n\n", b"data: \n\n", b"data\n\n", b"id: 7\ndata:\ndata:\n\n"),
        *(b"event: ping\ndata: {}\n\n", b"event: heartbeat\ndata: still here\n\n"),
        *(b"event: ping\nid: 7\n\n", b"retry: 3000\n\n", b": hello\n\n"),
    ],
)
@pytest.mark.parametrize("version", ["0.3", "1.0"])
def test_what_keeps_a_connection_open_is_no_event(frame, version):
    frames = [frame]
    for told in FORMS["tagged by kind"]:
        frames += [told, frame]
    assert ask(Scripted(version, *frames), follow) == TOLD


def test_what_keeps_a_connection_open_is_no_event_of_an_rvagent():
    async def main(client):
        async with client.stream_task(TaskSpec("echo", "hi")) as updates:
            return [brief(update) async for update in updates]

    agent = RvAgent()

    async def echo(task, emit):
        for queue in agent.channels[task["id"]]:
            queue.put_nowait(b"data:\n\n")
            queue.put_nowait(b"event: ping\ndata: x\n\n")
        return [{"name": "a", "parts": [{"type": "text", "text": "x"}], "index": 0}]

    agent.run = echo
    assert ask(agent, main)[-2:] == ["x", "completed"]


def pieces(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_the_words_of_an_answer_that_is_marked_as_a_stream(size):
    words = b"Jwt issuer is not configured"
    with pytest.raises(ProtocolError, match="Jwt issuer is not configured") as caught:
        ask(Scripted("1.0", *pieces(words, size)), follow)
    assert "text/event-stream (HTTP 200), not JSON" in str(caught.value)


@pytest.mark.parametrize("indent", [None, 2])
def test_json_that_is_marked_as_a_stream(indent):
    def refusal(request):
        return json.dumps(rpc_error(request, -32004, "no streams here"), indent=indent).encode()

    def answer(request):
        # more than the excerpt that errors show
        more = {**OVER, "metadata": {"padding": "x" * 40_000}}
        return json.dumps(rpc_result(request, {"task": more}), indent=indent).encode()

    with pytest.raises(UnsupportedOperation, match="no streams here"):
        ask(Scripted("1.0", refusal), follow)
    assert ask(Scripted("1.0", answer), follow) == ["task", "x", "completed"]


def test_a_stream_without_anything():
    with pytest.raises(TransportError, match="ended before the task did"):
        ask(Scripted("1.0", b"\n\n"), follow)


@pytest.mark.parametrize("version", ["0.3", "1.0"])
def test_streams_that_tell_nothing_new_are_not_asked_for_for_ever(version):
    agent = Scripted(version, {"kind": "task", **TASK, "status": {"state": "working"}})
    retry = Retry(first_pause=0.001, stream_first_pause=0.001, stream_attempts=3)

    async def use(client):
        with pytest.raises(TransportError, match=r"tried 3 times, Retry\(stream_attempts"):
            await asyncio.wait_for(follow(client), 20)

    ask(agent, use, retry=retry)
    assert agent.asked == 1 + 3  # the first, and every attempt


def test_streams_that_get_on_are_asked_for_as_often_as_it_takes():
    steps = iter(range(1000))

    def news(request):
        step = next(steps)
        state = "completed" if step == 9 else "working"
        status = {"state": state, "timestamp": f"2026-01-01T00:00:{step:02}Z"}
        return sse(rpc_result(request, {"task": {**TASK, "status": status}}))

    agent = Scripted("1.0", news)
    retry = Retry(stream_first_pause=0.001, stream_attempts=2)
    assert ask(agent, follow, retry=retry)[-1] == "completed"
    assert agent.asked == 10


def test_an_unknown_form_is_told_and_a_wrong_one_refused():
    assert "warning" in ask(Scripted("0.3", TASK, {"kind": "novel"}, DONE), follow)
    assert "warning" in ask(Scripted("1.0", TASK, {"novel": {}}, DONE), follow)
    for wrong in ({"statusUpdate": []}, {"kind": "artifact-update"}, {"task": "t"}, 7):
        with pytest.raises(A2aError):
            ask(Scripted("1.0", wrong), follow)
