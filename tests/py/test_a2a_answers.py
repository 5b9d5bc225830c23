"""Answers that are not quite as they should be: read where that is safe, and else told."""

from __future__ import annotations

import functools
import gzip
import json
import pickle
import zlib

import pytest
from a2a_stub import Official, Response, RvAgent, rpc_error, rpc_result, run, sse
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a import A2aClient, Bearer, Retry, TaskSpec
from ruvector.a2a.excerpt import LENGTH, Masker, words
from ruvector.a2a.inflate import Inflater
from ruvector.errors import A2aError, ProtocolError, TransportError

CARD = "/.well-known/agent-card.json"
TASK = {"id": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}
TOKEN = "Zk93xq-secret-0f"


def talk(answer, use=None, stub=None, card=None, **options):
    """What `use(client)` gives, or raises, with an agent whose every answer is `answer`."""

    async def main():
        async with stub or Official() as agent:
            agent.handlers["/a2a"] = agent.handlers["/"] = answer
            if card is not None:
                agent.handlers[CARD] = lambda request: card(agent)
            try:
                async with await A2aClient.connect(agent.url, **options) as client:
                    return await (use or get)(client)
            except A2aError as why:
                return why

    return run(main())


def get(client):
    return client.get_task("t-1")


def send(client):
    return client.send_task(TaskSpec("echo", "x"))


async def stream(client):
    async with client.stream_task(TaskSpec("echo", "x")) as updates:
        return [update.kind async for update in updates]


# ---- read all the same ------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: {"jsonrpc": "2.0", "id": str(r.json["id"]), "result": TASK},
        lambda r: {"jsonrpc": "2.0", "id": float(r.json["id"]), "result": TASK},
        lambda r: {"jsonrpc": "2.0", "id": None, "result": TASK},
        lambda r: {"jsonrpc": "2.0", "result": TASK},
        lambda r: Response(b"\xef\xbb\xbf" + json.dumps(rpc_result(r, TASK)).encode()),
        lambda r: Response(json.dumps(rpc_result(r, TASK)), type="text/plain"),
        lambda r: Response(json.dumps(rpc_result(r, TASK)), type="application/octet-stream"),
        lambda r: Response(json.dumps(rpc_result(r, TASK)), type=""),
    ],
)
def test_answers_that_can_be_read(answer):
    assert talk(answer).id == "t-1"


def test_a_card_with_a_byte_order_mark():
    def card(agent):
        return Response(b"\xef\xbb\xbf" + json.dumps(agent.card).encode())

    assert talk(lambda r: rpc_result(r, TASK), card=card).id == "t-1"


def squeezed(body, coding):
    if coding == "deflate":
        return zlib.compress(body)
    if coding == "raw deflate":
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(body) + packer.flush()
    return gzip.compress(body[:9]) + gzip.compress(body[9:]) + b"\0" * 8  # two members, padded


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate", "GZIP, identity"])
def test_compressed_answers_are_read(coding):
    headers = {"Content-Encoding": coding.replace("raw ", "")}

    def answer(request):
        assert request.headers["accept-encoding"] == "identity"
        body = json.dumps(rpc_result(request, TASK)).encode()
        return Response(squeezed(body, coding), headers=headers)

    def card(agent):
        return Response(squeezed(json.dumps(agent.card).encode(), coding), headers=headers)

    assert talk(answer, card=card).id == "t-1"


def test_a_compressed_stream_is_read_as_it_comes():
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)

    async def frames(request):
        for update in ({"task": {**TASK, "status": {"state": "TASK_STATE_WORKING"}}}, DONE):
            event = sse(rpc_result(request, update))
            yield packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)

    headers = {"Content-Encoding": "gzip"}
    answer = lambda r: Response(frames(r), type="text/event-stream", headers=headers)  # noqa: E731
    assert talk(answer, stream) == ["task", "status"]


DONE = {"statusUpdate": {"taskId": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}}


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/octet-stream"])
def test_a_stream_by_another_name(kind):
    def answer(request):
        events = [{"task": {**TASK, "status": {"state": "TASK_STATE_WORKING"}}}, DONE]
        return Response(b"".join(sse(rpc_result(request, e)) for e in events), type=kind)

    assert talk(answer, stream) == ["task", "status"]


def test_the_end_mark_of_another_protocol_is_the_end():
    def answer(request):
        if request.json["method"] == "SendStreamingMessage":
            first = {"task": {**TASK, "status": {"state": "TASK_STATE_WORKING"}}}
            body = sse(rpc_result(request, first)) + b"data: [DONE]\n\n"
            return Response(body, type="text/event-stream")
        if request.json["method"] == "GetTask":
            return rpc_result(request, TASK)
        return rpc_error(request, -32004, "it has ended")

    retry = Retry(stream_first_pause=0.01)
    assert talk(answer, stream, retry=retry) == ["task", "status"]


