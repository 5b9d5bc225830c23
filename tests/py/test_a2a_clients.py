"""HTTP clients, credentials and proxies of one's own, and what their code may raise."""

from __future__ import annotations

import asyncio
import base64
import re

import httpx
import pytest
from a2a_stub import InThread, Official, Response, Stub, run
from ruvector.a2a import A2aClient, ApiKey, Bearer, GlobalBudget, Retry, TaskSpec
from ruvector.errors import AuthRequired, TransportError

try:
    import httpx2
except ImportError:  # on Python 3.9 there is the older one only
    httpx2 = httpx

SECRET = "s3cr3t-T0ken"
CARD = "/.well-known/agent-card.json"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()  # RFC 7617
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


async def send(client):
    return (await client.send_task(TaskSpec("echo", "hi"), wait=True)).text


async def stream(client):
    async with client.stream_task(TaskSpec("echo", "hi")) as updates:
        texts = [update.artifact.text async for update in updates if update.artifact]
        return texts[0]


def guard(agent, accept, status=401, paths=("/a2a",)):
    for path in paths:
        before = agent.handlers[path]

        def check(request, before=before):
            return before(request) if accept(request) else Response("no", status, "text/plain")

        agent.handlers[path] = check


# ---- the card behind a gateway ------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "auth",
    [Bearer(SECRET), ApiKey("X-Key", SECRET), ("me", SECRET)],
    ids=["bearer", "key", "basic"],
)
def test_a_card_that_is_not_public(status, auth):
    """RFC 9110, 15.5.4: a 403 without credentials may be asked again with some."""

    def accept(request):
        return SECRET in str(request.headers) or request.headers.get("authorization") == BASIC

    async def main():
        async with Official() as agent:
            guard(agent, accept, status, (CARD, "/a2a"))
            with pytest.raises(AuthRequired) as caught:
                await A2aClient.connect(agent.url)
            assert caught.value.http_status == status
            assert len(agent.requests) == 1
            async with await A2aClient.connect(agent.url, auth=auth) as client:
                assert await send(client) == "hi"
            # the first request of each is without: cards are public as a rule
            assert [accept(r) for r in agent.requests] == [False, False, True, True]

    run(main())


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_ran_out_is_renewed_once(status):
    async def main():
        async with Official() as agent:
            tokens = iter(["old", "new", "newer"])
            guard(agent, lambda r: r.headers.get("authorization") == "Bearer new", status)
            auth = Bearer(lambda: next(tokens))
            async with await A2aClient.connect(agent.url, auth=auth) as client:
                assert await send(client) == "hi"
            assert len(agent.methods()) == 2
            assert next(tokens) == "newer"

    run(main())


# ---- clients of the caller ----------------------------------------------------------------


@LIBRARIES
def test_a_client_of_either_library(library):
    async def main():
        seen = []

        async def hook(request):
            seen.append(request.url.path)

        async with Official() as agent:
            guard(agent, lambda r: r.headers.get("authorization") == BASIC)
            async with library.AsyncClient(event_hooks={"request": [hook]}) as mine:
                auth = library.BasicAuth("me", SECRET)
                async with await A2aClient.connect(
                    agent.url, http_client=mine, auth=auth
                ) as client:
                    assert await send(client) == await stream(client) == "hi"
                assert not mine.is_closed
                async with await A2aClient.connect(agent.url, http_client=mine) as client:
                    with pytest.raises(AuthRequired):
                        await send(client)
            assert seen.count("/a2a") == 3
            async with library.AsyncClient() as mine:
                options = {"http_client": mine, "auth": ("me", SECRET)}
                async with await A2aClient.connect(agent.url, **options) as client:
                    assert await send(client) == "hi"

    run(main())


@LIBRARIES
def test_an_auth_object_of_either_library(library):
    async def main():
        async with Official() as agent:
            guard(agent, lambda r: r.headers.get("authorization") == BASIC)
            auth = library.BasicAuth("me", SECRET)
            async with await A2aClient.connect(agent.url, auth=auth) as client:
                assert await send(client) == await stream(client) == "hi"

    run(main())


@LIBRARIES
def test_digest_authentication(library):
    """Two requests: the first is refused and says what is wanted (RFC 7616)."""

    async def main():
        async with Official() as agent:
            rpc = agent.rpc

            def digest(request):
                if request.headers.get("authorization", "").startswith("Digest "):
                    return rpc(request)
                wants = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
                return Response("", 401, headers=wants)

            agent.handlers["/a2a"] = digest
            auth = library.DigestAuth("me", SECRET)
            async with await A2aClient.connect(agent.url, auth=auth) as client:
                assert await send(client) == "hi"

    run(main())


def with_key(request):
    request.headers["X-Key"] = SECRET
    return request


async def with_key_later(request):
    await asyncio.sleep(0)
    return with_key(request)


def with_key_in_place(request):
    with_key(request)


