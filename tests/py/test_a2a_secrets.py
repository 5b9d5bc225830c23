"""Credentials: who gets them, when, and that nobody else ever sees them."""

from __future__ import annotations

import logging
import traceback

import pytest
from a2a_stub import Official, Response, Stub, run
from ruvector.a2a import A2aClient, ApiKey, Bearer, Retry, TaskSpec, Timeouts
from ruvector.errors import A2aError, AuthRequired, TransportError

SECRET = "s3cr3t-T0ken"
FAST = {"retry": Retry(first_pause=0.01), "timeouts": Timeouts(read=30.0)}
CARD = "/.well-known/agent-card.json"


def guarded(agent, accept=lambda request: SECRET in str(request.headers) + str(request.query)):
    """Calls of `agent` need credentials; it keeps what came without."""
    rpc = agent.rpc

    def check(request):
        if not accept(request):
            return Response("{}", 401, headers={"WWW-Authenticate": 'Bearer realm="agents"'})
        return rpc(request)

    agent.handlers["/a2a"] = check


def seen(stub):
    return [request for request in stub.requests if SECRET in str(request)]


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert SECRET not in caplog.text


AUTHS = [
    Bearer(SECRET),
    Bearer(lambda: SECRET),
    ApiKey("X-Key", SECRET),
    ApiKey("key", SECRET, "query"),
    ApiKey("session", SECRET, "cookie"),
]


@pytest.mark.parametrize("auth", AUTHS, ids=repr)
def test_the_right_agent_gets_them(auth, logged):
    assert SECRET not in repr(auth)

    async def main():
        async with Official() as agent:
            guarded(agent)
            async with await A2aClient.connect(agent.url, auth=auth, **FAST) as client:
                assert not seen(agent)  # the card is public
                task = await client.send_task(TaskSpec("echo", "hi"), wait=True)
                assert task.text == "hi"
                kinds = [u.kind async for u in client.stream_task(TaskSpec("echo", "hi"))]
                assert kinds[-1] == "status"
                assert SECRET not in repr(client)
            assert len(seen(agent)) == len(agent.methods()) == 2

    run(main())
    assert "HTTP Request" in logged.text  # the library does log, but not this


def test_a_token_from_a_coroutine_is_renewed_once(logged):
    async def main():
        async with Official() as agent:
            guarded(
                agent, lambda request: request.headers.get("authorization") == f"Bearer {SECRET}2"
            )
            asked = []

            async def token():
                asked.append(1)
                return f"{SECRET}{len(asked)}"

            async with await A2aClient.connect(agent.url, auth=Bearer(token), **FAST) as client:
                await client.send_task(TaskSpec("echo", "hi"), wait=True)
                await client.send_task(TaskSpec("echo", "hi"), wait=True)
                assert len(asked) == 2
                guarded(agent, lambda request: False)
                with pytest.raises(AuthRequired) as caught:
                    await client.send_task(TaskSpec("echo", "hi"))
                assert len(asked) == 3
            return caught

    caught = run(main())
    assert caught.value.challenge == 'Bearer realm="agents"'
    assert caught.value.http_status == 401
    assert isinstance(caught.value, PermissionError)
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert SECRET not in shown
    assert SECRET not in repr(caught.value.__dict__)


def test_a_card_that_is_not_public(logged):
    async def main():
        async with Official() as agent:
            card = agent.card

            def show(request):
                if SECRET not in str(request.headers):
                    return Response("{}", 401)
                return card

            agent.handlers[CARD] = show
            with pytest.raises(AuthRequired):
                await A2aClient.connect(agent.url, **FAST)
            assert len(agent.requests) == 1  # and no other path is tried
            await (await A2aClient.connect(agent.url, auth=Bearer(SECRET), **FAST)).aclose()
            assert [SECRET in str(r.headers) for r in agent.requests] == [False, False, True]

    run(main())


@pytest.mark.parametrize("auth", AUTHS, ids=repr)
def test_no_other_origin_gets_them(auth, logged):
    async def main():
        async with Stub() as other, Official() as agent:
            elsewhere = Official()
            elsewhere.port, elsewhere.url = other.port, other.url
            elsewhere.queues, elsewhere.tasks, elsewhere.workers = {}, {}, {}
            other.handlers["/a2a"] = elsewhere.rpc
            other.handlers["/"] = elsewhere.rpc
            headers = {"X-Own": SECRET}

            # the card sends requests elsewhere
            agent.card["supportedInterfaces"][0]["url"] = other.url + "/a2a"
            options = {"auth": auth, "headers": headers, **FAST}
            with pytest.raises(A2aError, match="endpoint origin"):
                await A2aClient.connect(agent.url, **options)
            assert not other.requests
            for allowed in ({"allow_origins": [other.url]}, {"endpoint": other.url + "/a2a"}):
                async with await A2aClient.connect(agent.url, **options, **allowed) as client:
                    await client.send_task(TaskSpec("echo", "hi"), wait=True)
            assert len(other.requests) == 2
            assert not seen(other)

            # and a redirect does
            to_other = {"Location": other.url + "/a2a"}
            agent.handlers["/a2a"] = lambda request: Response(status=307, headers=to_other)
            agent.card["supportedInterfaces"][0]["url"] = agent.url + "/a2a"
            async with await A2aClient.connect(agent.url, **options) as client:
                with pytest.raises(A2aError, match="redirect"):
                    await client.send_task(TaskSpec("echo", "hi"))
            assert len(other.requests) == 2
            for worker in elsewhere.workers.values():
                await worker

    run(main())