# ---- bombs ------------------------------------------------------------------------------


@functools.cache
def bomb(megabytes):
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = b" " * 2**20
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


@pytest.mark.parametrize("use", [get, stream])
def test_a_bomb_is_an_error(use):
    body = bomb(40)
    assert len(body) < 100_000
    answer = lambda r: Response(body, headers={"Content-Encoding": "gzip"})  # noqa: E731
    why = talk(answer, use)
    assert isinstance(why, ProtocolError)
    assert "Limits(response_bytes=...)" in str(why)


def test_a_bomb_in_a_stream_and_in_a_card():
    headers = {"Content-Encoding": "gzip"}
    events = lambda r: Response(bomb(20), type="text/event-stream", headers=headers)  # noqa: E731
    why = talk(events, stream)
    assert (type(why), why.phase) == (TransportError, "sse limit")
    why = talk(get, card=lambda agent: Response(bomb(10), headers=headers))
    assert "Limits(card_bytes=...)" in str(why)


def test_no_more_than_a_piece_is_made_at_a_time():
    pieces = Inflater("gzip", "it").pieces(bomb(20))
    assert max(len(next(pieces)) for _ in range(100)) <= 64 * 1024


def test_a_million_empty_members_are_not_unpacked():
    """Each costs a copy of all that follows: the number is bounded, not the time."""
    inflater = Inflater("gzip", "it")
    with pytest.raises(ProtocolError, match="members"):
        list(inflater.pieces(gzip.compress(b"") * 1_000_000))


@pytest.mark.parametrize(
    "body",
    [b"plain", gzip.compress(b"x" * 99)[:-5], gzip.compress(b"{}") + b"more", b"\x1f"],
    ids=["plain", "cut", "followed", "short"],  # what gzip writes holds the time
)
def test_what_is_not_compressed_as_it_says(body):
    why = talk(lambda r: Response(body, headers={"Content-Encoding": "gzip"}))
    assert isinstance(why, ProtocolError)
    assert "Content-Encoding" in str(why)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_other_codings_are_named(coding):
    why = talk(lambda r: Response(b"x", headers={"Content-Encoding": coding}))
    assert (why.phase, coding in str(why), "gzip" in str(why)) == ("encoding", True, True)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]), st.integers(1, 50))
def test_any_bytes_are_data_or_an_error(data, coding, size):
    inflater = Inflater(coding, "it")
    try:
        for start in range(0, len(data), size):
            list(inflater.pieces(data[start : start + size]))
        inflater.end()
    except ProtocolError:
        pass


# ---- the task is not lost ----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: {"jsonrpc": "2.0", "id": 99, "result": {"task": TASK}},
        lambda r: {"jsonrpc": "2.0", "id": True, "result": {"task": TASK}},
        lambda r: rpc_result(r, {"task": {**TASK, "artifacts": "none"}}),
        lambda r: Response(
            {"jsonrpc": "2.0", "id": 99, "result": {"task": TASK}}, 200, "text/html"
        ),
    ],
)
def test_an_answer_that_is_refused_names_the_task(answer):
    why = talk(answer, send)
    assert isinstance(why, ProtocolError)
    assert why.task_id == "t-1"
    assert "'t-1'" in str(why)


def test_errors_say_which_task_they_are_about():
    assert talk(lambda r: rpc_error(r, -32001, "no")).task_id == "t-1"
    spec = TaskSpec("echo", "x", id="mine")
    why = talk(lambda r: Response("", 500), lambda c: c.send_task(spec), RvAgent())
    assert why.task_id == "mine"
    broken = lambda r: Response(  # noqa: E731
        sse(rpc_result(r, {"task": {**TASK, "status": {"state": "TASK_STATE_WORKING"}}}))
        + b"data: x\n\n",
        type="text/event-stream",
    )
    assert talk(broken, stream).task_id == "t-1"


def test_what_may_have_been_started_is_said():
    why = talk(lambda r: Response(b"x" * 50, cut=10), send)
    assert "may have been started" in str(why)
    why = talk(lambda r: Response(b"x" * 50, cut=10), get, retry=Retry(attempts=1))
    assert "started" not in str(why)


# ---- what the agent says -----------------------------------------------------------------

