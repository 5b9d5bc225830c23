"""Messages about addresses and limits: they name what to do, and doing it works."""

from __future__ import annotations

import asyncio
import re

import pytest
from a2a_stub import Official, Response, Stub, rpc_result, run, sse
from ruvector.a2a import A2aClient, Limits, TaskSpec, Timeouts
from ruvector.errors import A2aError, TransportError
from test_a2a_answers import CARD, DONE, TASK, get, stream, talk


def test_a_missing_card_names_every_place_and_what_to_do():
    async def main():
        async with Official() as agent:
            url = agent.url + "/rpc?code=SECRETKEY"
            with pytest.raises(TransportError) as caught:
                await A2aClient.connect(url)
            for path in ("agent-card.json", "agent.json"):
                assert f"{agent.url}/rpc/.well-known/{path} (HTTP 404)" in str(caught.value)
            assert "SECRETKEY" not in str(caught.value)
            assert [r.query for r in agent.requests] == [{"code": "SECRETKEY"}] * 2
            advised = re.search(r"\(\.\.\.json\) or (http://[^;]+)", str(caught.value))[1]
            async with await A2aClient.connect(advised) as client:
                assert client.card.name == "official stub"

    run(main())


def test_a_relative_address_counts_from_the_card():
    async def main():
        async with Stub() as stub:
            interface = {"protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            card = {"name": "n", "supportedInterfaces": [interface]}
            stub.handlers["/one/.well-known/agent-card.json"] = lambda request: card
            # RFC 3986, 5.4
            base = stub.url + "/one/.well-known"
            for url, expected in (
                ("/rpc", stub.url + "/rpc"),
                ("rpc", base + "/rpc"),
                ("../rpc", stub.url + "/one/rpc"),
                (f"//127.0.0.1:{stub.port}/x", stub.url + "/x"),
            ):
                interface["url"] = url
                async with await A2aClient.connect(stub.url + "/one") as client:
                    assert client.endpoint == expected
            interface["url"] = "//evil.example.com/rpc"
            with pytest.raises(A2aError, match="endpoint origin"):
                await A2aClient.connect(stub.url + "/one")

    run(main())


def test_the_endpoint_that_is_advised_works():
    """A card that says where its server listens, not where it is reached."""

    async def main():
        async with Official() as agent:
            for told in ("http://0.0.0.0:1/a2a", "https://inside.svc/a2a"):
                agent.card["supportedInterfaces"][0]["url"] = told
                with pytest.raises(A2aError, match="endpoint origin") as caught:
                    await A2aClient.connect(agent.url)
                endpoint = re.search(r"endpoint='([^']+)'", str(caught.value))[1]
                async with await A2aClient.connect(agent.url, endpoint=endpoint) as client:
                    assert (await client.send_task(TaskSpec("echo", "x"), wait=True)).text == "x"

    run(main())


@pytest.mark.parametrize("version", ["1.0", "0.3"])
def test_a_redirect_names_the_endpoint_that_works(version):
    async def main():
        async with Official(version) as agent:
            agent.handlers["/a2a/"] = agent.rpc
            moved = Response(status=307, headers={"Location": "/a2a/"})
            agent.handlers["/a2a"] = lambda request: moved
            async with await A2aClient.connect(agent.url) as client:
                with pytest.raises(TransportError, match="redirect") as caught:
                    await client.send_task(TaskSpec("echo", "x"))
            endpoint = re.search(r"endpoint='([^']+)'", str(caught.value))[1]
            async with await A2aClient.connect(agent.url, endpoint=endpoint) as client:
                assert (await client.send_task(TaskSpec("echo", "x"), wait=True)).text == "x"

    run(main())


def test_a_card_that_moved_names_where():
    async def main():
        async with Official() as agent:
            card = agent.handlers[CARD]
            agent.handlers["/c.json"] = card
            agent.handlers[CARD] = lambda r: Response(status=308, headers={"Location": "/c.json"})
            with pytest.raises(TransportError) as caught:
                await A2aClient.connect(agent.url)
            advised = re.search(r"connect to '([^']+)'", str(caught.value))[1]
            await (await A2aClient.connect(advised)).aclose()

    run(main())


@pytest.mark.parametrize("url", ["127.0.0.1:{port}", "localhost:{port}/"])
def test_an_address_without_scheme_says_what_to_write(url):
    async def main():
        async with Official() as agent:
            with pytest.raises(TransportError) as caught:
                await A2aClient.connect(url.format(port=agent.port))
            advised = re.search(r"write '([^']+)'", str(caught.value))[1]
            await (await A2aClient.connect(advised, allow_origins=[agent.url])).aclose()

    run(main())


# Each row: what trips a limit, and how the calls are made.
def big_card(agent):
    skill = {"id": "s", "name": "s", "description": "d" * 2000}
    return {**agent.card, "skills": [skill] * 50}


def big_events(request):
    parts = [{"text": "y" * 30_000}]
    artifact = {
        "artifactUpdate": {"taskId": "t-1", "artifact": {"artifactId": "a", "parts": parts}}
    }
    events = [{"task": {**TASK, "status": {"state": "TASK_STATE_WORKING"}}}, artifact, DONE]
    body = b"".join(sse(rpc_result(request, event)) for event in events)
    return Response(body, type="text/event-stream")


def big_answer(request):
    return rpc_result(request, {**TASK, "metadata": {"x": "y" * 10_000}})


SMALL = 1000


@pytest.mark.parametrize(
    ("answer", "use", "card", "limits"),
    [
        (big_answer, get, big_card, {"card_bytes": SMALL, "card_skills": 10}),
        (big_answer, get, None, {"response_bytes": SMALL}),
        (big_events, stream, None, {"sse_line_bytes": SMALL}),
        (big_events, stream, None, {"sse_event_bytes": SMALL}),
        (big_events, stream, None, {"sse_pending_bytes": SMALL}),
        (
            big_events,
            stream,
            None,
            dict.fromkeys(("sse_line_bytes", "sse_event_bytes", "sse_pending_bytes"), SMALL),
        ),
    ],
)
def test_every_limit_names_what_raises_it_and_that_works(answer, use, card, limits):
    limits = dict(limits)
    for _ in range(4):
        found = talk(answer, use, card=card, limits=Limits(**limits))
        if not isinstance(found, A2aError):
            break
        named = re.search(r"Limits\(([^)]*)\)", str(found))[1]
        for name in named.split(", "):
            limits[name.partition("=")[0]] = 2**24
        assert "http://127.0.0.1:" in str(found)
    assert not isinstance(found, A2aError)


def test_an_event_of_the_size_that_the_limit_shows():
    """No lower limit is hidden behind that of events."""
    assert Limits().sse_line_bytes >= Limits().sse_event_bytes
    assert Limits().sse_pending_bytes >= Limits().sse_event_bytes


@pytest.mark.parametrize("name", ["read", "task", "idle"])
def test_every_timeout_names_what_makes_it_longer(name):
    async def slow(request):
        await asyncio.sleep(5)
        if name == "idle":
            return big_events(request)
        return rpc_result(request, TASK if request.json["method"] == "GetTask" else {"task": TASK})

    def wait(client):
        if name == "task":
            return client.send_task(TaskSpec("echo", "x"), wait=True)
        return stream(client) if name == "idle" else get(client)

    async def main(**timeouts):
        async with Official() as agent:
            agent.handlers["/a2a"] = slow
            options = {"timeouts": Timeouts(**timeouts)}
            try:
                async with await A2aClient.connect(agent.url, **options) as client:
                    return await wait(client)
            except TransportError as why:
                return why

    why = run(main(**{name: 1.0}), policy="fake clock")
    assert f"Timeouts({name}=...)" in str(why)
    assert "1 s" in str(why)
    assert "http://127.0.0.1:" in str(why)
    found = run(main(**{name: 50.0}), policy="fake clock")
    assert not isinstance(found, TransportError)
