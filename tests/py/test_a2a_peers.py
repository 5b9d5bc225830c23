"""The A2A client and servers of other makers: what each of them sends is understood.

The servers are those of a2a_peers/, of three generations of the official JavaScript SDK,
of the official Python SDK and of the rvagent crate; a server can be spoken to in more
than one dialect. One that is not installed is skipped with its reason.
"""

from __future__ import annotations

import pytest
from a2a_peers.matrix import JS_1_3, all_peers, in_loop, numbers, official, read, rvagent
from ruvector import errors
from ruvector.a2a import (
    A2aClient,
    Part,
    TaskContext,
    TaskPolicy,
    TaskSpec,
    address,
    codec_v10,
    trust,
)
from ruvector.a2a.extra import http
from ruvector.a2a.transport import Transport

# ---- card --------------------------------------------------------------------


@all_peers
@in_loop
async def test_card_and_dialect_are_recognized(peer):
    async with await peer.connect() as client:
        assert client.dialect == peer.dialect
        assert client.card.name.endswith("peer")
        assert client.card.description == "Tests of the client: Grüße, 漢字"
        assert client.card.capabilities.streaming
        assert {"echo", "count", "ask"} <= {skill.id for skill in client.card.skills}
        assert client.endpoint.startswith(peer.about["url"])
        if peer.name == "rvagent":
            assert (client.trust.level, client.card.signature_kind) == ("signed", "ruvector")
            assert client.card.agent_id == client.trust.agent_id == peer.about["agent_id"]
        else:
            assert (client.trust.level, client.card.signature_kind) == ("none", None)
        assert (await client.refresh_card(force=True)).name == client.card.name


@rvagent
@in_loop
async def test_pinned_agent_id(peer):
    async with await peer.connect(agent_id=peer.about["agent_id"].upper()) as client:
        assert client.trust.level == "pinned"
    with pytest.raises(errors.CardSignatureInvalid):
        await peer.connect(agent_id="0" * 64)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("js-1.3.0", marks=pytest.mark.a2a_js_1_3),
        pytest.param("python", marks=pytest.mark.a2a_python),
    ],
)
@in_loop
async def test_cards_signed_by_the_sdks(servers, name, algorithm):
    signed, other = servers(name, "--sign", algorithm), servers(name, "--sign", "EdDSA")
    jwk = signed["jwk"]
    async with await A2aClient.connect(signed["url"], trusted_keys={"test-key": jwk}) as client:
        assert (client.trust.level, client.card.signature_kind) == ("pinned", "jws")
        task = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        assert task.text == "hello"
    x = other["jwk"]["x"]
    strange = {**other["jwk"], "x": ("B" if x[0] == "A" else "A") + x[1:]}
    with pytest.raises(errors.CardSignatureInvalid):
        await A2aClient.connect(signed["url"], trusted_keys={"test-key": strange})


# ---- one task ----------------------------------------------------------------


@all_peers
@in_loop
async def test_send_and_wait(peer):
    async with await peer.connect() as client:
        task = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        assert task.status.state == "completed"
        assert task.text == "hello"
        assert task.id
        assert task.status.time is not None


@all_peers
@in_loop
async def test_send_then_wait(peer):
    async with await peer.connect() as client:
        task = await client.send_task(TaskSpec("count", "10 20"))
        blocks = peer.name == "rvagent"
        assert task.status.state.is_terminal == blocks
        task = await client.wait_task(task, poll=(0.05, 0.1))
        assert task.status.state == "completed"


@official
@in_loop
async def test_an_answer_without_a_task(peer):
    async with await peer.connect() as client:
        task = await client.send_task(TaskSpec("message", "hi"), wait=True)
        assert (task.id, task.status.state) == ("", "completed")
        assert task.history[-1].text == "you said: hi"
        updates = await read(client.stream_task(TaskSpec("message", "ho")))
        assert [update.kind for update in updates] == ["message"]
        assert updates[0].message.text == "you said: ho"
        assert updates[0].final