@pytest.mark.parametrize("function", [with_key, with_key_later, with_key_in_place])
def test_a_function_of_the_request(function):
    async def main():
        async with Official() as agent:
            guard(agent, lambda r: r.headers.get("x-key") == SECRET, 403, (CARD, "/a2a"))
            async with await A2aClient.connect(agent.url, auth=function) as client:
                assert await send(client) == await stream(client) == "hi"

    run(main())


def test_what_is_no_client_or_auth_is_refused_with_a_call_that_works():
    async def main():
        async with Official() as agent:
            guard(agent, lambda r: "authorization" in r.headers)

            async def refused(**options):
                with pytest.raises(TypeError) as caught:
                    await A2aClient.connect(agent.url, **options)
                assert SECRET not in str(caught.value)
                return str(caught.value)

            for wrong in (httpx2.AsyncClient, httpx2.Client(), httpx.Client(), object(), "proxy"):
                advised = re.search(r"http_client=(\S+\(\))", await refused(http_client=wrong))[1]
                async with eval(advised, {"httpx": httpx, "httpx2": httpx2}) as mine:
                    await (await A2aClient.connect(agent.url, http_client=mine)).aclose()

            async with httpx2.AsyncClient() as mine:
                options = {"http_client": mine, "auth": httpx.BasicAuth("me", SECRET)}
                advised = re.search(r"auth=(\w+\.\w+)\(", await refused(**options))[1]
                options["auth"] = eval(advised, {"httpx2": httpx2})("me", SECRET)
                async with await A2aClient.connect(agent.url, **options) as client:
                    assert await send(client) == "hi"
                assert "AsyncClient(proxy=" in await refused(http_client=mine, proxy="http://a:1")

            for auth in (("me",), ("me", SECRET, "x"), ("me", 5), SECRET, {"a": SECRET}, Bearer):
                assert "Bearer" in await refused(auth=auth)
            assert "Bearer(function)" in await refused(auth=lambda: SECRET)
            async with await A2aClient.connect(agent.url, auth=lambda r: SECRET) as client:
                with pytest.raises(TypeError, match=r"Bearer\(function\)"):
                    await send(client)
            async with await A2aClient.connect(agent.url, auth=Bearer(lambda: SECRET)) as client:
                assert await send(client) == "hi"

    run(main())


# ---- proxies --------------------------------------------------------------------------------


class Proxy(Stub):
    """A forward proxy that answers for the agent behind it, and a wall for CONNECT."""

    def __init__(self, agent, user=None):
        super().__init__()
        self.agent = agent
        self.user = user
        self.hosts = []

    def fallback(self, request):
        self.hosts.append(request.headers["host"])
        if self.user and request.headers.get("proxy-authorization") != self.user:
            return Response("who are you?", 407, headers={"Proxy-Authenticate": "Basic"})
        if request.method == "CONNECT":
            return Response("not allowed", 403)
        handler = self.agent.handlers.get(request.path)
        return handler(request) if handler else None


AGENT = "http://agent.invalid/"  # RFC 6761: a name nobody can look up


def through(user=None, url=AGENT, proxy="http://127.0.0.1:{port}", **options):
    async def main():
        async with Official() as agent, Proxy(agent, user) as stub:
            agent.card["supportedInterfaces"][0]["url"] = AGENT + "a2a"
            options.setdefault("allow_insecure_http", True)
            given = proxy.format(port=stub.port)
            try:
                async with await A2aClient.connect(url, proxy=given, **options) as client:
                    return [await send(client), await stream(client)], stub
            except (TransportError, AuthRequired) as why:
                return why, stub

    return run(main())


def test_a_proxy():
    texts, stub = through()
    assert texts == ["hi", "hi"]
    assert set(stub.hosts) == {"agent.invalid"}  # the name, and not an address of it


def test_a_proxy_with_a_password():
    texts, _ = through(BASIC, proxy=f"http://me:{SECRET}@127.0.0.1:{{port}}")
    assert texts == ["hi", "hi"]
    why, _ = through(BASIC)
    assert (type(why), why.http_status, why.challenge) == (AuthRequired, 407, "Basic")
    assert "proxy='http://user:password@host:3128'" in str(why)


def test_a_proxy_that_makes_no_connection():
    why, stub = through(url="https://agent.invalid/", retry=Retry(attempts=1))
    assert (why.phase, "proxy" in str(why)) == ("connect", True)
    assert stub.requests[0].method == "CONNECT"
    why, _ = through(proxy="http://127.0.0.1:9", retry=Retry(attempts=1))
    assert (why.phase, why.retryable) == ("connect", True)


def test_a_proxy_is_no_way_around_what_is_refused():
    why, stub = through(url="http://169.254.169.254/")
    assert (why.phase, stub.requests) == ("address", [])
    why, stub = through(allow_insecure_http=False)
    assert (why.phase, stub.requests) == ("url", [])


def test_this_machine_needs_no_proxy():
    async def main():
        async with Official() as agent, Stub() as stub:
            async with await A2aClient.connect(agent.url, proxy=stub.url) as client:
                assert await send(client) == "hi"
            assert not stub.requests

    run(main())


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")

    async def main():
        async with Official() as agent, await A2aClient.connect(agent.url) as client:
            assert await send(client) == "hi"

    run(main())


