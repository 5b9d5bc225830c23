"""The A2A client and the rvAgent server as its makers ship it: rvagent a2a serve."""

from __future__ import annotations

import asyncio
from urllib.request import urlopen

import pytest
from a2a_peers import launch
from a2a_peers.matrix import in_loop, read
from a2a_vectors import K1, K2, V2_SIGNED
from ruvector import errors
from ruvector.a2a import (
    A2aClient,
    TaskContext,
    TaskPolicy,
    TaskSpec,
    codec_rvagent,
    identity,
    jsontext,
)

pytestmark = pytest.mark.a2a_rvagent


def canonical(card):
    parsed = jsontext.parse(card, what="a card", max_depth=64, strict=True, lexemes=True)
    return jsontext.serde_form(identity.project(parsed))


@pytest.fixture(scope="module")
def url():
    with launch.stock_rvagent(K2[0]) as url:
        yield url


def test_its_card_is_the_second_vector_byte_for_byte(url):
    with urlopen(url + "/.well-known/agent.json", timeout=30) as answer:
        served = answer.read()
    expected = canonical(V2_SIGNED.encode()).replace(b"http://127.0.0.1:8080", url.encode())
    assert canonical(served) == expected


@in_loop
async def test_its_card_is_signed_and_names_where_it_is(url):
    async with await A2aClient.connect(url, agent_id=K2[2]) as client:
        assert (client.trust.level, client.trust.endpoint_bound) == ("pinned", True)
        assert client.card.skills[0].description.startswith("InMemoryRunner echo \u2014 ")
    with pytest.raises(errors.CardSignatureInvalid):
        await A2aClient.connect(url, agent_id=K1[2])


@in_loop
async def test_a_task(url):
    async with await A2aClient.connect(url) as client:
        task = await client.send_task(TaskSpec("echo", "hello"))
        assert (task.status.state, task.text) == ("completed", "hello")
        for spec in (TaskSpec("echo", "hello"), task.id):
            updates = await read(client.stream_task(spec))
            assert [u.kind for u in updates] == ["status", "artifact", "status"]
            assert [str(u.status) for u in updates[::2]] == ["submitted", "completed"]
            assert updates[1].artifact.text == "hello"
        assert (await client.cancel_task(task.id)).status.state == "completed"


@in_loop
async def test_a_policy_that_the_server_refuses(url):
    async with await A2aClient.connect(url) as client:
        spec = TaskSpec("echo", "x", TaskPolicy(allowed_skills=["other"]))
        with pytest.raises(errors.PolicyViolation) as caught:
            await client.send_task(spec)
        assert not caught.value.remote  # it is not even sent
        sent = codec_rvagent.complete(spec, None)
        with pytest.raises(errors.PolicyViolation) as caught:
            await client._session.calls.send(sent, wait=True, timeout=30)
        assert caught.value.remote


@in_loop
async def test_a_task_that_was_handed_on(url):
    async with await A2aClient.connect(url) as client:
        root = TaskContext("a" * 32, "e" * 64, current_agent="e" * 64)
        assert (await client.send_task(TaskSpec("echo", "x", context=root))).text == "x"
        child = root.child(K2[2])
        with pytest.raises(errors.RecursionLimit) as caught:
            await client.send_task(TaskSpec("echo", "x", context=child))
        assert caught.value.code == -32004
        assert caught.value.path == ("e" * 64,)


@in_loop
async def test_a_budget_of_three_tasks_a_minute():
    with launch.stock_rvagent(K2[0], "[budget.global]\nmax_tasks_per_minute = 3\n") as url:
        async with await A2aClient.connect(url) as client:
            for _ in range(3):
                await client.send_task(TaskSpec("echo", "hello"))
            with pytest.raises(errors.BudgetExceeded) as caught:
                await client.send_task(TaskSpec("echo", "hello"))
            error = caught.value
            assert (error.remote, error.dim, error.limit, error.current) == (True, "tasks", 3, 4)


@in_loop
async def test_a_task_that_is_routed_to_another_server(url):
    config = f'[[routing.peers]]\nurl = "{url}"\n'
    with launch.stock_rvagent(K1[0], config) as router:
        async with await A2aClient.connect(router, agent_id=K1[2]) as client:
            task = await client.send_task(TaskSpec("echo", "hello"))
            while "ruvector" not in task.metadata:  # it looks for its peers after it has begun
                await asyncio.sleep(0.05)
                task = await client.send_task(TaskSpec("echo", "hello"))
            assert task.text == "hello"
            via = task.metadata["ruvector"]["routed_via"]
            assert (via["peer_id"], via["peer_url"]) == (K2[2], url)