HTML = "<html><head><style>b{}</style></head><body><h1>502 Bad&nbsp;Gateway</h1><p>nginx</p></body>"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ('{"detail": "CUDA out of memory"}', "application/json", "CUDA out of memory"),
        ('{"title": "Busy", "status": 500}', "application/problem+json", '"title": "Busy"'),
        ("KeyError: 'x'", "text/plain", "KeyError: 'x'"),
        (HTML, "text/html", "nginx"),
        ("a\x1b[31mred\x07\u202e\r\nb\u2028", "text/plain", "a\\x1b[31mred\\x07\\u202e\\r\\nb"),
        (b"\xff\xfe se\xc3\xb1or", "text/plain", "se\u00f1or"),
        ("", "text/plain", None),
    ],
)
@pytest.mark.parametrize("use", [get, send, stream])
def test_bodies_of_errors_are_shown(body, kind, expected, use):
    why = talk(lambda r: Response(body, 500, kind), use)
    assert (type(why), why.http_status) == (TransportError, 500)
    if expected is None:
        assert why.body is None
        return
    for text in (why.body, str(why)):
        assert expected in text
        assert text.isprintable()
        assert "<" not in text
    assert pickle.loads(pickle.dumps(why)).body == why.body


def test_only_the_beginning_is_shown():
    why = talk(lambda r: Response("x" * 100_000, 500, "text/plain"))
    assert why.body == "x" * LENGTH + "…"
    why = talk(lambda r: rpc_error(r, -32000, "y" * 100_000, {"why": "z" * 100_000}))
    assert len(str(why)) < 2500
    assert len(why.body) <= LENGTH + 1


def test_an_error_of_the_protocol_shows_its_data():
    why = talk(lambda r: rpc_error(r, -32602, "Invalid\x1b[2J params", {"loc": ["body", "x"]}))
    assert '"loc": ["body", "x"]' in str(why)
    assert "\\x1b[2J" in str(why)
    assert why.data == {"loc": ["body", "x"]}
    # and one that comes with a status keeps its words
    answer = lambda r: Response(rpc_error(r, -32602, "no field x"), 400)  # noqa: E731
    why = talk(answer)
    assert (why.code, "no field x" in str(why)) == (-32602, True)


@pytest.mark.parametrize("stub", [Official, RvAgent])
def test_an_error_event_is_told(stub):
    def answer(request):
        body = b"event: error\ndata: upstream died\n\n"
        return Response(body, type="text/event-stream")

    async def main():
        async with stub() as agent:
            agent.handlers["/a2a"] = agent.handlers["/tasks/sendSubscribe"] = answer
            async with await A2aClient.connect(agent.url) as client:
                with pytest.raises(A2aError, match="upstream died") as caught:
                    await stream(client)
                assert caught.value.body == "upstream died"

    run(main())


def test_secrets_are_masked():
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU"
    body = json.dumps(
        {"you sent": f"Bearer {TOKEN}", "own": TOKEN, "jwt": jwt, "header": "X-own-1"}
    )

    def refuse(status):
        return lambda r: Response(body, status, headers={"WWW-Authenticate": f'x="{TOKEN}"'})

    options = {"auth": Bearer(TOKEN), "headers": {"X-Own": "X-own-1"}}
    for status in (401, 403, 500):
        for use in (get, send, stream):
            why = talk(refuse(status), use, **options)
            shown = repr(why) + str(why) + repr(why.__dict__)
            assert TOKEN not in shown
            assert jwt not in shown
            assert "X-own-1" not in shown
            assert "you sent" in why.body
    why = talk(lambda r: rpc_error(r, -32000, f"bad {TOKEN}", {"h": [TOKEN]}), **options)
    assert TOKEN not in repr(why) + repr(why.__dict__)
    event = lambda r: Response(  # noqa: E731
        f"event: error\ndata: {TOKEN}\n\n", type="text/event-stream"
    )
    assert TOKEN not in repr(talk(event, stream, **options).__dict__)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        ('{"api_key": "abcd-efgh"}', "abcd-efgh"),
        ("https://me:hunter22@example.com/", "hunter22"),
        ("invalid key sk-proj-abcdefghijklmnop", "abcdefghijklmnop"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F"),
        ("key aGVsbG8gd29ybGQgdGhpcyBpcyBhIHNlY3JldA12 refused", "aGVsbG8g"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, hidden):
    assert hidden in text
    assert hidden not in words(text)


@pytest.mark.parametrize(
    "text",
    [
        "task 3f2b8c1e-9d4a-4b7e-8a61-0c5d2e7f9b13 is not known",
        "digest e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "max_tokens must be below 4096",
        "/agents/summarize/.well-known/agent-card.json",
    ],
)
def test_ids_and_words_stay(text):
    assert words(text) == text


@given(st.text(min_size=6, max_size=40), st.text(max_size=600), st.text(max_size=600))
def test_no_cut_leaves_a_secret(secret, before, after):
    masker = Masker()
    masker.add([secret])
    if secret.isprintable() and secret.strip() == secret and secret not in before + after:
        shown = words(before + secret + after, masker)
        assert secret not in shown
        assert shown.isprintable()