@pytest.mark.parametrize(
    "proxy", ["host:3128", f"ftp://me:{SECRET}@h", f"http://me:{SECRET}@[x", "", 5, "http://"]
)
def test_what_is_no_proxy(proxy):
    with pytest.raises((TypeError, ValueError), match="http://host:3128") as caught:
        run(A2aClient.connect("https://agent.invalid/", proxy=proxy))
    assert SECRET not in str(caught.value)


class Both(Proxy):
    """A proxy and the agent behind it, in one loop."""

    async def __aenter__(self):
        await self.agent.__aenter__()
        self.agent.card["supportedInterfaces"][0]["url"] = AGENT + "a2a"
        return await super().__aenter__()

    async def __aexit__(self, *about):
        await super().__aexit__(*about)
        await self.agent.__aexit__(*about)


def test_the_command_line_takes_a_proxy(capsys):
    from ruvector.cli import main

    with InThread(Both(Official())) as stub:
        asked = ["a2a", "send", AGENT, "hi", "--insecure-http", "--proxy", stub.url]
        assert main(asked) == 0
    assert capsys.readouterr().out == "hi\n"


# ---- what the caller's code raises ------------------------------------------------------------


class Odd(BaseException):
    pass


RAISED = [ValueError, StopIteration, StopAsyncIteration, GeneratorExit, Odd, KeyError, TimeoutError]


def seen_in(error, wanted):
    """Whether `wanted` is `error` or its cause. PEP 479 makes a RuntimeError of the two that
    would end a loop without a word."""
    return type(error) is wanted or (
        issubclass(wanted, (StopIteration, StopAsyncIteration))
        and type(error) is RuntimeError
        and type(error.__cause__) is wanted
    )


def callbacks(raised):
    def fail(*about):
        raise raised("mine")

    async def fail_later(*about):
        raise raised("mine")

    class Flow(httpx2.Auth):
        def auth_flow(self, request):
            raise raised("mine")
            yield request

    hooks = [{"request": [fail_later]}, {"response": [fail_later]}]
    return {
        "token": {"auth": Bearer(fail)},
        "token, awaited": {"auth": Bearer(fail_later)},
        "function": {"auth": fail},
        "function, awaited": {"auth": fail_later},
        "auth flow": {"auth": Flow()},
        "clock": {"budget": GlobalBudget(max_tasks_per_minute=5, clock=fail)},
        "request hook": {"http_client": lambda: httpx2.AsyncClient(event_hooks=hooks[0])},
        "response hook": {"http_client": lambda: httpx2.AsyncClient(event_hooks=hooks[1])},
    }


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("name", callbacks(ValueError))
@pytest.mark.parametrize("use", [send, stream])
def test_whatever_a_callback_raises_comes_out(raised, name, use):
    options = callbacks(raised)[name]

    async def main():
        if "http_client" in options:
            options["http_client"] = options["http_client"]()
        async with Official() as agent:
            try:
                async with await A2aClient.connect(agent.url, **options) as client:
                    await asyncio.wait_for(use(client), 20)
            except BaseException as why:
                return why
            finally:
                if "http_client" in options:
                    await options["http_client"].aclose()

    why = run(main())
    if name == "response hook" or "flow" in name or "function" in name:
        # these are generators and iterations of the HTTP library, which says it its own way
        assert why is not None
        assert seen_in(why, raised) or isinstance(why, RuntimeError), repr(why)
    else:
        assert seen_in(why, raised), repr(why)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_blocking_client_does_not_wait_for_ever(raised):
    """These two end an event loop, and that of a blocking client is in a thread."""

    def fail():
        raise raised("mine")

    with InThread(Official()) as agent:
        with A2aClient.connect_sync(agent.url, auth=Bearer(fail)) as client:
            with pytest.raises(BaseException, match=r"mine|^$") as caught:
                client.send_task(TaskSpec("echo", "hi"))
            assert raised.__name__ in type(caught.value).__name__
            with pytest.raises(BaseException):  # noqa: B017, PT011
                list(client.stream_task(TaskSpec("echo", "hi")))
        with A2aClient.connect_sync(agent.url) as client:
            assert client.send_task(TaskSpec("echo", "hi"), wait=True).text == "hi"


def test_an_iteration_that_is_broken_off_leaves_nothing_open():
    async def main():
        async with Official() as agent:
            async with await A2aClient.connect(agent.url) as client:

                async def through():
                    async with client.stream_task(TaskSpec("echo", "slow")) as updates:
                        async for update in updates:
                            yield update

                generator = through()
                assert (await generator.__anext__()).kind == "task"
                await generator.aclose()  # GeneratorExit at the yield
                stream = client.stream_task(TaskSpec("echo", "slow"))
                step = stream.__anext__()
                step.send(None)
                step.close()  # GeneratorExit inside the wait
                await stream.aclose()
                assert await send(client) == "hi"
            for worker in agent.workers.values():
                worker.cancel()

    run(main())
