"""Finding an agent's card, believing it or not, and where requests then go."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
import warnings

import pytest
from a2a_stub import Official, Response, RvAgent, Stub, run, rvagent_card, settled
from a2a_vectors import K1, K2, V1, V4, V4_JWK, V4_PROTECTED, V4_SIGNATURES, sign
from ruvector.a2a import A2aClient, Limits, Retry, TaskSpec, Timeouts, discovery, trust
from ruvector.a2a.address import split
from ruvector.errors import (
    A2aError,
    AuthRequired,
    CardSignatureInvalid,
    ProtocolError,
    TransportError,
    UnsupportedOperation,
)

FAST = {"retry": Retry(first_pause=0.01), "timeouts": Timeouts(read=30.0, connect=10.0)}


def demands(**options):
    given = {
        "agent_id": None,
        "trusted_agents": None,
        "trusted_keys": None,
        "strict_verify": True,
        "dialect": "auto",
        "endpoint": None,
        "allow_origins": (),
    }
    return trust.Demands.of(**{**given, **options})


def judge(card, url="https://peer.example.com", certified=True, **options):
    """Level and ways of a card served at `url`."""
    text = json.dumps(card) if isinstance(card, dict) else card
    data = text.encode() if isinstance(text, str) else text
    wanted = demands(**options)
    parsed, level = trust.read_card(data, wanted, split(url)[0], certified=certified)
    return parsed, level, trust.ways(parsed, wanted, url)


def unsigned_rvagent(url="https://peer.example.com"):
    return rvagent_card(url)


def official(url="https://peer.example.com/a2a", **more):
    interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    return {**V4, "supportedInterfaces": [interface], **more}


def v4(form="strict", **more):
    entry = {"protected": V4_PROTECTED, "signature": V4_SIGNATURES[form]}
    return {**V4, "signatures": [entry], **more}


# ---- the table of trust -------------------------------------------------------------


def test_a_pinned_agent():
    for options in ({"agent_id": K1[2].upper()}, {"trusted_agents": [K2[2], K1[2]]}):
        card, level, ways = judge(V1, **options)
        assert (level.level, level.agent_id) == ("pinned", K1[2])
        assert (card.agent_id, card.signature_kind) == (K1[2], "ruvector")
        assert ways[0].bound


def test_signed_by_nobody_one_knows():
    assert judge(V1)[1].level == "signed"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("card", "options", "reason"),
    [
        (V1, {"agent_id": K2[2]}, "agent_id"),
        (json.dumps(sign(json.loads(V1), K2)), {"agent_id": K1[2]}, "agent_id"),
        (V1.replace("ed25519-hex", "none"), {}, "alg"),
        (V1.replace("https://peer", "https://evil"), {}, "signature"),
        (unsigned_rvagent(), {"agent_id": K1[2]}, "unsigned"),
        (official(), {"agent_id": K1[2]}, "unsigned"),
        (official(), {"trusted_agents": [K1[2]]}, "unsigned"),
        (v4(), {"trusted_keys": {"k1": V4_JWK}, "agent_id": K1[2]}, "unsigned"),
        (v4(name="other"), {"trusted_keys": {"k1": V4_JWK}}, "signature"),
    ],
)
def test_cards_refused_in_any_case(card, options, reason, strict):
    with pytest.raises(CardSignatureInvalid) as caught:
        judge(card, strict_verify=strict, **options)
    assert caught.value.reason == reason
    assert not caught.value.remote


def test_unsigned_rvagent_cards_need_leave():
    with pytest.raises(CardSignatureInvalid) as caught:
        judge(unsigned_rvagent())
    assert caught.value.reason == "unsigned"
    with pytest.warns(UserWarning, match="not signed"):
        assert judge(unsigned_rvagent(), strict_verify=False)[1].level == "none"


@pytest.mark.parametrize("form", ["strict", "empties removed"])
def test_official_cards_signed_by_a_trusted_key(form):
    card, level, _ = judge(v4(form), trusted_keys={"k1": V4_JWK})
    assert (level.level, card.signature_kind, card.agent_id) == ("pinned", "jws", None)


def test_a_pinned_key_is_not_lost_by_taking_the_signature_away():
    for card in (official(), v4()):
        with pytest.raises(CardSignatureInvalid):
            judge(card, trusted_keys={"another": V4_JWK})


def test_official_cards_without_a_known_key():
    for card in (official(), v4()):
        assert judge(card)[1].level == "tls"
    assert "no key" in judge(v4())[1].note
    with pytest.warns(UserWarning, match="proves nothing"):
        assert judge(official(), certified=False)[1].level == "none"
    local = official("http://127.0.0.1:8080/a2a")
    assert judge(local, "http://127.0.0.1:8080")[1].level == "none"


def test_an_envelope_taken_away_lowers_the_level_or_fails():
    card = json.loads(V1)
    del card["metadata"]
    card.update(protocolVersion="0.3.0")
    assert judge(card)[1].level == "tls"
    with pytest.raises(CardSignatureInvalid):
        judge(card, agent_id=K1[2])


def test_t2_traffic_never_follows_fields_that_are_not_signed():
    card = json.loads(V1)
    evil = {
        "url": "https://peer.example.com/evil",
        "protocolBinding": "JSONRPC",
        "protocolVersion": "1.0",
    }
    evil["url"] += "/evil"
    card.update(supportedInterfaces=[evil], protocolVersion="1.0", preferredTransport="GRPC")
    parsed, _, ways = judge(card)
    assert [(way.dialect, way.url) for way in ways] == [("rvagent", "https://peer.example.com")]
    assert "evil" not in str(parsed.interfaces)
    assert parsed.raw["supportedInterfaces"] == [evil]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b'"card"', b"null", b"{}", b'{"name":5}'),
        V1.encode("utf-16"),
        V1.encode().replace(b"demo", b"\xff"),
        V1.encode().replace(b'{"name"', b'{"name":"twice","name"'),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":1,"x":2,'),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":"\\ud800",'),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":NaN,'),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":1e400,'),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":' + b"9" * 5000 + b","),
        V1.encode().replace(b'"metadata":{', b'"metadata":{"x":' + b"[" * 62 + b"]" * 62 + b","),
        b"[" * 100_000,
        json.dumps({**official(), "skills": "all"}).encode(),
        json.dumps({**official(), "skills": [{"name": "no id"}]}).encode(),
        json.dumps({**official(), "supportedInterfaces": [{}]}).encode(),
    ],
)
def test_what_is_no_card(data):
    with pytest.raises((ProtocolError, CardSignatureInvalid)):
        judge(data)


def test_a_byte_order_mark_is_no_part_of_what_is_signed():
    assert judge(b"\xef\xbb\xbf" + V1.encode())[1].agent_id == judge(V1)[1].agent_id


def test_a_member_that_stands_twice_among_many():
    """Finding it takes no longer than reading the rest."""
    many = ",".join(f'"{i:x}":1' for i in range(24_000))
    data = V1.replace('"metadata":{', f'"metadata":{{{many},"twice":1,"twice":1,').encode()
    assert len(data) < 256 * 1024
    with pytest.raises(ProtocolError, match="'twice' stands twice"):
        judge(data)


def test_depth_is_counted_to_the_level():
    nested = "[" * 62 + "]" * 62  # 64 with the card and its metadata
    card = V1.replace('"metadata":{', '"metadata":{"x":' + nested + ",")
    with pytest.raises(CardSignatureInvalid):  # it is read, and found altered
        judge(card)
    card = card.replace(nested, "[" + nested + "]")
    with pytest.raises(ProtocolError, match="64 levels"):
        judge(card)


def test_too_many_skills():
    skill = {"id": "a", "name": "a", "description": ""}
    judge(official(skills=[skill] * 256))
    with pytest.raises(A2aError, match="too large"):
        judge(official(skills=[skill] * 257))


# ---- how to talk --------------------------------------------------------------------


def interfaces(*entries):
    urls = {"url": "https://peer.example.com/x"}
    return {
        "supportedInterfaces": [
            {**urls, "protocolBinding": binding, "protocolVersion": version}
            for binding, version in entries
        ]
    }


@pytest.mark.parametrize(
    ("card", "dialects"),
    [
        (interfaces(("JSONRPC", "1.0")), ["1.0"]),
        (
            interfaces(("GRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "1.2")),
            ["1.0", "1.0-rest"],
        ),
        (interfaces(("JSONRPC", "0.3"), ("HTTP+JSON", "1.0")), ["0.3", "1.0-rest"]),
        (interfaces(("JSONRPC", "0.3"), ("JSONRPC", "1.0")), ["1.0", "0.3"]),
        ({"url": "https://peer.example.com/", "protocolVersion": "0.3.0"}, ["0.3"]),
        ({"url": "https://peer.example.com/", "protocolVersion": "0.2.6"}, ["0.2"]),
        ({"url": "https://peer.example.com/"}, ["0.2"]),
        (
            {
                "url": "https://peer.example.com/grpc",
                "preferredTransport": "GRPC",
                "protocolVersion": "0.3.0",
                "additionalInterfaces": [
                    {"url": "https://peer.example.com/j", "transport": "JSONRPC"}
                ],
            },
            ["0.3"],
        ),
        (
            {
                **interfaces(("JSONRPC", "1.0")),
                "url": "https://peer.example.com/x",
                "protocolVersion": "0.3",
            },
            ["1.0", "0.3"],
        ),
    ],
)
def test_the_choice_of_a_dialect(card, dialects):
    ways = judge({"name": "x", "defaultInputModes": [], **card})[2]
    assert [way.dialect for way in ways] == dialects


def test_nothing_in_common():
    with pytest.raises(UnsupportedOperation, match="GRPC"):
        judge({"name": "x", **interfaces(("GRPC", "1.0"))})


def test_an_extension_that_is_required():
    for uri, known in (("urn:ruvector:a2a:task:1", True), ("https://other.example.com", False)):
        card = official(capabilities={"extensions": [{"uri": uri, "required": True}]})
        if known:
            assert judge(card)[2][0].extension
            continue
        with pytest.raises(UnsupportedOperation, match="other"):
            judge(card)


def test_a_chosen_dialect_is_the_only_one():
    card = {"name": "x", **interfaces(("JSONRPC", "1.0"), ("JSONRPC", "0.3"))}
    assert [way.dialect for way in judge(card, dialect="0.3")[2]] == ["0.3"]
    with pytest.raises(ValueError, match="dialect"):
        demands(dialect="2.0")


# ---- where requests go --------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/a2a",
        "https://peer.example.com:8443/a2a",
        "http://peer.example.com/a2a",
        "https://peer.example.com.evil.org/a2a",
        "https://peer.example.com@evil.org/a2a",
        "https://peer.example.com:0/a2a",
        "file:///etc/passwd",
        "//evil.example.com/a2a",
        "http://169.254.169.254/latest",
    ],
)
def test_other_origins_are_refused(url):
    with pytest.raises(A2aError):
        judge(official(url))
    # an rvAgent card may name an address it cannot be reached at; the typed one is used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ways = judge(unsigned_rvagent(url), strict_verify=False)[2]
    assert [(way.url, way.bound) for way in ways] == [("https://peer.example.com", False)]


def test_other_origins_that_are_allowed():
    card = official("https://gateway.example.com/a2a")
    ways = judge(card, allow_origins=["https://gateway.example.com"])[2]
    assert ways[0].url == "https://gateway.example.com/a2a"
    ways = judge(card, endpoint="https://peer.example.com/rpc")[2]
    assert (ways[0].url, ways[0].bound) == ("https://peer.example.com/rpc", False)


def test_a_genuine_card_served_by_another_host():
    url = "https://mirror.example.com"
    ways = judge(V1, url)[2]
    assert (ways[0].url, ways[0].bound) == (url, False)
    with pytest.raises(A2aError, match="endpoint origin"):
        judge(V1, url, agent_id=K1[2])
    ways = judge(V1, url, agent_id=K1[2], endpoint=url + "/here")[2]
    assert ways[0].url == url + "/here"


@pytest.mark.parametrize(
    ("typed", "urls"),
    [
        ("https://a.example.com", ["/.well-known/agent-card.json", "/.well-known/agent.json"]),
        (
            "https://a.example.com/x/",
            ["/x/.well-known/agent-card.json", "/x/.well-known/agent.json"],
        ),
        ("https://a.example.com/my.json?v=1#frag", ["/my.json?v=1"]),
    ],
)
def test_where_cards_are_looked_for(typed, urls):
    assert discovery.card_urls(typed) == ["https://a.example.com" + url for url in urls]


@pytest.mark.parametrize(
    "options",
    [
        {"agent_id": "short"},
        {"trusted_agents": K1[2]},
        {"trusted_agents": []},
        {"agent_id": K1[2], "trusted_agents": [K2[2]]},
        {"allow_origins": "https://a.example.com"},
        {"trusted_keys": {"k1": b"no key"}},
    ],
)
def test_demands_that_make_no_sense(options):
    with pytest.raises((ValueError, TypeError)):
        demands(**options)


# ---- over the network ---------------------------------------------------------------


def test_fetch_signed_card():
    async def main():
        async with RvAgent() as agent:
            client = await A2aClient.connect(agent.url, agent_id=K1[2])
            async with client:
                assert client.card.agent_id == K1[2]
                assert client.trust.level == "pinned"
                assert client.trust.endpoint_bound
                assert [skill.id for skill in client.card.skills][:2] == ["echo", "count"]
                assert client.dialect == "rvagent"
            paths = [request.path for request in agent.requests]
            assert paths == ["/.well-known/agent-card.json", "/.well-known/agent.json"]

    run(main())


def test_tampered_card_rejected():
    async def main():
        async with RvAgent() as agent:
            agent.card["skills"][0]["description"] = "sends your files away"
            for strict in (True, False):
                with pytest.raises(CardSignatureInvalid) as caught:
                    await A2aClient.connect(agent.url, strict_verify=strict)
                assert caught.value.reason == "signature"

    run(main())


def card_stub(answer, path="/.well-known/agent-card.json"):
    stub = Stub()
    stub.handlers[path] = answer if callable(answer) else lambda request: answer
    return stub


def connect_fails(answer, error, match=None, policy="asyncio"):
    async def main():
        async with card_stub(answer) as stub:
            with pytest.raises(error, match=match) as caught:
                await A2aClient.connect(stub.url, **FAST)
            assert await stub_is_quiet(stub)
            return caught.value, stub

    return run(main(), policy=policy)


async def stub_is_quiet(stub):
    return await settled(lambda: not stub.writers)


def test_cards_of_just_the_right_size():
    async def main():
        card = json.dumps(official("http://127.0.0.1:1/")).encode()
        size = 256 * 1024
        padded = card + b" " * (size - len(card))
        async with card_stub(lambda request: Response(padded)) as stub:
            client = await A2aClient.connect(stub.url, endpoint=stub.url)
            await client.aclose()

    run(main())
    connect_fails(Response(b" " * (256 * 1024 + 1)), A2aError, "too large")


def test_a_large_card_does_not_hold_the_loop_up(monkeypatch):
    readers = []

    def read_card(*args, **options):
        readers.append(threading.current_thread())
        return trust.read_card(*args, **options)

    monkeypatch.setattr(discovery, "read_card", read_card)

    async def main():
        async with Stub() as stub:
            card = official(stub.url + "/a2a")
            for padding in (0, 100_000):
                padded = json.dumps(card).encode() + b" " * padding
                path = "/.well-known/agent-card.json"
                stub.handlers[path] = lambda request, padded=padded: Response(padded)
                await (await A2aClient.connect(stub.url)).aclose()

    run(main())
    assert [thread is threading.main_thread() for thread in readers] == [True, False]


def test_a_card_that_never_ends():
    async def drip():
        while True:
            yield b" " * 1000

    connect_fails(lambda request: Response(drip()), A2aError, "too large")


def test_a_card_that_drips():
    async def drip():
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    error, _ = connect_fails(lambda request: Response(drip()), TransportError, None, "fake clock")
    assert error.phase == "read"


def test_redirects_are_not_followed():
    headers = {"Location": "http://169.254.169.254/latest/meta-data?token=abc"}
    error, stub = connect_fails(Response(status=302, headers=headers), TransportError, "169.254")
    assert (error.phase, error.http_status) == ("redirect", 302)
    assert "token" not in str(error)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response("<html>", type="text/html"), ProtocolError),
        (Response(status=204), TransportError),
        (Response("no", 500, "text/plain"), TransportError),
        (Response("{}", 403), AuthRequired),
        (Response(b"x" * 100, cut=50), TransportError),
    ],
)
def test_answers_that_are_no_card(answer, error):
    connect_fails(answer, error)


def test_a_missing_card_is_looked_for_at_two_places_only():
    async def main():
        async with Stub() as stub:
            with pytest.raises(TransportError, match="no card") as caught:
                await A2aClient.connect(stub.url + "/agents/one", **FAST)
            assert caught.value.http_status == 404
            assert [r.path for r in stub.requests] == [
                "/agents/one/.well-known/agent-card.json",
                "/agents/one/.well-known/agent.json",
            ]

    run(main())


def test_trying_again_when_the_card_is_busy():
    answers = iter([Response(status=503), Response(status=502), None])

    def card(request):
        return next(answers) or official(f"http://{request.headers['host']}/a2a")

    async def main():
        async with card_stub(card) as stub:
            await (await A2aClient.connect(stub.url, **FAST)).aclose()
            assert len(stub.requests) == 3

    run(main())


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://127.0.0.1/", "file:///etc/passwd", "127.0.0.1:80", "http://", "https://:443/"),
        *("http://user:secret@127.0.0.1/", "http://127.0.0.1:0/", "http://127.0.0.1:99999/"),
        *("http://[::1/", "http://127.0.0.1\\@evil.example.com/", "http://127.0.0.1\\.evil.com/"),
        "http://127.0.0.1/a b",
        *("ftp://user:secret@127.0.0.1/", "user:secret@127.0.0.1", "//user:secret@127.0.0.1/"),
        *("http://user:secret@[bad/", "http://user:secret@127.0.0.1:99999/"),
        *("http://user:" + "x" * 100 + "secret@[bad/", "http://user:secret?x@127.0.0.1/"),
        "ftp://127.0.0.1/?key=secret",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(TransportError) as caught:
        run(A2aClient.connect(url))
    assert caught.value.phase == "url"
    shown = traceback.format_exception(caught.type, caught.value, None)
    assert "secret" not in "".join(shown)


@pytest.mark.parametrize("url", [None, 5, b"http://127.0.0.1/"])
def test_urls_of_another_type(url):
    with pytest.raises(TypeError, match="a URL is a str, not"):
        run(A2aClient.connect(url))


@pytest.mark.parametrize(
    "url",
    [
        *("https://169.254.169.254/", "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/"),
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://224.0.0.1/",
    ],
)
def test_addresses_that_are_refused(url):
    with pytest.raises(TransportError) as caught:
        run(A2aClient.connect(url, **FAST))
    assert caught.value.phase == "address"


def test_unencrypted_agents_elsewhere_are_refused():
    with pytest.raises(TransportError, match="allow_insecure_http"):
        run(A2aClient.connect("http://192.0.2.1/", **FAST))


def test_a_name_that_leads_to_a_forbidden_address(monkeypatch):
    asked = []

    async def getaddrinfo(self, host, port, **options):
        asked.append(host)
        address = "169.254.169.254" if host == "rebind.example.com" else "10.0.0.1"
        return [(2, 1, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    with pytest.raises(TransportError) as caught:
        run(A2aClient.connect("https://rebind.example.com/", **FAST))
    assert caught.value.phase == "address"
    # a name that only looks local must not be talked to without encryption
    with pytest.raises(TransportError) as caught:
        run(A2aClient.connect("http://evil.localhost/", **FAST))
    assert caught.value.phase == "address"
    assert asked == ["rebind.example.com", "evil.localhost"]


def test_nobody_is_there():
    async def main():
        async with Stub() as stub:
            url = stub.url
        with pytest.raises(TransportError) as caught:
            await A2aClient.connect(url, **FAST)
        assert (caught.value.phase, caught.value.retryable) == ("connect", True)

    run(main())


# ---- keeping the card fresh ---------------------------------------------------------


def test_refreshing_with_a_tag():
    async def main():
        async with Stub() as stub:

            def card(request):
                assert request.headers["a2a-version"] == "1.0"
                headers = {"ETag": 'W/"1"', "Cache-Control": "public, max-age=3600"}
                if request.headers.get("if-none-match") == 'W/"1"':
                    return Response(status=304, headers=headers)
                return Response(official(stub.url + "/a2a"), headers=headers)

            stub.handlers["/.well-known/agent-card.json"] = card
            async with await A2aClient.connect(stub.url) as client:
                first = client.card
                assert await client.refresh_card() is first
                assert len(stub.requests) == 1  # fresh for an hour
                assert await client.refresh_card(force=True) is first
                assert stub.requests[1].headers["if-none-match"] == 'W/"1"'

    run(main())


def test_a_tag_belongs_to_the_card_it_came_with():
    async def main():
        async with Stub() as stub:
            name, headers = "first", {"ETag": '"1"'}

            def card(request):
                if request.headers.get("if-none-match") == '"1"' and name == "first":
                    return Response(status=304)
                return Response(official(stub.url + "/a2a", name=name), headers=headers)

            stub.handlers["/.well-known/agent-card.json"] = card
            async with await A2aClient.connect(stub.url) as client:
                name, headers = "second", {}
                assert (await client.refresh_card(force=True)).name == "second"
                name = "first"  # and whoever asks by the tag of that one is told it is the same
                assert (await client.refresh_card(force=True)).name == "first"

    run(main())


def test_a_card_that_may_not_be_kept():
    async def main():
        async with Official(name="before") as agent:
            path = "/.well-known/agent-card.json"
            agent.handlers[path] = lambda request: Response(
                agent.card, headers={"Cache-Control": "no-store"}
            )
            async with await A2aClient.connect(agent.url) as client:
                agent.card["name"] = "after"
                assert (await client.refresh_card()).name == "after"

    run(main())


def test_a_card_that_becomes_another_agents():
    async def main():
        async with RvAgent() as agent, await A2aClient.connect(agent.url) as client:
            agent.card = sign(agent.card, K2)
            with pytest.raises(A2aError, match="now that of"):
                await client.refresh_card(force=True)
            assert client.card.agent_id == K1[2]
            agent.card = json.loads(json.dumps(agent.card).replace("stub", "stab"))
            with pytest.raises(CardSignatureInvalid):
                await client.refresh_card(force=True)
            task = await client.send_task(TaskSpec("echo", "still works"))
            assert task.text == "still works"

    run(main())


def test_a_card_that_goes_from_one_trusted_agent_to_another():
    async def main():
        async with RvAgent() as agent:
            client = await A2aClient.connect(agent.url, trusted_agents=[K1[2], K2[2]])
            agent.card = sign(agent.card, K2)
            assert (await client.refresh_card(force=True)).agent_id == K2[2]
            await client.aclose()

    run(main())


# ---- falling back -------------------------------------------------------------------


def test_a_peer_that_does_not_speak_what_its_card_says():
    async def main():
        async with Official("0.3") as agent:
            url = agent.url + "/a2a"
            agent.card.update(
                supportedInterfaces=[
                    {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                    {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
                ]
            )
            async with await A2aClient.connect(agent.url) as client:
                assert client.dialect == "1.0"
                task = await client.send_task(TaskSpec("echo", "hello"), wait=True)
                assert (client.dialect, task.text) == ("0.3", "hello")
                await client.send_task(TaskSpec("echo", "hello"), wait=True)
            assert agent.methods() == ["SendMessage", "message/send", "message/send"]
            async with await A2aClient.connect(agent.url, dialect="1.0") as client:
                with pytest.raises(UnsupportedOperation):
                    await client.send_task(TaskSpec("echo", "hello"))
            async with await A2aClient.connect(agent.url) as client:
                updates = [u async for u in client.stream_task(TaskSpec("echo", "hello"))]
                assert (client.dialect, updates[-1].status.state) == ("0.3", "completed")

    run(main())


def test_only_the_first_answer_can_change_the_dialect():
    async def main():
        async with Official("1.0") as agent:
            interface = dict(agent.card["supportedInterfaces"][0], protocolVersion="0.3")
            agent.card["supportedInterfaces"].append(interface)
            async with await A2aClient.connect(agent.url) as client:
                await client.send_task(TaskSpec("echo", "hello"))
                agent.handlers["/a2a"] = lambda request: {
                    "jsonrpc": "2.0",
                    "id": request.json["id"],
                    "error": {"code": -32601, "message": "Method not found"},
                }
                with pytest.raises(UnsupportedOperation):
                    await client.send_task(TaskSpec("echo", "hello"))
                assert client.dialect == "1.0"

    run(main())


def test_a_limit_of_ones_own():
    async def main():
        async with RvAgent() as agent:
            with pytest.raises(A2aError, match="too large"):
                await A2aClient.connect(agent.url, limits=Limits(card_bytes=100))

    run(main())