@all_peers
@in_loop
async def test_get(peer):
    async with await peer.connect() as client:
        sent = await client.send_task(TaskSpec("chunks", "1"), wait=True)
        task = await client.get_task(sent.id)
        assert (task.id, task.status.state) == (sent.id, "completed")
        assert [a.name for a in task.artifacts] == ["report", "table"]
        assert task.artifacts[0].text == "one two three"
        with pytest.raises(errors.TaskNotFound):
            await client.get_task("no-such-task")


@all_peers
@in_loop
async def test_parts_of_every_kind_arrive(peer):
    async with await peer.connect() as client:
        streamed = client.stream_task(TaskSpec("parts", "now"))
        await read(streamed)
        sent = await client.send_task(TaskSpec("parts", "now"), wait=True)
        for task in (streamed.task, sent):
            (artifact,) = task.artifacts
            text, inline, far, data = artifact.parts
            assert [part.kind for part in artifact.parts] == ["text", "file", "file", "data"]
            assert text.text == "Grüße\u2028漢字 😀"
            assert (inline.bytes, inline.name) == (bytes(range(256)), "all.bin")
            assert inline.media_type == "application/octet-stream"
            assert (far.uri, far.bytes) == ("https://example.com/far.png", None)
            assert data.data == {"list": [1, 2.5, None, True, "x"], "deep": {"empty": {}}}


@all_peers
@in_loop
async def test_parts_of_every_kind_are_sent(peer):
    parts = [
        Part(kind="text", text="Grüße\u2028漢字 😀"),
        Part(kind="file", name="all.bin", media_type="application/x", bytes=bytes(range(256))),
        Part(kind="file", name="far", media_type="image/png", uri="https://example.com/far"),
        Part(kind="data", data={"list": [1, 2.5, None, True, "x"]}),
    ]
    async with await peer.connect() as client:
        task = await client.send_task(TaskSpec("echo", parts), wait=True)
        (artifact,) = task.artifacts
        fields = ("kind", "text", "data", "name", "media_type", "bytes", "uri")
        for sent, got in zip(parts, artifact.parts):
            for field in fields:
                assert getattr(got, field) == getattr(sent, field), field
        assert len(artifact.parts) == len(parts)


@all_peers
@in_loop
async def test_failure_is_a_state_of_the_task(peer):
    async with await peer.connect() as client:
        task = await client.send_task(TaskSpec("fail", "now"), wait=True)
        assert task.status.state == "failed"
        assert task.status.message.text == "it went wrong"
        updates = await read(client.stream_task(TaskSpec("fail", "now")))
        assert updates[-1].final
        assert updates[-1].status.state == "failed"
        assert updates[-1].status.message.text == "it went wrong"


@all_peers
@in_loop
async def test_a_skill_that_throws(peer):
    """The Python SDK makes an error of it and the others a failed task."""
    async with await peer.connect() as client:
        if peer.name == "python":
            # by HTTP it keeps the words of the exception to itself
            words = "unknown exception" if peer.dialect == "1.0-rest" else "the skill broke"
            with pytest.raises(errors.A2aError, match=words):
                await client.send_task(TaskSpec("crash", "now"), wait=True)
            with pytest.raises(errors.A2aError, match=words):
                await read(client.stream_task(TaskSpec("crash", "now")))
        else:
            task = await client.send_task(TaskSpec("crash", "now"), wait=True)
            updates = await read(client.stream_task(TaskSpec("crash", "now")))
            assert updates[-1].final
            for status in (task.status, updates[-1].status):
                assert status.state == "failed"
                assert "the skill broke" in status.message.text


@all_peers
@in_loop
async def test_input_required_then_reply(peer):
    async with await peer.connect() as client:
        asked = await client.send_task(TaskSpec("ask", "me"), wait=True)
        assert asked.status.state == "input-required"
        assert asked.status.message.text == "which color?"
        task = await client.reply(asked, "blue", wait=True)
        assert (task.id, task.status.state, task.text) == (asked.id, "completed", "blue")


