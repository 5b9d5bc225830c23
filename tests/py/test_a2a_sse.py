"""Server-sent events out of bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a.sse import SseDecoder, SseEvent
from ruvector.errors import ProtocolError, TransportError


def decode(*chunks, **limits):
    decoder = SseDecoder(**limits)
    events = []
    for chunk in chunks:
        decoder.feed(chunk)
        while (event := decoder.next()) is not None:
            events.append(event)
    return events


def message(data, name="message", id=None):
    return SseEvent(name, data, id)


STREAM = (
    "\ufeffdata: one\r\n\r\n: a comment\ndata:two\ndata\ndata: lines\n\n"
    'event: status\rid: 7\rdata: {"text":"a\u2028b\u0085c\U0001f600"}\r\r'
    "retry: 5\nunknown: field\ndata:  spaces \r\n\nevent: no data\n\ndata: not complete"
).encode()
EVENTS = [
    message("one"),
    message("two\n\nlines"),
    message('{"text":"a\u2028b\u0085c\U0001f600"}', "status", "7"),
    message(" spaces "),
]


def test_a_whole_stream():
    assert decode(STREAM) == EVENTS


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_every_cut_gives_the_same_events(cut):
    assert decode(STREAM[:cut], STREAM[cut:]) == EVENTS


def test_byte_by_byte():
    assert decode(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cuts_give_the_same_events(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    assert decode(*(STREAM[a:b] for a, b in zip(places, places[1:]))) == EVENTS


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)


@given(
    st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3), st.sampled_from("nrb"))),
    st.integers(1, 40),
)
def test_what_is_written_is_read(events, size):
    ends = {"n": "\n", "r": "\r", "b": "\r\n"}
    text = ""
    for name, lines, kind in events:
        end = ends[kind]
        text += f"event: {name}{end}" + "".join(f"data: {x}{end}" for x in lines) + end
    data = text.encode()
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert decode(*chunks) == [message("\n".join(x), n or "message") for n, x, _ in events]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_events_or_an_error(data, size):
    try:
        events = decode(*(data[i : i + size] for i in range(0, len(data), size)))
    except ProtocolError:
        with pytest.raises(UnicodeDecodeError):
            data.decode()
    else:
        assert all(isinstance(event, SseEvent) for event in events)


def test_one_event_at_a_time():
    decoder = SseDecoder()
    decoder.feed(b"data: 1\n\ndata: 2\n\n")
    assert decoder.next() == message("1")
    assert decoder.next() == message("2")
    assert decoder.next() is None


def test_json_over_several_lines():
    text = json.dumps({"a": [1, 2], "b": "x"}, indent=2)
    data = "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
    assert json.loads(decode(data.encode())[0].data) == {"a": [1, 2], "b": "x"}


def test_ids_may_repeat():
    assert [e.id for e in decode(b"id: 5\ndata: a\n\nid: 5\ndata: b\n\ndata: c\n\n")] == [
        *("5", "5", None)
    ]


def test_limits_hold_to_the_byte():
    limits = {"max_line": 20, "max_event": 30, "max_pending": 50}
    assert decode(b"data: " + b"x" * 14 + b"\n\n", **limits) == [message("x" * 14)]
    with pytest.raises(TransportError, match="a line of more than 20"):
        decode(b"data: " + b"x" * 15 + b"\n\n", **limits)
    lines = b"data:" + b"x" * 10 + b"\n"
    assert len(decode(lines * 2 + b"\n", **limits)) == 1
    with pytest.raises(TransportError, match="an event of more than 30"):
        decode(lines * 2 + b"data\n\n", **limits)
    with pytest.raises(TransportError, match="unread events") as caught:
        decode(b"\n" * 51, **limits)
    assert caught.value.phase == "sse limit"


def test_a_line_without_end_is_stopped():
    decoder = SseDecoder()
    with pytest.raises(TransportError, match="a line"):  # noqa: PT012
        for _ in range(100):
            decoder.feed(b"x" * 2**16)
            decoder.next()


def test_events_beyond_four_megabytes_are_stopped():
    line = b"data: " + b"x" * (2**20 - 6) + b"\n"
    assert len(decode(line, line, line, line, b"\n")) == 1
    with pytest.raises(TransportError, match="an event"):
        decode(line, line, line, line, b"data\n")


def test_comments_do_not_add_up():
    assert decode(*[b": keep alive\n\n"] * 100, b"data: x\n\n", max_event=30) == [message("x")]


def test_broken_utf8():
    with pytest.raises(ProtocolError, match="not UTF-8"):
        decode(b"data: \xff\n\n")