def test_an_auth_object_of_the_http_library(logged):
    from ruvector.a2a.extra import http

    async def main():
        async with Official() as agent:
            guarded(
                agent, lambda request: request.headers.get("authorization", "").startswith("Basic")
            )
            auth = http().BasicAuth("me", SECRET)
            async with await A2aClient.connect(agent.url, auth=auth, **FAST) as client:
                await client.send_task(TaskSpec("echo", "hi"), wait=True)

    run(main())


def test_cookies_of_an_agent_are_not_kept():
    async def main():
        async with Official() as agent:
            rpc = agent.rpc

            async def with_cookie(request):
                answer = rpc(request)
                return Response(await answer, headers={"Set-Cookie": "a=b"})

            agent.handlers["/a2a"] = with_cookie
            async with await A2aClient.connect(agent.url, **FAST) as client:
                for _ in range(2):
                    await client.send_task(TaskSpec("echo", "hi"), wait=True)
            assert not any("cookie" in request.headers for request in agent.requests)

    run(main())


BAD = ["", SECRET + "\r\nlines", None, 5, SECRET + "\t", SECRET + " ", " " + SECRET]


@pytest.mark.parametrize("value", BAD)
def test_secrets_that_cannot_be_sent(value):
    for make in (lambda: ApiKey("X-Key", value), lambda: Bearer(value)):
        with pytest.raises(ValueError, match="printable") as caught:
            make()
        assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="goes into"):
        ApiKey("X-Key", SECRET, "body")
    for place in ("header", "cookie"):
        with pytest.raises(ValueError, match="letters"):
            ApiKey("two words", SECRET, place)


def test_a_token_that_cannot_be_sent():
    async def main():
        async with Official() as agent:
            async with await A2aClient.connect(
                agent.url, auth=Bearer(lambda: SECRET + "\n"), **FAST
            ) as client:
                with pytest.raises(ValueError, match="printable") as caught:
                    await client.send_task(TaskSpec("echo", "hi"))
            assert not agent.methods()
            return caught.value

    assert SECRET not in shown(run(main()))


def shown(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        *[({"headers": {"X-Own": value}}, ValueError) for value in BAD],
        ({"headers": {"two words": SECRET}}, ValueError),
        ({"headers": {5: SECRET}}, ValueError),
        ({"headers": [("X-Own", SECRET)]}, TypeError),
        ({"auth": SECRET}, TypeError),
        ({"auth": {"token": SECRET}}, TypeError),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(options, error, logged):
    async def main():
        async with Official() as agent:
            with pytest.raises(error) as caught:
                await A2aClient.connect(agent.url, **options)
            assert not agent.requests
            return caught.value

    # the traceback shows lines of this file, which name the secret by its variable
    assert SECRET not in shown(run(main()))


def test_headers_of_ones_own_may_hold_any_letters():
    async def main():
        async with Official() as agent:
            headers = {"X-Own": "Grüße"}
            async with await A2aClient.connect(agent.url, headers=headers, **FAST) as client:
                await client.send_task(TaskSpec("echo", "hi"))
            got = {request.headers["x-own"].encode("latin-1") for request in agent.requests}
            assert got == {"Grüße".encode()}

    run(main())


def test_a_request_that_an_auth_object_has_spoilt(logged):
    """The HTTP library repeats a header it refuses; it is not passed on."""
    from ruvector.a2a.extra import http

    class Spoilt(http().Auth):
        def auth_flow(self, request):
            request.headers["Authorization"] = f"Bearer {SECRET}\n"
            yield request

    async def main():
        async with Official() as agent:
            async with await A2aClient.connect(agent.url, auth=Spoilt(), **FAST) as client:
                with pytest.raises(TransportError) as caught:
                    await client.send_task(TaskSpec("echo", "hi"))
            return caught.value

    error = run(main())
    assert "cannot be written" in str(error)
    assert SECRET not in shown(error)