@all_peers
@in_loop
async def test_a_stream_ends_where_input_is_required(peer):
    async with await peer.connect() as client:
        stream = client.stream_task(TaskSpec("ask", "me"))
        updates = await read(stream)
        assert updates[-1].status.state == "input-required"
        assert stream.task.status.message.text == "which color?"
        task = await client.reply(stream.task, "red", wait=True)
        assert (task.status.state, task.text) == ("completed", "red")


@official
@in_loop
async def test_the_answer_to_a_question_can_be_streamed(peer):
    async with await peer.connect() as client:
        asked = await client.send_task(TaskSpec("ask", "me"), wait=True)
        answer = TaskSpec(input="green", id=asked.id, context_id=asked.context_id)
        stream = client.stream_task(answer)
        updates = await read(stream)
        assert updates[-1].final
        assert stream.task.id == asked.id
        assert (stream.task.status.state, stream.task.text) == ("completed", "green")


# ---- cancelling --------------------------------------------------------------


@all_peers
@in_loop
async def test_cancel_while_it_streams(peer):
    async with await peer.connect() as client:
        stream = client.stream_task(TaskSpec("slow", "now"))
        states = []
        async for update in stream:
            if update.kind != "status":
                continue
            states.append(update.status.state)
            if states[-1] == "working":
                task = await client.cancel_task(stream.task_id)
                assert task.status.state == "canceled"
        assert states[-1] == "canceled"
        if peer.name != "rvagent":
            again = await client.cancel_task(stream.task_id)
            assert again.status.state == "canceled"
        task = await client.get_task(stream.task_id)
        assert task.status.state == "canceled"


@all_peers
@in_loop
async def test_cancel_of_a_finished_task(peer):
    async with await peer.connect() as client:
        done = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        task = await client.cancel_task(done.id)
        assert (task.id, task.status.state) == (done.id, "completed")
        with pytest.raises(errors.TaskNotCancelable):
            await client.cancel_task(done.id, strict=True)
        assert (await client.get_task(done.id)).status.state == "completed"


@official
@in_loop
async def test_cancel_of_an_unknown_task(peer):
    async with await peer.connect() as client:
        with pytest.raises(errors.TaskNotFound):
            await client.cancel_task("no-such-task")


@all_peers
@in_loop
async def test_a_task_that_takes_longer_than_its_policy_allows(peer):
    async with await peer.connect() as client:
        spec = TaskSpec("slow", "now", policy=TaskPolicy(max_duration_ms=1500))
        stream = client.stream_task(spec)
        with pytest.raises(errors.PolicyViolation) as caught:
            await read(stream)
        assert (caught.value.field, caught.value.remote) == ("max_duration_ms", False)
        # an rvagent server stores the task a moment after it ended
        task = await client.wait_task(stream.task_id, poll=(0.05, 0.1))
        assert task.status.state == "canceled"


# ---- what only some have -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        pytest.param("js-1.3.0", "--legacy", marks=pytest.mark.a2a_js_1_3),
        pytest.param("python", "--modern", marks=pytest.mark.a2a_python),
    ],
)
@in_loop
async def test_the_newest_version_is_chosen(servers, name, flag):
    async with await A2aClient.connect(servers(name, flag)["url"]) as client:
        assert client.dialect == "1.0"
        task = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        assert task.text == "hello"


js_1_3 = pytest.mark.parametrize("peer", [JS_1_3], indirect=True)


@js_1_3
@in_loop
async def test_a_card_that_has_not_changed_is_not_sent_again(peer, monkeypatch):
    async with await peer.connect() as client:
        fetch, statuses = Transport.fetch, []

        async def noted(*args, **options):
            reply = await fetch(*args, **options)
            statuses.append(reply.status)
            return reply

        monkeypatch.setattr(Transport, "fetch", noted)
        before = client.card
        assert await client.refresh_card() is before
        assert statuses == []  # it says that it is fresh for an hour
        assert await client.refresh_card(force=True) is before
        assert statuses == [304]


@pytest.mark.a2a_js_1_3
@in_loop
async def test_a_card_in_two_forms(servers):
    """A server that speaks 0.3 as well shows another card to who does not say 1.0."""
    url = servers("js-1.3.0", "--legacy")["url"]
    cards = []
    async with http().AsyncClient() as web:
        for headers in ({"A2A-Version": "1.0"}, {}):
            path = url + "/.well-known/agent-card.json"
            data = (await web.get(path, headers=headers)).content
            demands = trust.Demands()
            card, _ = trust.read_card(data, demands, address.split(url)[0], certified=False)
            cards.append(card)
            ways = trust.ways(card, demands, url)
            assert [way.dialect for way in ways] == ["1.0", "0.3", "1.0-rest"]
    assert [card.protocol_version for card in cards] == [None, "0.3"]


@js_1_3
@in_loop
async def test_a_version_that_the_agent_does_not_speak(peer, monkeypatch):
    async with await peer.connect(dialect="1.0") as client:
        monkeypatch.setattr(codec_v10, "VERSION_HEADER", ("A2A-Version", "9.9"))
        with pytest.raises(errors.VersionNotSupported) as caught:
            await client.get_task("t")
        assert caught.value.code == -32009


@official
@in_loop
async def test_policies_reach_the_agent_unchanged(peer):
    """Some servers keep numbers as doubles, in which larger ones would not survive."""
    async with await peer.connect() as client:
        policy = TaskPolicy(max_tokens=2**60 + 1, max_cost_usd=0.25, allowed_skills=("echo",))
        task = await client.send_task(TaskSpec("echo", "hello", policy=policy), wait=True)
        told = task.history[0].metadata["ruvector"]
        assert told["skill"] == "echo"
        assert told["policy"]["max_tokens"] == str(2**60 + 1)
        assert told["policy"]["max_cost_usd"] == 0.25
        assert told["policy"]["allowed_skills"] == ["echo"]


@official
@in_loop
async def test_a_message_to_a_finished_task_is_refused(peer):
    async with await peer.connect() as client:
        done = await client.send_task(TaskSpec("echo", "hello"), wait=True)
        again = TaskSpec(input="more", id=done.id, context_id=done.context_id)
        with pytest.raises(errors.A2aError, match="terminal"):
            await client.send_task(again)


@pytest.mark.a2a_rvagent
@in_loop
async def test_a_budget_kept_by_the_server(servers):
    about = servers("rvagent", "--tasks-per-minute", "2")
    async with await A2aClient.connect(about["url"]) as client:
        for _ in range(2):
            await client.send_task(TaskSpec("echo", "hello"))
        with pytest.raises(errors.BudgetExceeded) as caught:
            await client.send_task(TaskSpec("echo", "hello"))
        assert caught.value.remote


@rvagent
@in_loop
async def test_a_circle_of_agents_is_refused(peer):
    root = "1" * 64
    async with await peer.connect() as client:
        context = TaskContext(
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
            depth=1,
            root_agent_id=root,
            current_agent="2" * 64,
            visited_agents=(root,),
        )
        with pytest.raises(errors.RecursionLimit) as caught:
            await client.send_task(TaskSpec("echo", "hello", context=context))
        assert root in caught.value.path


@all_peers
def test_without_a_loop(peer):
    with A2aClient.connect_sync(peer.about["url"], **peer.options) as client:
        task = client.send_task(TaskSpec("echo", "hello"), wait=True)
        assert task.text == "hello"
        with client.stream_task(TaskSpec("count", "5 2")) as stream:
            assert numbers(list(stream)) == [1, 2, 3, 4, 5]
